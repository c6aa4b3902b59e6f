// Package lock is a robust mutex for processes that may die: one word in shared
// memory that names its owner, and a futex word beside it.
//
//	word   | generation 32 | region + 1, 16 | flags 16 |
//
// Taking and leaving an uncontended lock is one atomic operation each. A waiter
// that runs out of patience asks whether the owner is dead, and then swaps
// exactly the dead owner's token for its own. PROTOCOL.md, "Locks".
package lock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

var (
	// ErrBusy says that the context ended before the lock was had: another live
	// process or another goroutine of this one holds it, or there was no time from
	// the start. It wraps the context's error.
	ErrBusy = errors.New("lock is busy")
	// ErrLost says that an unlocker found another owner in the word: this process
	// was taken for dead. What it did under the lock is void and its handle must
	// not be used any more.
	ErrLost = errors.New("lock was taken away")
	// ErrClosed says that this end of the lock was closed.
	ErrClosed = errors.New("handle is closed")
)

// Owner is who locks: one open handle of a process, with its region.
type Owner interface {
	// Token returns the handle's generation and region as they stand in a lock word.
	Token() uint64
	// Dead reports whether the owner named by a token is provably dead. It is
	// never asked about Token.
	Dead(token uint64) bool
	// Ask has the living handle that a token names see to it, soon, that its token
	// stands in no lock that it does not hold: Disown. It does not wait.
	Ask(token uint64)
}

// Describer is an Owner who can say more of others than their numbers, for ErrBusy.
type Describer interface {
	// Describe says in words who a token names, and what keeps them; "" is nothing.
	Describe(token uint64) string
}

// Token packs a region and its generation as they stand in a lock word.
func Token(region, generation uint32) uint64 {
	return uint64(generation)<<layout.LockGenerationShift | uint64(region+1)<<layout.LockRegionShift
}

// Region returns the region and the generation of a token or lock word; ok is
// false if it has no owner.
func Region(word uint64) (region, generation uint32, ok bool) {
	n := uint32(word>>layout.LockRegionShift) & math.MaxUint16
	return n - 1, uint32(word >> layout.LockGenerationShift), n != 0
}

// Counters count what happened to a handle's locks. They may be shared by many.
type Counters struct {
	Waits  atomic.Uint64 // locks that were not free at the first try
	Steals atomic.Uint64 // locks taken from the dead
}

// Mutex is this process's end of a lock in shared memory. A process makes one
// per handle and lock; its goroutines queue in front of it, so that at most one
// of them waits in the kernel. All methods may be called concurrently.
type Mutex struct {
	word     *layout.Uint64
	futex    *layout.Uint32
	owner    Owner
	counters *Counters
	queue    *semaphore.Weighted // guards this end of word
	closed   atomic.Bool
	refusal  error // what Lock says when closed
	asking   asking
}

// New returns the owner's end of the lock at word and futex.
func New(word *layout.Uint64, futex *layout.Uint32, owner Owner, counters *Counters) *Mutex {
	return &Mutex{word: word, futex: futex, owner: owner, counters: counters, queue: semaphore.NewWeighted(1), refusal: ErrClosed}
}

// Refusing returns an end of the lock at word for who may only look: as if it had
// been closed, but Lock says why. It never writes.
func Refusing(word *layout.Uint64, why error) *Mutex {
	m := New(word, nil, nil, nil)
	m.refusal = why
	m.closed.Store(true)
	return m
}

// Shut ends the waits of this process for the lock within a nap; later calls say
// ErrClosed.
func (m *Mutex) Shut() { m.closed.Store(true) }

// Close waits until no goroutine of this process holds the lock or is about to
// look at its word. From then on the memory may go; later calls say ErrClosed.
func (m *Mutex) Close() {
	m.Shut()
	m.Pass()
}

// Pass waits until no goroutine of this process holds the lock or is about to look
// at its word, and leaves it as it is: what it does afterwards it does in the light
// of what the caller did before.
func (m *Mutex) Pass() {
	_ = m.queue.Acquire(context.Background(), 1)
	m.queue.Release(1)
}

const (
	spins      = 20 // pauses before the first sleep, about a microsecond
	firstNap   = time.Millisecond
	longestNap = 4 * time.Millisecond
)

// ownerOf returns the token part of a word.
func ownerOf(word uint64) uint64 { return word &^ layout.LockFlagMask }

// TryLock takes the lock if it is free and no starved waiter has the right of
// way. Consistent is false if what it guards needs repair first.
func (m *Mutex) TryLock() (ok, consistent bool) {
	if !m.queue.TryAcquire(1) {
		return false, false
	}
	defer m.unlessTaken(&ok)
	if m.closed.Load() {
		return false, false
	}
	word := m.word.Load()
	switch {
	case ownerOf(word) != 0:
	case word&layout.LockStarved != 0:
		// The starved one goes first. It sets the mark again if it is still there;
		// if it died or gave up, the next try finds the way free.
		m.word.CompareAndSwap(word, word&^layout.LockStarved)
	case m.word.CompareAndSwap(word, m.owner.Token()|word&layout.LockInconsistent): // pairs with Unlock
		return true, word&layout.LockInconsistent == 0
	}
	return false, false
}

// TrySteal takes the lock if its owner is dead, without waiting. What it guards
// needs repair then. It costs a look at the owner's lease, about 1 us.
func (m *Mutex) TrySteal() (ok bool) {
	if !m.queue.TryAcquire(1) {
		return false
	}
	defer m.unlessTaken(&ok)
	if m.closed.Load() {
		return false
	}
	word := m.word.Load()
	switch owner := ownerOf(word); {
	case owner == 0:
		return false
	case owner != m.owner.Token() && !m.owner.Dead(owner):
		m.ask(owner)
		return false
	}
	return m.steal(word)
}

