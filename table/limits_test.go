//go:build linux

package table

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/signal"
)

func init() {
	// light joins a domain of the default size.
	roles["light"] = func(o Options) error {
		o.Regions, o.Wake.Mode, o.Wake.Poll = 0, signal.ModePoll, 1<<40
		t, err := Open(context.Background(), o)
		if err != nil {
			return err
		}
		say("%d", t.Self())
		linger()
		return t.Close()
	}
}

func TestOpen_256Processes_The257thRefusedUntilOneGoes(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Name: "d", Wake: signal.Options{Mode: signal.ModePoll}}
	must(t, openTable(t, o).Close())
	t.Setenv("GOMAXPROCS", "1")
	n := layout.DefaultRegions
	if raceDetector { // each is then some 50 MB large
		n, o.Regions = 32, 32
		must(t, Destroy(t.Context(), dir, "d"))
		must(t, openTable(t, o).Close())
	}
	var children []*child
	for range n {
		children = append(children, start(t, "light", dir)) // some are still starting
	}
	taken := map[int]bool{}
	for _, c := range children {
		taken[c.number()] = true
	}
	if len(taken) != n {
		t.Fatalf("%d processes have %d regions", n, len(taken))
	}
	refused := func() {
		t.Helper()
		_, err := Open(limited(t), o)
		mustFail(t, err, ErrNoRegion)
		mustName(t, err, fmt.Sprint("all ", n), "close a handle", "destroy")
	}
	refused()
	children[0].finish()
	must(t, openTable(t, o).Close())
	last := openTable(t, o)
	refused()
	children[1].kill()
	must(t, openTable(t, o).Close())
	must(t, last.Close())
	for _, c := range children[2:] {
		_ = c.cmd.Process.Kill()
	}
}

func TestRegion_RecycledManyTimes_NobodyMistaken(t *testing.T) {
	times := 5_000
	if os.Getenv("FLAGSTONE_LONG") != "" {
		times = 100_000
	}
	o := options(t.TempDir())
	o.Regions = 2
	watcher := openTable(t, o)
	table := openTable(t, o)
	region := table.self
	last, lastGeneration := table.token, table.generation
	for i := range times {
		switch i % 500 {
		case 0: // the whole way
			must(t, table.Close())
			table = openTable(t, o)
		default: // its first and last steps
			if i%3 != 0 { // else it dies
				table.clean(region)
				table.fold(region)
				table.release()
			}
			must(t, unlock(table.control, leaseByte(region)))
			table.self = none
			must(t, table.claim(t.Context()))
		}
		if table.self != region || table.generation != lastGeneration+1 || table.token == last {
			t.Fatalf("region %d generation %d after %d", table.self, table.generation, lastGeneration)
		}
		if !watcher.Dead(last) || watcher.Dead(table.token) {
			t.Fatalf("generation %d: dead %v, the one before it %v", table.generation, watcher.Dead(table.token), watcher.Dead(last))
		}
		last, lastGeneration = table.token, table.generation
	}
	if n, err := watcher.Reap(); n != 0 || err != nil || len(watcher.Regions()) != 2 {
		t.Fatalf("reaped %d, %v, %d regions", n, err, len(watcher.Regions()))
	}
}

// The numbers that count lives come to their ends, and begin again.
func TestLimits_GenerationsNearWrap_NobodyMistaken(t *testing.T) {
	o := options(t.TempDir())
	o.Regions = 2
	watcher := openTable(t, o)
	table := openTable(t, o)
	m, err := watcher.Mutex(100)
	must(t, err)
	word := &shm.At[layout.Mutex](table.win, table.header.mutex(100)).Word
	region := table.self
	table.generation = 0xfffffffd // as if so many had had the region
	for _, want := range []uint32{0xfffffffe, 0xffffffff, 1, 2} {
		table.release()
		must(t, unlock(table.control, leaseByte(region)))
		table.self = none
		must(t, table.claim(t.Context()))
		if table.self != region || table.generation != want {
			t.Fatalf("region %d generation %#x, want %#x", table.self, table.generation, want)
		}
		word.Store(table.token) // the next life finds that it died with the mutex
		if _, err := m.Lock(brief(t)); !errors.Is(err, ErrBusy) || watcher.Dead(table.token) {
			t.Fatalf("generation %#x lives: %v", want, err)
		}
		must(t, unlock(table.control, leaseByte(region)))
		table.self = none
		must(t, table.claim(t.Context()))
		if consistent, err := m.Lock(limited(t)); err != nil || consistent {
			t.Fatalf("generation %#x is dead: consistent %v, %v", want, consistent, err)
		}
		must(t, m.Unlock(true))
		table.generation = want
	}

	// Entries.
	for i := range int(watcher.header.Entries) {
		watcher.entryAt(i).State.Store(packed(0xffffffff, layout.EntryFree))
	}
	s := publish(t, watcher, spec("last"))
	e := s.Entry()
	if e.Generation != 0xffffffff {
		t.Fatalf("generation %#x", e.Generation)
	}
	must(t, s.Close())
	must(t, watcher.Retire(e))
	next := publish(t, watcher, spec("first"))
	if n := next.Entry(); n.Index != e.Index || n.Generation != 0 || !watcher.Retired(e) || watcher.Retired(n) {
		t.Fatalf("after the last generation %+v", n)
	}
	if _, err := watcher.Attach(e); !errors.Is(err, ErrRetired) {
		t.Fatal(err)
	}

	// Changes.
	watcher.words.Changes.Store(^uint64(0) - 1)
	watcher.Poll()
	for range 4 {
		drained(t, watcher, next.Entry())
		if !watcher.Poll() || watcher.Poll() {
			t.Fatal("a change was missed, or seen twice")
		}
		_, err := watcher.Reopen(drained(t, watcher, next.Entry()))
		must(t, err)
		watcher.Poll()
	}
}

// brief returns a context that ends soon.
func brief(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// raceDetector is set in builds with it.
var raceDetector bool
