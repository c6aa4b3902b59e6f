//go:build linux

package lock

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// asked is an owner whose Ask is heard.
type asked struct {
	fakeOwner
	of chan uint64
}

func (o asked) Ask(token uint64) {
	select {
	case o.of <- token:
	default:
	}
}

func TestDisown_NobodyHolds_FreeInconsistentAndWoken(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	o := g.owner(1, 1)
	m, _ := w.mutex(o)
	for _, c := range []struct {
		word, left uint64
		yes        bool
	}{
		{0, 0, false},
		{Token(2, 1), Token(2, 1), false},
		{Token(1, 2), Token(1, 2), false}, // another generation's
		{layout.LockInconsistent, layout.LockInconsistent, false},
		{o.token, layout.LockInconsistent, true},
		{o.token | layout.LockFlagMask, layout.LockInconsistent | layout.LockStarved, true},
	} {
		w.word.Store(c.word)
		before := w.futex.Load()
		yes, err := m.Disown()
		if moved := w.futex.Load() != before; err != nil || yes != c.yes || moved != c.yes || w.word.Load() != c.left {
			t.Errorf("%#x: %v, %v, moved %v, left %#x", c.word, yes, err, moved, w.word.Load())
		}
	}
}

func TestDisown_HeldOrTaken_LeftAlone(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	m, _ := w.mutex(g.owner(1, 1))
	mustLock(t, m, true)
	if yes, err := m.Disown(); yes || err != nil {
		t.Fatal(yes, err)
	}
	mustUnlock(t, m)
	w.word.Store(m.owner.Token())
	m.Close()
	if yes, _ := m.Disown(); yes || w.word.Load() != m.owner.Token() {
		t.Fatal("disowned after Close")
	}
}

// Whoever disowns all the time robs no goroutine of its handle.
func TestDisown_WhileGoroutinesLock_NobodyRobbed(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	m, _ := w.mutex(g.owner(1, 1))
	var done atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		for !done.Load() {
			if yes, err := m.Disown(); yes || err != nil {
				t.Errorf("disowned %v, %v", yes, err)
				return
			}
		}
	})
	for range 20_000 {
		mustLock(t, m, true)
		mustUnlock(t, m)
		if ok, _ := m.TryLock(); ok { // it may be refused, never robbed
			mustUnlock(t, m)
		}
	}
	done.Store(true)
	all.Wait()
}

// A waiter asks the living owner of a word, and has the lock when that disowns it.
func TestLock_WordNamesLivingWhoDoesNotHold_AskedAndTaken(t *testing.T) {
	w, g := heapWords(), newGraveyard()
	idle, _ := w.mutex(g.owner(1, 1))
	o := asked{g.owner(2, 1), make(chan uint64, 1)}
	m := New(w.word, w.futex, o, new(Counters))
	w.word.Store(idle.owner.Token())
	go func() {
		if token := <-o.of; token != idle.owner.Token() {
			t.Errorf("asked %#x", token)
		}
		_, _ = idle.Disown()
	}()
	mustLock(t, m, false)
	mustUnlock(t, m)
}

// Also if no wait is as long as the patience of one, and for who never waits.
func TestAsk_ManyShortWaits_AskedInTheEnd(t *testing.T) {
	for name, try := range map[string]func(m *Mutex){
		"lock": func(m *Mutex) {
			ctx, cancel := within(time.Millisecond)
			defer cancel()
			_, _ = m.Lock(ctx)
		},
		"steal": func(m *Mutex) { m.TrySteal() },
	} {
		w, g := heapWords(), newGraveyard()
		o := asked{g.owner(2, 1), make(chan uint64, 1)}
		m := New(w.word, w.futex, o, new(Counters))
		w.word.Store(g.owner(1, 1).token)
		for end := time.Now().Add(patience); len(o.of) == 0; runtime.Gosched() {
			if try(m); time.Now().After(end) {
				t.Fatalf("%s: nobody was asked", name)
			}
		}
	}
}
