//go:build linux

package table

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/lock"
)

func TestOpen_ManyProcessesAtOnce_OneInitialises(t *testing.T) {
	for round := range 3 {
		dir := t.TempDir()
		var children []*child
		for range 6 {
			children = append(children, start(t, "join", dir))
		}
		regions, uuids := map[int]bool{}, map[string]bool{}
		for _, c := range children {
			var region int
			var a, b string
			if _, err := fmt.Sscanf(c.hear(), "%d %s %s", &region, &a, &b); err != nil {
				t.Fatal(err)
			}
			regions[region], uuids[a+b] = true, true
		}
		if len(regions) != 6 || len(uuids) != 1 {
			t.Fatalf("round %d: 6 processes have %d regions of %d domains", round, len(regions), len(uuids))
		}
		late := openTable(t, options(dir))
		if n := len(late.Regions()); n != 7 {
			t.Fatalf("the late one sees %d regions, want 7", n)
		}
		for _, c := range children {
			c.finish()
		}
		if n := len(late.Regions()); n != 1 {
			t.Fatalf("%d regions after the others have left, want 1", n)
		}
		must(t, late.Close())
		names, err := os.ReadDir(filepath.Join(dir, "d.flagstone", versionDir))
		must(t, err)
		if len(names) != 1 {
			t.Fatalf("left behind: %v", names)
		}
	}
}

