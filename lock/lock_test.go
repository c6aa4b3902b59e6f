//go:build linux

package lock

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

func mustLock(t *testing.T, m *Mutex, consistent bool) {
	t.Helper()
	ctx, cancel := within(patience)
	defer cancel()
	if got, err := m.Lock(ctx); err != nil || got != consistent {
		t.Fatalf("consistent %v, %v; want %v", got, err, consistent)
	}
}

func mustUnlock(t *testing.T, m *Mutex) {
	t.Helper()
	if err := m.Unlock(true); err != nil {
		t.Fatal(err)
	}
}

func wantBusy(t *testing.T, m *Mutex, cause error) {
	t.Helper()
	ctx, cancel := within(5 * time.Millisecond)
	defer cancel()
	if cause == context.Canceled {
		cancel()
	}
	if _, err := m.Lock(ctx); !errors.Is(err, ErrBusy) || !errors.Is(err, cause) {
		t.Fatalf("%v, want %v and %v", err, ErrBusy, cause)
	}
}

func TestToken_RegionAndGeneration_ComeBack(t *testing.T) {
	for _, c := range [][2]uint32{{0, 0}, {0, 1}, {layout.MaxRegions - 1, 1<<32 - 1}, {255, 7}} {
		token := Token(c[0], c[1])
		region, generation, ok := Region(token | layout.LockFlagMask)
		if !ok || region != c[0] || generation != c[1] || token&layout.LockFlagMask != 0 {
			t.Errorf("%v: token %#x is %d, %d, %v", c, token, region, generation, ok)
		}
	}
	if _, _, ok := Region(layout.LockFlagMask); ok {
		t.Error("flags alone are no owner")
	}
}

