//go:build linux

package table

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

func init() {
	// churn does a bit of everything until it is killed.
	roles["churn"] = func(o Options) error {
		t, err := Open(context.Background(), o)
		if err != nil {
			return err
		}
		m, err := t.Mutex(100)
		if err != nil {
			return err
		}
		for n := 0; ; n++ {
			if n == 3 {
				say("busy")
			}
			if _, err := m.Lock(context.Background()); err != nil {
				return err
			}
			if err := m.Unlock(true); err != nil {
				return err
			}
			s, err := t.PublishSegment(Spec{Kind: KindApplication, Name: "churn", Size: 4096},
				func(b []byte) error { b[0] = 1; return nil })
			if errors.Is(err, ErrNoEntry) {
				continue
			}
			if err != nil {
				return err
			}
			for _, e := range t.Entries() {
				if other, err := t.OpenSegment(e); err == nil {
					_ = other.Close()
				}
			}
			if err := t.Retire(s.Entry()); err != nil {
				return err
			}
			if err := s.Close(); err != nil {
				return err
			}
		}
	}
}

func TestTable_KilledAnywhere_NothingLeftBehind(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	table := openTable(t, options(dir))
	for range 12 {
		var children []*child
		for range 3 {
			children = append(children, start(t, "churn", dir))
		}
		for _, c := range children {
			c.hear()
		}
		time.Sleep(time.Duration(random.IntN(5_000)) * time.Microsecond) // where they die, not whether
		for _, c := range children {
			c.kill()
		}
		if n, err := table.Reap(); n != 3 || err != nil {
			t.Fatalf("reaped %d of 3, %v", n, err)
		}
		for _, e := range table.Entries() {
			if e.State == StateCreating || e.State == StateActive || e.State == StateRetired {
				t.Fatalf("left as %+v", e)
			}
			must(t, table.Retire(e)) // killed before it retired its own
		}
		if n := files(t, table); n != 0 || len(table.Entries()) != 0 || len(table.Regions()) != 1 {
			t.Fatalf("%d files, entries %v, %d regions left", n, table.Entries(), len(table.Regions()))
		}
		m, err := table.Mutex(100)
		must(t, err)
		_, err = m.Lock(limited(t))
		must(t, err)
		must(t, m.Unlock(true))
	}
}

func TestDead_OwnRegionOverwritten_StillNotDead(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	table.region.State.Store(packed(table.generation+5, layout.RegionClaimed))
	if table.Dead(table.Token()) {
		t.Fatal("garbage in its region makes a process rob itself")
	}
}