func TestOpen_ManyGoroutinesAtOnce_OneInitialises(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	var uuids sync.Map
	for range 8 {
		wg.Go(func() {
			table, err := Open(limited(t), options(dir))
			if err != nil {
				t.Error(err)
				return
			}
			uuids.Store(table.UUID(), true)
			if err := table.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := 0
	uuids.Range(func(_, _ any) bool { n++; return true })
	if n != 1 {
		t.Fatalf("%d domains were made, want 1", n)
	}
}

func TestRegion_OwnerKilled_ReaperFreesIt(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	c := start(t, "join", dir)
	region := c.number()
	token := lock.Token(uint32(region), generationOf(table.regionAt(region).State.Load()))
	if table.Dead(token) {
		t.Fatal("a living process is called dead")
	}
	c.kill()
	if !table.Dead(token) {
		t.Fatal("a killed process is not called dead")
	}
	var alive, dead int
	for _, r := range table.Regions() {
		if r.Alive {
			alive++
		} else {
			dead++
		}
	}
	if alive != 1 || dead != 1 {
		t.Fatalf("%d alive and %d dead, want 1 and 1", alive, dead)
	}
	before := table.Changes()
	if n, err := table.Reap(); n != 1 || err != nil {
		t.Fatalf("reaped %d, %v", n, err)
	}
	if table.Changes() == before {
		t.Fatal("reaping did not move changes")
	}
	if n := len(table.Regions()); n != 1 {
		t.Fatalf("%d regions after reaping, want 1", n)
	}
	if n, err := table.Reap(); n != 0 || err != nil {
		t.Fatalf("reaped %d more, %v", n, err)
	}
}

func TestRegion_OwnerKilled_NextClaimerReaps(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	o.Regions = 1
	table := openTable(t, o)
	must(t, table.Close())
	c := start(t, "creating", dir)
	entry := c.number()
	_, err := Open(limited(t), o)
	mustFail(t, err, ErrNoRegion)
	c.kill()
	table = openTable(t, o)
	if got := stateOf(table.entryAt(entry).State.Load()); got != StateFree {
		t.Fatalf("the dead creator's entry is %v, want FREE", got)
	}
}

func TestRegion_Recycled_GenerationAlwaysNew(t *testing.T) {
	o := options(t.TempDir())
	o.Regions = 1
	seen := map[uint64]bool{}
	var last uint64
	for range 200 {
		table, err := Open(limited(t), o)
		must(t, err)
		if last != 0 && !table.Dead(last) {
			t.Fatalf("token %#x of a former owner is not dead", last)
		}
		last = table.Token()
		if seen[last] || table.Dead(last) {
			t.Fatalf("token %#x: seen before %v, dead %v", last, seen[last], table.Dead(last))
		}
		seen[last] = true
		must(t, table.Close())
	}
}

func TestRegion_GenerationWraps_ZeroSkipped(t *testing.T) {
	o := options(t.TempDir())
	o.Regions = 1
	keeper := openTable(t, o)
	keeper.region.State.Store(packed(0xffffffff, layout.RegionFree))
	keeper.generation = 0xffffffff // so that Close writes it
	must(t, keeper.Close())
	if table := openTable(t, o); table.generation != 1 {
		t.Fatalf("generation after the last is %d, want 1", table.generation)
	}
}

func TestRegion_ReaperDied_NextOneFinishes(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	c := start(t, "creating", dir)
	entry := c.number()
	c.kill()
	// A reaper that died after its first step.
	region := creatorOf(table.entryAt(entry).State.Load())
	r := table.regionAt(region)
	r.State.Store(packed(generationOf(r.State.Load()), layout.RegionReaping))
	if n, err := table.Reap(); n != 1 || err != nil {
		t.Fatalf("reaped %d, %v", n, err)
	}
	if s := uint32(r.State.Load()); s != layout.RegionFree {
		t.Fatalf("region state %d, want free", s)
	}
	if s := stateOf(table.entryAt(entry).State.Load()); s != StateFree {
		t.Fatalf("entry is %v, want FREE", s)
	}
}

func TestDead_OwnLiveToken_Never(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	for range 100 {
		if table.Dead(table.Token()) {
			t.Fatal("own live token is dead")
		}
	}
	// The trap: the kernel calls the own lease free.
	if held, err := lockedByOthers(table.control, leaseByte(table.self), 1); err != nil || held {
		t.Fatalf("the kernel says held=%v, %v: this test has lost its point", held, err)
	}
	if other := lock.Token(uint32(table.self), table.generation-1); !table.Dead(other) {
		t.Fatal("a former generation of the own region is not dead")
	}
	for _, region := range []uint32{table.header.Regions, 0xfffe, 0xffff} {
		if !table.Dead(lock.Token(region, 1)) {
			t.Fatalf("region %d does not exist and is not dead", region)
		}
	}
}

func TestDead_TwoHandlesOfOneProcess_SeeEachOtherAlive(t *testing.T) {
	o := options(t.TempDir())
	a, b := openTable(t, o), openTable(t, o)
	if a.Self() == b.Self() || a.Dead(b.Token()) || b.Dead(a.Token()) {
		t.Fatalf("regions %d and %d, dead %v and %v", a.Self(), b.Self(), a.Dead(b.Token()), b.Dead(a.Token()))
	}
	if n, err := a.Reap(); n != 0 || err != nil {
		t.Fatalf("reaped %d living, %v", n, err)
	}
	token := a.Token()
	must(t, a.Close())
	if !b.Dead(token) {
		t.Fatal("a closed handle is not dead")
	}
	if a.Dead(b.Token()) {
		t.Fatal("a closed handle calls the living dead")
	}
}

func TestClaim_AllTaken_ErrNoRegion(t *testing.T) {
	o := options(t.TempDir())
	o.Regions = 2
	openTable(t, o)
	second := openTable(t, o)
	_, err := Open(limited(t), o)
	mustFail(t, err, ErrNoRegion)
	must(t, second.Close())
	openTable(t, o)
}

func TestFlags_Changed_PeersSeeAndAreRung(t *testing.T) {
	o := options(t.TempDir())
	a, b := openTable(t, o), openTable(t, o)
	b.Poll()
	must(t, a.SetFlags(0b110, 0))
	must(t, a.SetFlags(0b001, 0b010))
	if !b.Poll() || b.Poll() {
		t.Fatal("flags did not move changes once")
	}
	for _, r := range b.Regions() {
		if r.Index == a.Self() && r.Flags != 0b101 {
			t.Fatalf("flags %b, want 101", r.Flags)
		}
	}
	select {
	case <-b.C():
	case <-limited(t).Done():
		t.Fatal("the peer was not woken")
	}
	before := b.Changes()
	must(t, a.SetFlags(0b101, 0b010))
	if b.Changes() != before {
		t.Fatal("setting what is set moved changes")
	}
}

func TestRegions_EverythingPublished(t *testing.T) {
	o := options(t.TempDir())
	a, b := openTable(t, o), openTable(t, o)
	a.Count(layout.CounterHits, 7)
	a.Count(-1, 7)
	a.Count(32, 7)
	a.Acknowledge(99)
	m, err := a.Mutex(100)
	must(t, err)
	_, err = m.Lock(limited(t))
	must(t, err)
	var r Region
	for _, each := range b.Regions() {
		if each.Index == a.Self() {
			r = each
		}
	}
	if r.Self || !r.Alive || int(r.Pid) != os.Getpid() || int(r.UID) != os.Geteuid() || r.PidNamespace == 0 ||
		r.Counters[layout.CounterHits] != 7 || r.Acknowledged != 99 || r.Wake != "poll" ||
		time.Since(r.Joined) > time.Hour || len(r.Held) != 1 || r.Held[0] != (HeldMutex{100, true}) {
		t.Fatalf("%+v", r)
	}
	must(t, m.Unlock(true))
}

func TestRing_ReasonArrives(t *testing.T) {
	o := options(t.TempDir())
	a, b := openTable(t, o), openTable(t, o)
	must(t, a.Ring(b.Self(), ReasonApplication<<3))
	eventually(t, "the reason arrives", func() bool { return b.Reasons()&(ReasonApplication<<3) != 0 })
	mustFail(t, a.Ring(-1, 1), ErrOptions)
	mustFail(t, a.Ring(8, 1), ErrOptions)
}

func TestExclusive_OneAtATime(t *testing.T) {
	o := options(t.TempDir())
	a, b := openTable(t, o), openTable(t, o)
	inside, total := 0, 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, table := range []*Table{a, a, b, b} {
		wg.Go(func() {
			for range 10 {
				err := table.Exclusive(limited(t), func() error {
					mu.Lock()
					inside++
					alone := inside == 1
					mu.Unlock()
					if !alone {
						return errors.New("two inside")
					}
					mu.Lock()
					inside--
					total++
					mu.Unlock()
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if total != 40 {
		t.Fatalf("%d of 40 runs", total)
	}
}

func TestExclusive_HeldElsewhere_ErrBusyThenFreedByDeath(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	c := start(t, "exclusive", dir)
	c.hear()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := table.Exclusive(ctx, func() error { return errors.New("ran") })
	mustFail(t, err, ErrBusy, context.DeadlineExceeded)
	c.kill()
	ran := false
	must(t, table.Exclusive(limited(t), func() error { ran = true; return nil }))
	if !ran {
		t.Fatal("did not run")
	}
}

func TestClose_WhileOthersUse_ErrClosed(t *testing.T) {
	o := options(t.TempDir())
	other := openTable(t, o)
	table := openTable(t, o)
	held, err := other.Mutex(100)
	must(t, err)
	_, err = held.Lock(limited(t))
	must(t, err)
	m, err := table.Mutex(100)
	must(t, err)
	waiting := make(chan error)
	go func() {
		_, err := m.Lock(limited(t))
		waiting <- err
	}()
	excluded := make(chan error)
	inside := make(chan struct{})
	go func() {
		_ = other.Exclusive(limited(t), func() error {
			close(inside)
			return <-excluded
		})
	}()
	<-inside
	go func() { excluded <- table.Exclusive(limited(t), func() error { return nil }) }()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				table.Regions()
				table.Entries()
				table.Tick()
				table.Changes()
				table.Dead(other.Token())
				if _, err := table.Reserve(Spec{Kind: KindApplication}); !errors.Is(err, ErrOptions) {
					t.Error(err)
				}
				if _, err := table.Reap(); err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	events := table.Watch(limited(t))
	<-events
	must(t, table.Close())
	wg.Wait()
	mustFail(t, <-waiting, ErrClosed)
	for range events { // ends
	}
	must(t, table.Close())
	mustFail(t, table.SetFlags(1, 0), ErrClosed)
	_, err = table.Attach(Entry{})
	mustFail(t, err, ErrClosed)
	_, err = m.Lock(limited(t))
	mustFail(t, err, ErrClosed)
	if table.Changes() != 0 || table.Now() != 0 || table.Destroyed() || table.Entries() != nil {
		t.Fatal("a closed handle shows something")
	}
	if n := len(other.Regions()); n != 1 {
		t.Fatalf("%d regions, want 1", n)
	}
	must(t, held.Unlock(true))
}