// steal swaps a dead owner's exact word for one's own (lock.pml BREAK_EXACT).
func (m *Mutex) steal(word uint64) bool {
	if !m.word.CompareAndSwap(word, m.owner.Token()|layout.LockInconsistent|layout.LockWaiters) {
		return false
	}
	m.counters.Steals.Add(1)
	return true
}

// unlessTaken, deferred, gives this process's turn back unless the lock was
// taken, also when the word faults.
func (m *Mutex) unlessTaken(taken *bool) {
	if !*taken {
		m.queue.Release(1)
	}
}

// Lock takes the lock, waiting until ctx ends at most (ErrBusy). An owner that
// died is noticed within a few milliseconds; one that is stopped is waited for.
// Consistent is false if what the lock guards needs repair before use: its owner
// died, or an unlocker said so.
func (m *Mutex) Lock(ctx context.Context) (consistent bool, err error) {
	if err := m.enqueue(ctx); err != nil {
		return false, fmt.Errorf("%w: %w", ErrBusy, err)
	}
	taken := false
	defer m.unlessTaken(&taken)
	if m.closed.Load() {
		return false, m.refusal
	}
	if m.word.CompareAndSwap(0, m.owner.Token()) { // pairs with Unlock
		taken = true
		return true, nil
	}
	consistent, err = m.wait(ctx)
	taken = err == nil
	return consistent, err
}

// enqueue takes this process's turn. It looks for a moment before it parks: most
// turns, a hit's promotion above all, are over by then.
func (m *Mutex) enqueue(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for range spins {
		if m.queue.TryAcquire(1) {
			return nil
		}
		shm.Pause()
	}
	return m.queue.Acquire(ctx, 1)
}

// wait is the slow way to the lock. The caller has this process's turn.
func (m *Mutex) wait(ctx context.Context) (consistent bool, err error) {
	m.counters.Waits.Add(1)
	for range spins {
		if ownerOf(m.word.Load()) == 0 {
			break
		}
		shm.Pause()
	}
	me := m.owner.Token()
	var began time.Time // zero until the first sleep
	nap, flags := firstNap, uint64(0)
	for {
		seen := m.futex.Load() // before word: an unlock after it ends the sleep at once
		word := m.word.Load()
		starved := flags&layout.LockStarved != 0
		switch owner := ownerOf(word); {
		case owner == 0 && (starved || word&layout.LockStarved == 0 || ctx.Err() != nil):
			// Others may still sleep: whoever slept keeps WAITERS set for them.
			if m.word.CompareAndSwap(word, me|word&layout.LockInconsistent|flags&layout.LockWaiters) {
				m.asking = asking{}
				return word&layout.LockInconsistent == 0, nil
			}
			continue
		case owner == me, owner != 0 && !began.IsZero() && time.Since(began) >= firstNap && m.owner.Dead(owner):
			// The dead owner's exact token, or one that names this handle though
			// nobody in it holds the lock. Model: lock.pml, BREAK_GENERATION.
			if m.steal(word) {
				return false, nil
			}
			continue
		case owner != 0:
			m.ask(owner)
		}
		if err := ctx.Err(); err != nil {
			return false, m.busy(word, err)
		}
		if m.closed.Load() {
			return false, ErrClosed
		}
		if began.IsZero() {
			began = time.Now()
		} else if time.Since(began) >= layout.StarvationMillis*time.Millisecond {
			flags |= layout.LockStarved
		}
		flags |= layout.LockWaiters
		if word|flags != word && !m.word.CompareAndSwap(word, word|flags) { // pairs with Unlock, which wakes
			continue
		}
		if err := shm.FutexWait(m.futex, seen, untilDeadline(ctx, nap)); err != nil {
			return false, err
		}
		nap = min(2*nap, longestNap)
	}
}

func (m *Mutex) busy(word uint64, err error) error {
	if region, generation, ok := Region(word); ok {
		who := fmt.Sprintf("region %d generation %d", region, generation)
		if d, ok := m.owner.(Describer); ok {
			if text := d.Describe(ownerOf(word)); text != "" {
				who += ", " + text
			}
		}
		return fmt.Errorf("%w, held by %s: %w", ErrBusy, who, err)
	}
	return fmt.Errorf("%w: %w", ErrBusy, err)
}

// untilDeadline shortens a nap so that it ends with ctx.
func untilDeadline(ctx context.Context, nap time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		nap = min(nap, max(time.Until(deadline), time.Microsecond))
	}
	return nap
}

// Unlock leaves the lock. With consistent false the next owner is told that what
// it guards needs repair. It returns ErrLost if the lock is not this process's.
func (m *Mutex) Unlock(consistent bool) error {
	defer m.queue.Release(1)
	me := m.owner.Token()
	for {
		word := m.word.Load()
		if ownerOf(word) != me {
			region, generation, _ := Region(word)
			return fmt.Errorf("unlock: %w: owner is now region %d generation %d", ErrLost, region, generation)
		}
		free := word & layout.LockStarved
		if !consistent {
			free |= layout.LockInconsistent
		}
		if !m.word.CompareAndSwap(word, free) { // pairs with the CAS of Lock
			continue
		}
		if word&layout.LockWaiters == 0 {
			return nil
		}
		m.futex.Add(1) // pairs with the load before the waiter's look at the word
		wake := 1
		if word&layout.LockStarved != 0 {
			wake = math.MaxInt32 // the starved one has to be among them
		}
		return shm.FutexWake(m.futex, wake)
	}
}

// Holder returns the region and generation that the word names; ok is false if
// the lock is free. It is a glance: the answer may be old.
func (m *Mutex) Holder() (region, generation uint32, ok bool) { return Region(m.word.Load()) }
