//go:build linux

package table

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

func init() {
	// retired publishes a slab of ones and dies between RETIRED and the rest.
	roles["retired"] = func(o Options) error {
		t, err := Open(context.Background(), o)
		if err != nil {
			return err
		}
		e, seg, err := publishSlab(t)
		if err != nil {
			return err
		}
		t.Detach(e.SegmentID)
		if e, err = t.Drain(e); err != nil {
			return errors.Join(err, seg.Close())
		}
		retired := e
		retired.State = StateRetired
		say("%d", e.Index)
		linger() // others map it meanwhile
		if err := t.endDrain(e, retired); err != nil {
			return err
		}
		return unix.Kill(os.Getpid(), unix.SIGKILL)
	}
}

// publishSlab makes a segment that the table takes for a slab, full of ones, and
// leaves it mapped.
func publishSlab(t *Table) (Entry, *shm.Segment, error) {
	r, err := t.Reserve(Spec{Kind: KindSlab, Name: "slab", Size: 3*4096 + 64})
	if err != nil {
		return Entry{}, nil, err
	}
	seg, err := r.Create()
	if err != nil {
		return Entry{}, nil, errors.Join(err, r.Abort())
	}
	b := seg.Bytes()
	for i := range b {
		b[i] = 1
	}
	e, err := r.Publish()
	return e, seg, err
}

// slab is publishSlab for a test, which closes the memory at its end.
func slab(t *testing.T, table *Table) (Entry, *shm.Segment) {
	t.Helper()
	e, seg, err := publishSlab(table)
	must(t, err)
	t.Cleanup(func() { _ = seg.Close() })
	return e, seg
}

// inMemory returns a directory for domains in memory, where pages can be given back.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(DefaultDir, "flagstone-test-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// keptOpen returns what tells a segment file's blocks, also after its unlink.
func keptOpen(t *testing.T, table *Table, e Entry) (blocks func() int64) {
	t.Helper()
	f, err := os.Open(filepath.Join(table.Dir(), segmentFile(e.Kind, e.SegmentID)))
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return func() int64 {
		var st unix.Stat_t
		must(t, unix.Fstat(int(f.Fd()), &st))
		return st.Blocks
	}
}

func TestDrain_CountsUp_ReopenKeepsTheCount(t *testing.T) {
	o := options(t.TempDir())
	a, b := openTable(t, o), openTable(t, o)
	e := publish(t, a, spec("x")).Entry()
	for n := uint16(1); n <= 3; n++ {
		before := b.Changes()
		first := drained(t, a, e)
		if first.State != StateDraining || first.Drains != n || b.Changes() == before {
			t.Fatalf("drain %d is %+v, changes moved by %d", n, first, b.Changes()-before)
		}
		before = b.Changes()
		if again := drained(t, b, e); again != first || b.Changes() != before {
			t.Fatalf("drained again: %+v, was %+v", again, first)
		}
		if found, ok := b.Find(e.Kind, e.Name); !ok || found != first {
			t.Fatalf("found %+v, want %+v", found, first)
		}
		if b.StateWord(e).Load() != first.word() || first.Open(b.StateWord(e).Load()) {
			t.Fatalf("word %x", b.StateWord(e).Load())
		}
		open, err := b.Reopen(first)
		must(t, err)
		if found, ok := a.Find(e.Kind, e.Name); !ok || found != open || open.State != StateOpen || open.Drains != n {
			t.Fatalf("reopened %+v, found %+v", open, found)
		}
		if !e.Open(a.StateWord(e).Load()) || a.Changes() == before {
			t.Fatalf("word %x", a.StateWord(e).Load())
		}
	}
}

func TestDrain_CountAtItsEnd_WrapsAround(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	e := publish(t, table, spec("x")).Entry()
	e.Drains = 1<<16 - 1
	table.entryAt(e.Index).State.Store(e.word())
	now := drained(t, table, e)
	if now.Drains != 0 || now.Generation != e.Generation || table.StateWord(e).Load() != now.word() {
		t.Fatalf("%+v, word %x", now, table.StateWord(e).Load())
	}
}

