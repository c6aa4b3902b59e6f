package table

import (
	"context"
	"fmt"
	"sync"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
)

// Mutex is this handle's end of one of the domain's mutexes. Those numbered below
// Geometry().Entries belong to the directory entries of the same number; the
// others are the application's.
type Mutex struct {
	t    *Table
	id   uint32
	lock *lock.Mutex

	// Guarded by mutexes.mu.
	slot   int // of our held words, while wanted or owned
	wanted int // goroutines that wait
	owned  int // 1 while held; 2 for a moment while one goroutine follows another
}

// mutexes are this handle's ends, and its list of what it holds or wants.
type mutexes struct {
	mu       sync.Mutex // guards the rest, and the writing of our held words
	t        *Table
	used     []bool // held words, by slot
	byID     map[uint32]*Mutex
	counters lock.Counters
}

func (m *mutexes) init(t *Table) {
	m.t, m.used, m.byID = t, make([]bool, t.header.Held), map[uint32]*Mutex{}
}

// Mutex returns this handle's end of a mutex, always the same for a number, or
// ErrNoMutex.
func (t *Table) Mutex(id uint32) (*Mutex, error) {
	if shm.Forked() {
		return nil, ErrForked
	}
	if id >= t.header.Mutexes {
		return nil, fmt.Errorf("mutex %d of %d: %w", id, t.header.Mutexes, ErrNoMutex)
	}
	t.mutexes.mu.Lock()
	defer t.mutexes.mu.Unlock()
	m := t.mutexes.byID[id]
	if m == nil {
		words := shm.At[layout.Mutex](t.win, t.header.mutex(id))
		m = &Mutex{t: t, id: id, lock: lock.New(&words.Word, &words.Futex, t, &t.mutexes.counters)}
		t.mutexes.byID[id] = m
	}
	return m, nil
}

// note changes what the region says about m. Peers see it in Regions.
func (m *Mutex) note(wanted, owned int) error {
	all := &m.t.mutexes
	all.mu.Lock()
	defer all.mu.Unlock()
	if m.wanted+m.owned == 0 {
		slot, err := all.freeSlot()
		if err != nil {
			return wrap(err, "mutex %d", m.id)
		}
		m.slot = slot
	}
	m.wanted += wanted
	m.owned += owned
	word := uint64(0)
	switch {
	case m.owned > 0:
		word = packed(m.id, layout.HeldOwned)
	case m.wanted > 0:
		word = packed(m.id, layout.HeldWanted)
	}
	all.used[m.slot] = word != 0
	m.t.heldWord(m.t.self, m.slot).Store(word) // for Regions; no step relies on it
	return nil
}

func (m *mutexes) freeSlot() (int, error) {
	for slot, used := range m.used {
		if !used {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("%w: %d are", ErrTooManyHeld, len(m.used))
}

// Lock takes the mutex, waiting until ctx ends at most (ErrBusy). Consistent is
// false if what it guards needs repair before use: its last holder died or left
// it so. A holder that dies is noticed within milliseconds, one that is stopped
// is waited for. Uncontended about 0.1 us.
func (m *Mutex) Lock(ctx context.Context) (consistent bool, err error) {
	err = m.take(func() (bool, error) {
		err := m.t.waiting(ctx, func(ctx context.Context) (err error) {
			consistent, err = m.lock.Lock(ctx)
			return err
		})
		return err == nil, err
	})
	return consistent, wrap(err, "lock mutex %d", m.id)
}

// TryLock takes the mutex if it is free or its holder dead, without waiting. Where a
// living one is in the way of many tries, it is asked whether it holds it at all.
func (m *Mutex) TryLock() (ok, consistent bool, err error) {
	err = m.take(func() (bool, error) {
		if ok, consistent = m.lock.TryLock(); !ok {
			ok, consistent = m.lock.TrySteal(), false
		}
		return ok, nil
	})
	return ok && err == nil, consistent, wrap(err, "try mutex %d", m.id)
}

// take records the intent before try changes the word, and the outcome after.
func (m *Mutex) take(try func() (bool, error)) error {
	return m.t.useLive(func() error {
		if err := m.note(1, 0); err != nil {
			return err
		}
		owned := 0
		defer func() { _ = m.note(-1, owned) }() // frees or keeps a slot, takes none
		ok, err := try()
		if ok {
			owned = 1
		}
		return err
	})
}

// Unlock leaves the mutex, with consistent false if what it guards is not in
// order. It returns ErrNotHeld if this handle does not hold it, and ErrLost if
// the process was thought dead and the mutex taken away.
func (m *Mutex) Unlock(consistent bool) error {
	return wrap(m.t.use(func() error {
		if !m.holds() {
			return ErrNotHeld
		}
		defer func() { _ = m.note(0, -1) }()
		return m.lock.Unlock(consistent)
	}), "unlock mutex %d", m.id)
}

func (m *Mutex) holds() bool {
	m.t.mutexes.mu.Lock()
	defer m.t.mutexes.mu.Unlock()
	return m.owned > 0
}

// Holder returns who holds the mutex; ok is false if it is free. The answer may
// be old. The holder may be dead.
func (m *Mutex) Holder() (h Holder, ok bool) {
	_ = m.t.use(func() error {
		region, generation, held := m.lock.Holder()
		h, ok = Holder{int(region), generation}, held
		return nil
	})
	return h, ok
}

// ID returns the mutex's number.
func (m *Mutex) ID() uint32 { return m.id }