func TestOpen_InitByteHeld_WaitsForIt(t *testing.T) {
	o := options(t.TempDir())
	table := openTable(t, o)
	path := filepath.Join(table.Dir(), controlFile)
	must(t, table.Close())
	must(t, os.Truncate(path, 0)) // as its maker has it at first
	maker, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	if ok, err := tryLock(maker, layout.InitByte); !ok || err != nil {
		t.Fatal(ok, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = Open(ctx, o)
	mustFail(t, err, ErrBusy)
	if st, err := maker.Stat(); err != nil || st.Size() != 0 {
		t.Fatalf("somebody else made it meanwhile: %d bytes, %v", st.Size(), err)
	}
	must(t, maker.Close()) // the maker dies
	openTable(t, o)
}

func TestOpen_ReplacedMeanwhile_SuccessorUntouched(t *testing.T) {
	o := options(t.TempDir())
	must(t, openTable(t, o).Close())
	d, err := findDomain(o.Dir, o.Name, false, true)
	must(t, err)
	defer d.close()
	must(t, Destroy(limited(t), o.Dir, o.Name))
	successor := openTable(t, o)
	g, err := Plan(o)
	must(t, err)
	mustFail(t, d.prepare(limited(t), g, o), errMoved)
	if names, err := List(o.Dir); err != nil || len(names) != 1 || successor.Destroyed() {
		t.Fatalf("the successor is gone: %v, %v", names, err)
	}
}

func TestOpen_DestroyedAfterPrepare_LooksAgain(t *testing.T) {
	o := options(t.TempDir())
	table := openTable(t, o)
	d, err := findDomain(o.Dir, o.Name, false, true)
	must(t, err)
	defer d.close()
	g, err := Plan(o)
	must(t, err)
	must(t, d.prepare(limited(t), g, o))
	table.ready.Store(layout.ControlDestroyed)
	_, _, err = d.attach()
	mustFail(t, err, errMoved)
}

func TestEntries_WhileReused_NeverTorn(t *testing.T) {
	o := options(t.TempDir())
	o.Entries = 1
	writer, reader := openTable(t, o), openTable(t, o)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range uint64(300) {
			s, err := writer.PublishSegment(Spec{Kind: KindApplication, Params: [4]uint64{n, n, n, n}, Size: 8 * (n + 1)},
				func([]byte) error { return nil })
			if err == nil {
				err = errors.Join(s.Close(), writer.Retire(s.Entry()))
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		for _, e := range reader.Entries() {
			p := e.Params
			if e.State != StateCreating && (p != [4]uint64{p[0], p[0], p[0], p[0]} || e.Size != 8*(p[0]+1)) {
				t.Fatalf("torn: %+v", e)
			}
		}
	}
}

func TestOpen_WhileDestroyed_NeverAMixture(t *testing.T) {
	o := options(t.TempDir())
	ctx := limited(t)
	stop := make(chan struct{})
	destroyer := make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				destroyer <- nil
				return
			default:
				if err := Destroy(ctx, o.Dir, o.Name); err != nil && !errors.Is(err, ErrNotFound) {
					destroyer <- err
					return
				}
			}
		}
	}()
	for range 60 {
		table, err := Open(ctx, o)
		must(t, err)
		d, err := findDomain(o.Dir, o.Name, false, false)
		if err == nil && !table.Destroyed() {
			here, err := fileSize(d.control)
			if err != nil || here != 0 && here != table.Geometry().FileSize {
				t.Errorf("a control file of %d bytes, %v", here, err)
			}
		}
		d.close()
		must(t, table.Close())
	}
	close(stop)
	must(t, <-destroyer)
}

func TestExclusive_SameHandle_ErrBusy(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	must(t, table.Exclusive(limited(t), func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		err := table.Exclusive(ctx, func() error { return nil }) // as another goroutine would
		mustFail(t, err, ErrBusy, context.DeadlineExceeded)
		return nil
	}))
	must(t, table.Exclusive(limited(t), func() error { return nil }))
}

func TestAttach_RetiredButFileStillThere_ErrRetired(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	segment := publish(t, table, spec("x"))
	e := segment.Entry()
	table.entryAt(e.Index).State.Store(packed(e.Generation, layout.EntryRetired))
	_, err := table.OpenSegment(e)
	mustFail(t, err, ErrRetired)
	table.entryAt(e.Index).State.Store(packed(e.Generation+1, layout.EntryOpen))
	_, err = table.OpenSegment(e)
	mustFail(t, err, ErrRetired)
	if r := table.Regions()[0]; len(r.Mapped) != 1 {
		t.Fatalf("lists %x, want the one of the publisher", r.Mapped)
	}
}

func TestClose_SegmentsStillMapped_Unlisted(t *testing.T) {
	o := options(t.TempDir())
	a, b := openTable(t, o), openTable(t, o)
	segment := publish(t, a, spec("x"))
	theirs, err := b.OpenSegment(segment.Entry())
	must(t, err)
	must(t, segment.Close())
	must(t, a.Retire(segment.Entry()))
	if s := state(a, segment.Entry().Index); s != StateRetired {
		t.Fatalf("entry is %v while mapped, want RETIRED", s)
	}
	must(t, b.Close())
	if s := state(a, segment.Entry().Index); s != StateFree {
		t.Fatalf("entry is %v after the last has left, want FREE", s)
	}
	if theirs.Bytes()[0] != 42 {
		t.Fatal("Close of the handle took the segment's memory")
	}
	must(t, theirs.Close())
}