// What drains was announced while ACTIVE, so a reopened slab may take records: no
// view is older than it.
func TestDrain_CreatorDiedAtActive_OpenedFirst(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	c := start(t, "active", dir)
	index := c.number()
	c.kill()
	e, ok := table.Find(KindApplication, "active")
	if !ok || e.State != StateActive || e.Index != index {
		t.Fatalf("%+v", e)
	}
	before := table.Changes()
	if now := drained(t, table, e); now.State != StateDraining || table.Changes() < before+2 {
		t.Fatalf("%+v, changes moved by %d", now, table.Changes()-before)
	}
}

func TestReopen_AfterAnotherDrain_IsErrState(t *testing.T) {
	o := options(t.TempDir())
	a, b := openTable(t, o), openTable(t, o)
	e := publish(t, a, spec("x")).Entry()
	first := drained(t, a, e)
	_, err := b.Reopen(first)
	must(t, err)
	_, err = a.Reopen(first)
	mustFail(t, err, ErrState) // open
	second := drained(t, b, e)
	_, err = a.Reopen(first)
	mustFail(t, err, ErrState) // another's
	if a.StateWord(e).Load() != second.word() {
		t.Fatalf("word %x", a.StateWord(e).Load())
	}
	must(t, b.Retire(second))
	_, err = a.Reopen(second)
	mustFail(t, err, ErrRetired)
	_, err = a.Reopen(Entry{Index: 1 << 20})
	mustFail(t, err, ErrOptions)
}

// ABA: who found the slab empty in its own drain must not retire it in another's,
// in between which it took records.
func TestRetire_AfterReopenAndDrain_IsErrState(t *testing.T) {
	o := options(t.TempDir())
	a, b := openTable(t, o), openTable(t, o)
	e, _ := slab(t, a)
	first := drained(t, a, e)
	_, err := b.Reopen(first)
	must(t, err)
	mustFail(t, a.Retire(first), ErrState) // open
	second := drained(t, b, e)
	mustFail(t, a.Retire(first), ErrState) // another's
	if files(t, a) != 1 || a.StateWord(e).Load() != second.word() {
		t.Fatalf("%d files, word %x", files(t, a), a.StateWord(e).Load())
	}
	must(t, b.Retire(second))
	mustFail(t, a.Retire(second), ErrRetired)
	mustFail(t, a.Retire(first), ErrRetired)
	_, err = a.Drain(e)
	mustFail(t, err, ErrRetired)
}

func TestRetire_GivesPagesBack_ThoughMapped(t *testing.T) {
	o := options(inMemory(t))
	a, b := openTable(t, o), openTable(t, o)
	e, mine := slab(t, a)
	theirs, err := b.Attach(e)
	must(t, err)
	defer theirs.Close()
	blocks := keptOpen(t, a, e)
	if blocks() == 0 {
		t.Fatal("no pages to give back")
	}
	must(t, a.Retire(drained(t, a, e)))
	if n := blocks(); n != 0 {
		t.Fatalf("%d blocks are left", n)
	}
	if mine.Bytes()[0] != 0 || theirs.Bytes()[e.Size-1] != 0 {
		t.Fatal("the old bytes are read")
	}
	if s := state(a, e.Index); s != StateRetired || files(t, a) != 0 {
		t.Fatalf("%v while mapped, %d files", s, files(t, a))
	}
	a.Detach(e.SegmentID)
	b.Detach(e.SegmentID)
	if s := state(a, e.Index); s != StateFree {
		t.Fatalf("%v after the last has left", s)
	}
}

func TestRetire_ApplicationSegment_BytesStay(t *testing.T) {
	table := openTable(t, options(inMemory(t)))
	segment := publish(t, table, spec("x"))
	blocks := keptOpen(t, table, segment.Entry())
	before := blocks()
	must(t, table.Retire(segment.Entry()))
	if segment.Bytes()[0] != 42 || blocks() != before {
		t.Fatalf("byte %d, %d blocks of %d", segment.Bytes()[0], blocks(), before)
	}
}

