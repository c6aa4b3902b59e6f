package flagstone

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// holding are the mutexes that a cache holds, by the segment ids of their slabs: a
// mutex's number goes on to the next slab of its directory entry.
type holding struct {
	mu    sync.Mutex // guards locks
	locks map[uint64]grip
}

// grip is a slab's mutex, and for LockWriters what was locked with it.
type grip struct {
	mutex   uint32
	writers *slab.Locked
}

// note takes a mutex down.
func (h *holding) note(e *table.Entry, writers *slab.Locked) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.locks == nil {
		h.locks = map[uint64]grip{}
	}
	h.locks[e.SegmentID] = grip{e.MutexID, writers}
}

// strike takes a mutex off.
func (h *holding) strike(segment uint64) (l grip, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l, ok = h.locks[segment]
	delete(h.locks, segment)
	return l, ok
}

// release leaves all that is held, the mutexes as in need of repair.
func (h *holding) release(c *Cache) (err error) {
	h.mu.Lock()
	locks := h.locks
	h.locks = nil
	h.mu.Unlock()
	for _, l := range locks {
		err = errors.Join(err, c.unlock(l, false))
	}
	return err
}

// unlock leaves a mutex and the locks that go with it, these first: who takes the
// mutex next would wait for them.
func (c *Cache) unlock(l grip, consistent bool) (err error) {
	if l.writers != nil {
		err = l.writers.Unlock()
	}
	m, e := c.control.Mutex(l.mutex)
	if e == nil {
		e = m.Unlock(consistent)
	}
	return errors.Join(err, e)
}

// Lock takes the slab's mutex, which is the application's: it keeps others that call
// Lock, TryLock or LockWriters of this slab out, in all processes, and no other
// operation. It waits until ctx ends (ErrBusy). Consistent is false if the last holder
// died, or said so in Unlock: what the application guards with it may be half done. A
// holder that dies is noticed within milliseconds, one that is stopped is waited for.
// It may be left by any goroutine, and any Slab of this handle. It returns
// table.ErrTooManyHeld if the handle holds as many mutexes as its region can list.
// About 0.2 us.
func (s *Slab) Lock(ctx context.Context) (consistent bool, err error) {
	consistent, err = s.lock(ctx)
	if err == nil {
		err = s.keep(nil, consistent)
	}
	return consistent && err == nil, s.failed("lock", err)
}

// TryLock is Lock if nobody living holds the mutex, without waiting. Ok says whether it
// took it.
func (s *Slab) TryLock() (ok, consistent bool, err error) {
	m, err := s.mutex()
	if err == nil {
		ok, consistent, err = m.TryLock()
	}
	if ok && err == nil {
		err = s.keep(nil, consistent)
	}
	ok = ok && err == nil
	return ok, ok && consistent, s.failed("try the lock", err)
}

// LockWriters is Lock, and then takes the locks of all shards of the cache that the
// slab belongs to, so that until Unlock nobody sets, deletes, moves or evicts in it:
// what All and Get find is of one moment. Get and other lookups go on, in all
// processes; writers wait, those of this handle too: the holder must not write, but
// with ErrBusy when its context ends. Hits below the first tier are not moved up
// meanwhile. It waits until ctx ends and then gives back what it has. A holder that
// dies is noticed as in Lock, and its shards are rebuilt one by one. Two of them, of
// slabs of two caches, are to be taken in one order everywhere. About 0.2 us a shard.
func (s *Slab) LockWriters(ctx context.Context) (consistent bool, err error) {
	consistent, err = s.lock(ctx)
	if err != nil {
		return false, s.failed("lock", err)
	}
	var writers *slab.Locked
	err = s.cache.update(ctx, func(v *view) (err error) {
		writers, err = v.slab.LockAll(ctx)
		return err
	})
	if err != nil {
		err = errors.Join(err, s.cache.unlock(grip{mutex: s.entry.MutexID}, consistent))
		return false, s.failed("lock the writers out of", err)
	}
	err = s.keep(writers, consistent)
	return consistent && err == nil, s.failed("lock the writers out of", err)
}

// Unlock ends Lock, TryLock or LockWriters. With consistent false the next holder is
// told that what the mutex guards is half done. It returns ErrNotHeld if this handle
// does not hold it, ErrLost if the process was thought dead and it was taken away.
func (s *Slab) Unlock(consistent bool) error {
	l, ok := s.cache.holding.strike(s.entry.SegmentID)
	if !ok {
		return s.failed("unlock", ErrNotHeld)
	}
	return s.failed("unlock", s.cache.unlock(l, consistent))
}

// mutex returns this handle's end of the slab's mutex.
func (s *Slab) mutex() (*table.Mutex, error) {
	if s.cache.control == nil {
		return nil, s.cache.alone()
	}
	return s.cache.control.Mutex(s.entry.MutexID)
}

func (s *Slab) lock(ctx context.Context) (consistent bool, err error) {
	m, err := s.mutex()
	if err != nil {
		return false, err
	}
	return m.Lock(ctx)
}

// keep notes what was taken, unless the slab is gone: then the mutex may be another
// slab's by now.
func (s *Slab) keep(writers *slab.Locked, consistent bool) error {
	c := s.cache
	c.holding.note(&s.entry, writers)
	err := c.over() // after the note: who ends the cache releases what is noted
	if err == nil && c.control.Retired(s.entry) {
		err = fmt.Errorf("%w: segment %016x", ErrRetired, s.entry.SegmentID)
	}
	if err == nil {
		return nil
	}
	if l, ok := c.holding.strike(s.entry.SegmentID); ok {
		err = errors.Join(err, c.unlock(l, consistent))
	}
	return err
}

// over returns why the cache has ended, if it has.
func (c *Cache) over() error {
	c.refreshing.Lock()
	defer c.refreshing.Unlock()
	return c.ended
}

// failed says of which slab the error is.
func (s *Slab) failed(step string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s slab %q: %w", step, s.entry.Name, err)
}
