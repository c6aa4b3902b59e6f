package lock

import (
	"math"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// asking is what this end remembers of an owner that is in the way, over all waits,
// however short. Guarded by the queue.
type asking struct {
	owner uint64
	next  time.Time
	gap   time.Duration
}

// How long an owner is in the way before it is asked whether it holds the lock at
// all, and how seldom one that does is asked again.
const (
	firstAsk   = 100 * time.Millisecond
	longestAsk = 16 * firstAsk
)

// ask asks a living owner that has been in the way for long. The caller has this
// process's turn.
func (m *Mutex) ask(owner uint64) {
	a, now := &m.asking, time.Now()
	switch {
	case owner != a.owner:
		*a = asking{owner, now.Add(firstAsk), firstAsk}
	case now.After(a.next):
		a.gap = min(2*a.gap, longestAsk)
		a.next = now.Add(a.gap)
		m.owner.Ask(owner)
	}
}

// Disown takes this handle's token out of the word if it got there by somebody's
// error: no goroutine of this process holds the lock or is about to look at its word
// (lock.pml BREAK_DISOWN_TURN). What is guarded counts as left in need of repair, for
// nobody knows what the word was before (BREAK_DISOWN_MARK). It does not wait; one
// load if there is nothing to do. PROTOCOL.md, "Locks".
func (m *Mutex) Disown() (disowned bool, err error) {
	if m.closed.Load() || ownerOf(m.word.Load()) != m.owner.Token() || !m.queue.TryAcquire(1) {
		return false, nil
	}
	defer m.queue.Release(1)
	if m.closed.Load() {
		return false, nil
	}
	word := m.word.Load()
	if ownerOf(word) != m.owner.Token() || !m.word.CompareAndSwap(word, word&layout.LockStarved|layout.LockInconsistent) { // pairs with the CAS of Lock
		return false, nil
	}
	// Whether somebody sleeps nobody knows either.
	m.futex.Add(1) // pairs with the load before the waiter's look at the word
	return true, shm.FutexWake(m.futex, math.MaxInt32)
}