func TestReap_RetirerKilledAtRetired_BuriedThoughMapped(t *testing.T) {
	dir := inMemory(t)
	table := openTable(t, options(dir))
	c := start(t, "retired", dir)
	index := c.number()
	e, ok := table.Find(KindSlab, "slab")
	if !ok || e.Index != index {
		t.Fatalf("%+v", e)
	}
	seg, err := table.Attach(e)
	must(t, err)
	defer seg.Close()
	blocks := keptOpen(t, table, e)
	c.stdin.Close()
	_ = c.cmd.Wait()
	if s := state(table, index); s != StateRetired || files(t, table) != 1 || blocks() == 0 {
		t.Fatalf("left as %v, %d files, %d blocks", s, files(t, table), blocks())
	}
	// Nobody was told: without a move of changes no view would leave it out, and
	// nobody would unmap it.
	before := table.Changes()
	n, err := table.Reap()
	must(t, err)
	if n != 1 || files(t, table) != 0 || blocks() != 0 || table.Changes() < before+2 {
		t.Fatalf("reaped %d: %d files, %d blocks, changes moved by %d", n, files(t, table), blocks(), table.Changes()-before)
	}
	if s := state(table, index); s != StateRetired {
		t.Fatalf("%v while mapped", s)
	}
	table.Detach(e.SegmentID)
	if s := state(table, index); s != StateFree {
		t.Fatalf("%v after the last has left", s)
	}
}

// The deaths between the steps of bury.
func TestReap_RetirerDiedInBetween_Finished(t *testing.T) {
	for name, steps := range map[string]func(t *Table, name string) error{
		"AtRetired":   func(*Table, string) error { return nil },
		"AtAnnounced": func(t *Table, _ string) error { t.announce(); return nil },
		"AtGivenBack": func(t *Table, name string) error { t.announce(); return t.giveBack(name) },
		"AtUnlinked": func(t *Table, name string) error {
			t.announce()
			return errors.Join(t.giveBack(name), removeEntry(t.dir, name))
		},
	} {
		t.Run(name, func(t *testing.T) {
			table := openTable(t, options(inMemory(t)))
			e, _ := slab(t, table)
			table.Detach(e.SegmentID)
			blocks := keptOpen(t, table, e)
			e = drained(t, table, e)
			retired := e
			retired.State = StateRetired
			must(t, table.endDrain(e, retired))
			must(t, steps(table, segmentFile(e.Kind, e.SegmentID)))
			_, err := table.Reap()
			must(t, err)
			if s := state(table, e.Index); s != StateFree || files(t, table) != 0 || blocks() != 0 {
				t.Fatalf("%v, %d files, %d blocks", s, files(t, table), blocks())
			}
			if g := generationOf(table.StateWord(e).Load()); g != e.Generation+1 {
				t.Fatalf("generation %d after %d", g, e.Generation)
			}
		})
	}
}

func TestReap_RetirerDiedFileUnsafe_StillUnlinked(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	e, _ := slab(t, table)
	table.Detach(e.SegmentID)
	must(t, os.Chmod(filepath.Join(table.Dir(), segmentFile(e.Kind, e.SegmentID)), 0o604))
	mustFail(t, table.Retire(drained(t, table, e)), ErrUnsafeFile)
	if s := state(table, e.Index); s != StateFree || files(t, table) != 0 {
		t.Fatalf("%v, %d files", s, files(t, table))
	}
}

