package flagstone

import (
	"context"
	"errors"
	"fmt"

	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// attach makes the first view: it finds the primary slab, or makes it.
func (c *Cache) attach(ctx context.Context, g slab.Geometry, mustExist bool) error {
	err := c.refresh(nil)
	if !errors.Is(err, ErrNotFound) || mustExist || c.control == nil {
		return err
	}
	// One of many first openers makes the slab; it may die, and the next finds none.
	return c.control.Exclusive(ctx, func() error {
		if err := c.refresh(nil); !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := c.create(g); err != nil {
			return err
		}
		return c.refresh(nil)
	})
}

// create makes and publishes the primary slab.
func (c *Cache) create(g slab.Geometry) error {
	r, err := c.control.Reserve(table.Spec{
		Kind: table.KindSlab, Tier: 0, Name: "primary", Size: g.FileSize(),
		Params: [4]uint64{uint64(g.Shards), uint64(g.Cells), uint64(g.CellSize), g.Capacity},
	})
	if err != nil {
		return err
	}
	seg, err := r.Create()
	if err != nil {
		return errors.Join(err, r.Abort())
	}
	id := r.Entry().SegmentID
	if err = slab.Format(seg, g, c.identity(id), c.table.Wall()); err == nil {
		_, err = r.Publish()
	}
	if err != nil {
		err = errors.Join(err, r.Abort())
	}
	c.control.Detach(id)
	return errors.Join(err, seg.Close())
}

func (c *Cache) identity(segment uint64) slab.Identity {
	return slab.Identity{SegmentID: segment, Domain: c.table.UUID(), HashSeed: c.table.HashSeed()}
}

// refresh makes a view in place of old, which other goroutines may have replaced
// already. The value of `changes` is loaded before the directory is read, so a
// slab published later makes the view look stale (publish.pml BREAK_VIEW).
func (c *Cache) refresh(old *view) error {
	c.refreshing.Lock()
	defer c.refreshing.Unlock()
	if c.view.Load() != old {
		return nil
	}
	if err := c.table.Usable(); err != nil {
		return err
	}
	next := &view{changes: c.table.Changes()}
	entry, ok := c.primary()
	switch {
	case old == nil && !ok:
		return fmt.Errorf("%w: domain %s has no primary slab", ErrNotFound, c.table.Name())
	case old == nil:
		s, err := c.open(entry)
		if err != nil {
			return err
		}
		next.segment, next.slab = entry.SegmentID, s
	case ok && old.segment == entry.SegmentID:
		next.segment, next.slab = old.segment, old.slab
	default:
		return fmt.Errorf("%w: primary slab %016x was retired", ErrDestroyed, old.segment)
	}
	c.view.Store(next)
	c.table.Acknowledge(next.changes)
	return nil
}

// primary returns the directory entry of the slab that is searched first.
func (c *Cache) primary() (table.Entry, bool) {
	for _, e := range c.table.Entries() {
		if e.Kind == table.KindSlab && e.Tier == 0 && e.State.Published() {
			return e, true
		}
	}
	return table.Entry{}, false
}

// open maps a published slab.
func (c *Cache) open(e table.Entry) (*slab.Slab, error) {
	seg, err := c.table.Attach(e)
	if err != nil {
		return nil, err
	}
	s, err := slab.Open(seg, c.domain, c.identity(e.SegmentID))
	if err != nil {
		c.table.Detach(e.SegmentID)
		return nil, errors.Join(err, seg.Close())
	}
	return s, nil
}

// stale reports whether the directory has changed since the view was made, and
// if so replaces *v, so that a miss is looked up again. It is asked after a miss:
// one load of `changes` at the end of the lookup (publish.pml BREAK_VIEW).
// Looks counts, so that peers who change the directory without end cannot hold
// a lookup: past the bound it is ErrBusy.
func (c *Cache) stale(v **view, looks *int, err *error) bool {
	if c.table.Changes() == (*v).changes {
		return false
	}
	if *looks++; *looks > mostLooks {
		*err = fmt.Errorf("%w: the directory keeps changing", ErrBusy)
		return false
	}
	before := *v
	if *err = c.refresh(before); *err != nil {
		return false
	}
	*v = c.view.Load()
	return true
}

// missed is stale, and sees to it that each of n misses counts once in the end,
// however often it is looked up. Counted says that the slab has counted them.
func (c *Cache) missed(v **view, looks *int, err *error, n int, counted bool) (again bool) {
	again = c.stale(v, looks, err)
	switch final := !again && *err == nil; {
	case final && !counted:
		c.misses.Add(int64(n))
	case counted && !final:
		c.misses.Add(-int64(n))
	}
	return again
}

// mostLooks bounds how often a miss is looked up again.
const mostLooks = 16

// fresh returns a view that was up to date during the call.
func (c *Cache) fresh() (*view, error) {
	c.pulse.beat()
	v := c.view.Load()
	var err error
	looks := 0
	c.stale(&v, &looks, &err)
	return v, err
}