func TestLock_ManyGoroutinesAndHandles_OneAtATime(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	const handles, goroutines, rounds = 3, 4, 300
	plain := 0 // the race detector watches it
	var wg sync.WaitGroup
	for region := range uint32(handles) {
		m, _ := w.mutex(g.owner(region, 1))
		for range goroutines {
			wg.Go(func() {
				for i := range rounds {
					if i%5 == 0 {
						for {
							if ok, consistent := m.TryLock(); ok {
								if !consistent {
									t.Error("inconsistent")
								}
								break
							}
							runtime.Gosched()
							if m.word.Load()&layout.LockStarved != 0 {
								if _, err := m.Lock(bg); err != nil {
									t.Error(err)
								}
								break
							}
						}
					} else if _, err := m.Lock(bg); err != nil {
						t.Error(err)
						return
					}
					plain++
					if err := m.Unlock(true); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if want := handles * goroutines * rounds; plain != want {
		t.Fatalf("%d, want %d: two at a time", plain, want)
	}
	if ownerOf(w.word.Load()) != 0 {
		t.Fatalf("word %#x", w.word.Load())
	}
}

// A waiter sets WAITERS before it sleeps on the futex value it saw before that, so
// an unlocker that sees WAITERS must change the value, for those not yet asleep,
// and one that does not must not spend a system call.
func TestUnlock_Waiters_FutexMoves(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	m, _ := w.mutex(g.owner(1, 1))
	for _, c := range []struct{ flags, left, moves uint64 }{
		{0, 0, 0},
		{layout.LockWaiters, 0, 1},
		{layout.LockWaiters | layout.LockStarved, layout.LockStarved, 1},
		{layout.LockStarved, layout.LockStarved, 0},
	} {
		w.word.Store(0)
		mustLock(t, m, true)
		w.word.Store(w.word.Load() | c.flags)
		before := w.futex.Load()
		mustUnlock(t, m)
		if moved := w.futex.Load() - before; uint64(moved) != c.moves || w.word.Load() != c.left {
			t.Errorf("flags %#x: futex moved by %d, word %#x", c.flags, moved, w.word.Load())
		}
	}
}

// Who acquires after having slept leaves WAITERS set for those who still sleep.
func TestLock_AfterSleep_WaitersStaysForTheOthers(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	a, _ := w.mutex(g.owner(1, 1))
	b, _ := w.mutex(g.owner(2, 1))
	mustLock(t, a, true)
	locked := make(chan error)
	go func() { _, err := b.Lock(bg); locked <- err }()
	for w.word.Load()&layout.LockWaiters == 0 {
		runtime.Gosched()
	}
	mustUnlock(t, a)
	if err := <-locked; err != nil || w.word.Load()&layout.LockWaiters == 0 {
		t.Fatalf("%v, word %#x", err, w.word.Load())
	}
	mustUnlock(t, b)
}

// Two handles hand a lock to and fro; every unlock wakes the other.
func TestUnlock_ToAndFro_NobodyIsLeftAsleep(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	const rounds = 2000
	var turn atomic.Uint64
	ctx, cancel := within(patience)
	defer cancel()
	var wg sync.WaitGroup
	for region := range uint64(2) {
		m, _ := w.mutex(g.owner(uint32(region), 1))
		wg.Go(func() {
			for turn.Load() < rounds {
				if _, err := m.Lock(ctx); err != nil {
					t.Errorf("turn %d: %v", turn.Load(), err)
					return
				}
				if turn.Load()%2 == region {
					turn.Add(1)
				}
				if err := m.Unlock(true); err != nil {
					t.Error(err)
					return
				}
				runtime.Gosched()
			}
		})
	}
	wg.Wait()
}

func TestLock_ContextEnds_BusyWithItsError(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	a, _ := w.mutex(g.owner(1, 1))
	b, counters := w.mutex(g.owner(2, 7))
	mustLock(t, a, true)
	wantBusy(t, a, context.DeadlineExceeded) // another goroutine of this process
	wantBusy(t, b, context.DeadlineExceeded)
	wantBusy(t, b, context.Canceled)
	ctx, cancel := within(5 * time.Millisecond)
	defer cancel()
	if _, err := b.Lock(ctx); !strings.Contains(err.Error(), "region 1 generation 1") {
		t.Errorf("%v does not say who holds it", err)
	}
	if ok, _ := b.TryLock(); ok {
		t.Fatal("two owners")
	}
	if counters.Waits.Load() == 0 || counters.Steals.Load() != 0 {
		t.Fatalf("%d waits, %d steals: a live owner was robbed", counters.Waits.Load(), counters.Steals.Load())
	}
	// Cancelled while it waits.
	ctx, cancel = context.WithCancel(bg)
	failed := make(chan error)
	go func() { _, err := b.Lock(ctx); failed <- err }()
	for w.word.Load()&layout.LockWaiters == 0 {
		runtime.Gosched()
	}
	cancel()
	if err := <-failed; !errors.Is(err, ErrBusy) || !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	mustUnlock(t, a)
	mustLock(t, b, true)
	mustUnlock(t, b)
}

func TestLock_OwnerDead_OneThiefAndInconsistentUntilRepaired(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	victim := g.owner(0, 1)
	a, _ := w.mutex(victim)
	mustLock(t, a, true)
	g.bury(victim.token)

	var inconsistent, steals atomic.Uint64
	var wg sync.WaitGroup
	for region := range uint32(4) {
		m, counters := w.mutex(g.owner(region+1, 1))
		wg.Go(func() {
			consistent, err := m.Lock(bg)
			if err != nil {
				t.Error(err)
				return
			}
			if !consistent {
				inconsistent.Add(1)
			}
			// Not repaired before all have seen it.
			if err := m.Unlock(consistent); err != nil {
				t.Error(err)
			}
			steals.Add(counters.Steals.Load())
		})
	}
	wg.Wait()
	if inconsistent.Load() != 4 || steals.Load() != 1 {
		t.Fatalf("%d saw it inconsistent, %d robbed the dead", inconsistent.Load(), steals.Load())
	}
	b, _ := w.mutex(g.owner(8, 1))
	if ok, consistent := b.TryLock(); ok { // unless a starved one has left its mark
		if consistent {
			t.Fatal("inconsistency was forgotten")
		}
		if err := b.Unlock(false); err != nil {
			t.Fatal(err)
		}
	}
	mustLock(t, b, false)
	mustUnlock(t, b)
	mustLock(t, b, true)
	mustUnlock(t, b)
}

func TestLock_ThiefDiesInTheRepair_NextSeesInconsistent(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	for generation := range uint32(3) {
		o := g.owner(1, generation+1)
		m, _ := w.mutex(o)
		mustLock(t, m, generation == 0)
		if marked := w.word.Load()&layout.LockInconsistent != 0; marked != (generation > 0) {
			t.Fatalf("generation %d: word %#x", generation, w.word.Load())
		}
		g.bury(o.token)
	}
	m, counters := w.mutex(g.owner(2, 1))
	mustLock(t, m, false)
	mustUnlock(t, m)
	mustLock(t, m, true)
	if counters.Steals.Load() != 1 {
		t.Fatalf("%d steals", counters.Steals.Load())
	}
}

// A region that is claimed again must not make its former
// generation look alive, nor be robbed for it.
func TestLock_RegionClaimedAgain_OnlyTheDeadGenerationIsRobbed(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	old, successor := g.owner(1, 1), g.owner(1, 2)
	a, _ := w.mutex(old)
	b, _ := w.mutex(successor)
	c, counters := w.mutex(g.owner(2, 1))
	mustLock(t, a, true)
	g.bury(old.token)
	mustLock(t, b, false)
	wantBusy(t, c, context.DeadlineExceeded)
	if counters.Steals.Load() != 0 {
		t.Fatal("the live successor was robbed")
	}
	mustUnlock(t, b)
}

func TestLock_OwnTokenButNobodyHoldsIt_TakenOverAsInconsistent(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	o := g.owner(3, 9) // panics if asked whether it is dead itself
	m, counters := w.mutex(o)
	w.word.Store(o.token)
	mustLock(t, m, false)
	if counters.Steals.Load() != 1 {
		t.Fatal(counters.Steals.Load())
	}
	mustUnlock(t, m)
	if w.word.Load() != 0 {
		t.Fatalf("word %#x", w.word.Load())
	}
}

func TestUnlock_Robbed_Lost(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	a, _ := w.mutex(g.owner(1, 1))
	thief := g.owner(2, 5)
	mustLock(t, a, true)
	w.word.Store(thief.token)
	err := a.Unlock(true)
	if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "region 2 generation 5") {
		t.Fatal(err)
	}
	if w.word.Load() != thief.token {
		t.Fatal("the thief lost the lock")
	}
	w.word.Store(0)
	mustLock(t, a, true) // its queue is free again
	mustUnlock(t, a)
}

func TestUnlock_Inconsistent_NextOwnerIsTold(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	a, _ := w.mutex(g.owner(1, 1))
	b, _ := w.mutex(g.owner(2, 1))
	mustLock(t, a, true)
	if err := a.Unlock(false); err != nil {
		t.Fatal(err)
	}
	if ok, consistent := b.TryLock(); !ok || consistent {
		t.Fatal(ok, consistent)
	}
	mustUnlock(t, b)
	mustLock(t, a, true)
	mustUnlock(t, a)
}

func TestTryLock_StarvedWaiter_HasTheRightOfWay(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	a, _ := w.mutex(g.owner(1, 1))
	b, _ := w.mutex(g.owner(2, 1))
	w.word.Store(layout.LockStarved)
	if ok, _ := a.TryLock(); ok {
		t.Fatal("a newcomer barged")
	}
	mustLock(t, a, true) // who waits gets it, even if the starved one has died
	if w.word.Load()&layout.LockStarved != 0 {
		t.Fatalf("word %#x", w.word.Load())
	}
	mustUnlock(t, a)
	if ok, _ := b.TryLock(); !ok {
		t.Fatal("the dead one's mark stays")
	}
	mustUnlock(t, b)
}

func TestClose_Waiters_ClosedAndHolderUnlocksFirst(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	a, _ := w.mutex(g.owner(1, 1))
	b, _ := w.mutex(g.owner(2, 1))
	mustLock(t, a, true)
	waiting := make(chan error, 3)
	for range 3 { // one at the word, two in the queue
		go func() { _, err := b.Lock(bg); waiting <- err }()
	}
	for w.word.Load()&layout.LockWaiters == 0 {
		runtime.Gosched()
	}
	b.Close()
	for range 3 {
		if err := <-waiting; !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
	}
	closed := make(chan struct{})
	go func() { a.Close(); close(closed) }()
	for !a.closed.Load() {
		runtime.Gosched()
	}
	select {
	case <-closed:
		t.Fatal("closed under the holder")
	default:
	}
	mustUnlock(t, a)
	<-closed
	for _, m := range []*Mutex{a, b} {
		if _, err := m.Lock(bg); !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		if ok, _ := m.TryLock(); ok {
			t.Fatal("locked after Close")
		}
		m.Close()
	}
	if w.word.Load()&^(layout.LockWaiters|layout.LockStarved) != 0 {
		t.Fatalf("word %#x", w.word.Load())
	}
}

// lonely calls everybody dead, as the table does with regions that do not exist.
type lonely struct{ token uint64 }

func (o lonely) Token() uint64    { return o.token }
func (o lonely) Dead(uint64) bool { return true }
func (lonely) Ask(uint64)         {}

func TestLock_HostileWords_TakenWithinTheContext(t *testing.T) {
	w := heapWords()
	m, _ := w.mutex(lonely{Token(4, 4)})
	for _, c := range []struct {
		word       uint64
		consistent bool
	}{
		{^uint64(0), false},
		{0xffff << layout.LockRegionShift, false},
		{5 << layout.LockGenerationShift, false}, // a generation of no region
		{Token(4095, 1<<32-1), false},
		{0xfff8, true}, // unknown flags of a free lock
		{layout.LockFlagMask, false},
		{layout.LockWaiters, true},
		{layout.LockInconsistent, false},
	} {
		w.word.Store(c.word)
		mustLock(t, m, c.consistent)
		if region, generation, ok := m.Holder(); !ok || region != 4 || generation != 4 {
			t.Fatalf("word %#x: holder %d, %d, %v", c.word, region, generation, ok)
		}
		mustUnlock(t, m)
		if word := w.word.Load(); word != 0 {
			t.Fatalf("word %#x became %#x", c.word, word)
		}
	}
}

func TestTrySteal_OnlyFromTheDead(t *testing.T) {
	for _, c := range []struct {
		name string
		word uint64
		dead bool
		want bool
	}{
		{"free", 0, true, false},
		{"living owner", Token(1, 1), false, false},
		{"dead owner", Token(1, 1) | layout.LockWaiters, true, true},
		{"own token that nobody holds", Token(0, 1), false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var word layout.Uint64
			var futex layout.Uint32
			word.Store(c.word)
			m := New(&word, &futex, verdict{Token(0, 1), c.dead}, new(Counters))
			if got := m.TrySteal(); got != c.want {
				t.Fatalf("got %v", got)
			}
			if !c.want {
				if word.Load() != c.word {
					t.Fatalf("word is %#x", word.Load())
				}
				return
			}
			if word.Load()&layout.LockInconsistent == 0 || ownerOf(word.Load()) != Token(0, 1) {
				t.Fatalf("word is %#x", word.Load())
			}
			if m.TrySteal() { // this process's turn is taken
				t.Fatal("stolen twice")
			}
			if err := m.Unlock(true); err != nil || word.Load() != 0 {
				t.Fatal(err, word.Load())
			}
			m.Close()
			word.Store(c.word)
			if m.TrySteal() {
				t.Fatal("stolen through a closed end")
			}
		})
	}
}

// verdict is an Owner that calls all others dead, or alive.
type verdict struct {
	token uint64
	dead  bool
}

func (v verdict) Token() uint64    { return v.token }
func (v verdict) Dead(uint64) bool { return v.dead }
func (verdict) Ask(uint64)         {}

func TestRefusing_WhateverTheWord_NeverTakenNorWritten(t *testing.T) {
	reason := errors.New("reason")
	for _, before := range []uint64{0, Token(3, 7), layout.LockStarved, ^uint64(0)} {
		var word layout.Uint64
		word.Store(before)
		m := Refusing(&word, reason)
		if ok, _ := m.TryLock(); ok || m.TrySteal() {
			t.Errorf("%#x: taken", before)
		}
		if _, err := m.Lock(context.Background()); !errors.Is(err, reason) {
			t.Errorf("%#x: %v", before, err)
		}
		region, _, held := m.Holder()
		if want, _, ok := Region(before); region != want || held != ok {
			t.Errorf("%#x: held by %d, %v", before, region, held)
		}
		m.Close()
		if word.Load() != before {
			t.Errorf("%#x became %#x", before, word.Load())
		}
	}
}