// Every drain is ended once, by whoever, and the count tells how many there were.
func TestDrain_ManyAtOnce_EachEndedOnce(t *testing.T) {
	o := options(t.TempDir())
	tables := []*Table{openTable(t, o), openTable(t, o)}
	e := publish(t, tables[0], spec("x")).Entry()
	var ended atomic.Uint64
	var wg sync.WaitGroup
	for n := range 6 {
		wg.Go(func() {
			table := tables[n%2]
			for range 100 {
				now, err := table.Drain(e)
				if err == nil {
					_, err = table.Reopen(now)
				}
				switch {
				case err == nil:
					ended.Add(1)
				case !errors.Is(err, ErrState):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	now := drained(t, tables[0], e)
	if uint64(now.Drains) != ended.Load()+1 {
		t.Fatalf("%d drains, %d ended", now.Drains-1, ended.Load())
	}
	must(t, tables[1].Retire(now))
}

// A drain is a name: what one handle remembers of it ends that one or none.
func TestDrain_AnyOrder_LikeTheModel(t *testing.T) {
	o := options(t.TempDir())
	tables := []*Table{openTable(t, o), openTable(t, o)}
	rapid.Check(t, func(t *rapid.T) {
		segment, err := tables[0].PublishSegment(spec("x"), func([]byte) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		_ = segment.Close()
		model := segment.Entry()
		defer func() { // also when rapid breaks off
			if model.State.Published() {
				_ = tables[1].Retire(model)
			}
		}()
		known := []Entry{model}
		check := func(err error, want error) {
			t.Helper()
			if want == nil && err != nil || want != nil && !errors.Is(err, want) {
				t.Fatalf("got %v, want %v; entry %+v", err, want, model)
			}
		}
		// ends is what ending the drain that e is of has to say.
		ends := func(e Entry) error {
			switch {
			case !model.State.Published():
				return ErrRetired
			case model.State != StateDraining || model.Drains != e.Drains:
				return ErrState
			}
			return nil
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			table := tables[rapid.IntRange(0, 1).Draw(t, "handle")]
			e := rapid.SampledFrom(known).Draw(t, "known")
			switch rapid.SampledFrom([]string{"drain", "drain", "reopen", "reopen", "retire"}).Draw(t, "step") {
			case "drain":
				now, err := table.Drain(e)
				if !model.State.Published() {
					check(err, ErrRetired)
					continue
				}
				check(err, nil)
				if model.State == StateOpen {
					model.State, model.Drains = StateDraining, model.Drains+1
				}
				if now != model {
					t.Fatalf("drained %+v, want %+v", now, model)
				}
				known = append(known, now)
			case "reopen":
				want := ends(e)
				_, err := table.Reopen(e)
				if check(err, want); want == nil {
					model.State = StateOpen
				}
			case "retire":
				if e.State != StateDraining {
					continue
				}
				want := ends(e)
				err := table.Retire(e)
				if check(err, want); want == nil {
					model.State = StateFree // nobody maps it
				}
			}
			if got := state(table, model.Index); got != model.State {
				t.Fatalf("entry is %v, want %v", got, model.State)
			}
		}
	})
	if n := files(t, tables[0]); n != 0 {
		t.Fatalf("%d files left", n)
	}
}

func TestStateWord_OtherGenerationOrIndex_NotOpen(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	e := publish(t, table, spec("x")).Entry()
	if !e.Open(table.StateWord(e).Load()) {
		t.Fatal("published, and not open")
	}
	for _, word := range []uint64{
		0, packed(e.Generation+1, layout.EntryOpen), packed(e.Generation, layout.EntryActive),
		packed(e.Generation, layout.EntryRetired), packed(e.Generation, 7<<layout.EntryDrainsShift|layout.EntryDraining),
	} {
		if e.Open(word) {
			t.Errorf("open by %#x", word)
		}
	}
	if !e.Open(packed(e.Generation, 7<<layout.EntryDrainsShift|layout.EntryOpen)) {
		t.Error("not open after 7 drains")
	}
	for _, index := range []int{-1, int(table.Geometry().Entries), 1 << 40} {
		if none := (Entry{Index: index}); none.Open(table.StateWord(none).Load()) {
			t.Errorf("entry %d is open", index)
		}
	}
}

func TestReserve_Stack_OwnUnlessNamed(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	top, _ := slab(t, table)
	if top.Stack != top.SegmentID {
		t.Fatalf("%+v", top)
	}
	r, err := table.Reserve(Spec{Kind: KindSlab, Tier: 1, Stack: top.Stack, Name: "below", Size: 4096})
	must(t, err)
	seg, err := r.Create()
	must(t, err)
	defer seg.Close()
	below, err := r.Publish()
	must(t, err)
	if found, ok := table.Find(KindSlab, "below"); !ok || found != below || found.Stack != top.SegmentID {
		t.Fatalf("%+v", found)
	}
	if e := publish(t, table, spec("x")).Entry(); e.Stack != 0 {
		t.Fatalf("%+v", e)
	}
}

func TestReserve_TierAndStackDisagree_ErrOptions(t *testing.T) {
	tab := openTable(t, Options{Dir: t.TempDir(), Name: "t"})
	for _, s := range []Spec{{Kind: KindSlab, Tier: 0, Stack: 7, Size: 4096}, {Kind: KindSlab, Tier: 1, Size: 4096}} {
		if _, err := tab.Reserve(s); !errors.Is(err, ErrOptions) {
			t.Errorf("tier %d, stack %d: %v", s.Tier, s.Stack, err)
		}
	}
}
