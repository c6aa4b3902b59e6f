package flagstone

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// Shape is how a slab is to be made, with units and ranges as in Options. What is zero
// is as there too; for a slab that Grow adds as in the cache's first one.
type Shape struct {
	Size             uint64        // bytes of the file at most
	Entries          uint64        // instead of Size: records of one cell that fit before the first leaves
	CellSize         int           // bytes
	MaxKey, MaxValue int           // bytes; keys and values have the first slab's limits, and smaller ones keep records out
	Shards           int           // Grow: 0, or as many as the first slab has
	OnFull           Policy        // Grow: where the first slab refuses this one does
	Precision        time.Duration // Grow: does not count, the first slab's does
	Order            Order
}

func (s Shape) slab() slab.Options {
	return slab.Options{
		Size: s.Size, Entries: s.Entries, CellSize: s.CellSize, MaxKey: s.MaxKey,
		MaxValue: s.MaxValue, Shards: s.Shards, OnFull: s.OnFull, Order: s.Order,
		StampMillis: int(orDefault(s.Precision, DefaultPrecision)/time.Millisecond) - 1,
	}
}

// below returns the shape with what is zero as in tier 0.
func (s Shape) below(g slab.Geometry) (Shape, error) {
	if s.Shards != 0 && s.Shards != int(g.Shards) {
		return s, fmt.Errorf("%w: %d shards, tier 0 has %d", ErrOptions, s.Shards, g.Shards)
	}
	s.Shards = int(g.Shards)
	if s.Size == 0 && s.Entries == 0 {
		s.Size = g.FileSize()
	}
	if s.CellSize == 0 {
		s.CellSize = int(g.CellSize)
	}
	if s.MaxKey == 0 {
		s.MaxKey = int(g.MaxKey)
	}
	if s.MaxValue == 0 {
		s.MaxValue = int(g.MaxValue)
	}
	if s.OnFull == 0 {
		s.OnFull = g.OnFull
	}
	if s.Precision == 0 {
		s.Precision = millis(uint64(g.StampMillis) + 1)
	}
	if s.Order == 0 {
		s.Order = g.Order
	}
	return s, nil
}

// Grow adds a slab below the others. Records that the ones above have no room for go
// there instead of out, and so do those that are moved. All processes attach it when
// they are woken, or at the latest when a miss or a write needs it. The name is up to 32
// bytes, not ending in zero; "" is tierN. The memory is reserved at once.
//
// It returns ErrNoSpace, with nothing made, if the file system has no room,
// table.ErrNoEntry if the directory is full, ErrOptions for a name or a shape that
// cannot be, or if there are 64 slabs (layout.MaxTiers), ErrBudget if all slabs but the
// first would take more than StewardOptions.Budget, ErrUnattached if this process cannot
// map a slab that is there, ErrReadOnly, and ErrUnsupported in a Private cache. It waits
// for other growers, and for first openers, until ctx ends (ErrBusy). If this process
// dies inside, others take back what it had made, or, if that was to be seen already,
// use it.
func (c *Cache) Grow(ctx context.Context, name string, shape Shape) (*Slab, error) {
	return c.grow(ctx, name, shape, 0)
}

// grow is Grow. If below is not 0, the segment id of the slab that the caller took to be
// the last one that takes records, it is ErrState if that is not so any more: two
// who see one need do not add two slabs.
func (c *Cache) grow(ctx context.Context, name string, shape Shape, below uint64) (*Slab, error) {
	if c.control == nil {
		return nil, fmt.Errorf("grow: %w", c.alone())
	}
	var e table.Entry
	var turns []turn
	err := c.control.Exclusive(ctx, func() error {
		v, came, err := c.freshQuietly() // with a tier that another grower has just added
		turns = came
		if err != nil {
			return err
		}
		if v.slab.Missing != nil {
			return v.slab.Missing
		}
		// From the directory itself: a grower that died may have published a slab and not
		// said so yet (steward.pml BREAK_LOOK).
		entries := c.stackEntries(v.tiers[0].entry.SegmentID)
		if len(entries) == 0 {
			return fmt.Errorf("slab %q: %w", c.slabName, ErrRetired)
		}
		last := entries[len(entries)-1]
		if open := v.open(); below != 0 && (len(open) == 0 || open[len(open)-1].entry.SegmentID != below) {
			return fmt.Errorf("slab %016x is not the last one: %w", below, ErrState)
		}
		if name == "" {
			name = fmt.Sprintf("tier%d", last.Tier+1)
		}
		if err := checkSlabName(name); err != nil {
			return err
		}
		if len(entries) >= layout.MaxTiers || last.Tier == math.MaxUint32 {
			return fmt.Errorf("%w: there are %d tiers, the last numbered %d", ErrOptions, len(entries), last.Tier)
		}
		if shape, err = shape.below(v.tiers[0].slab.Geometry()); err != nil {
			return err
		}
		g, err := slab.Plan(shape.slab())
		if err != nil {
			return err
		}
		if err := c.steward.allows(v, g.FileSize()); err != nil {
			return err
		}
		e, err = c.create(name, v.tiers[0].entry.SegmentID, last.Tier+1, g)
		return err
	})
	for _, t := range turns {
		c.tellSlabs(t.from, t.to, ByCall)
	}
	if err != nil {
		return nil, fmt.Errorf("grow %s: %w", c.table.Name(), err)
	}
	c.follow(ByCall)
	return &Slab{scope{cache: c}, e}, nil
}

// alone says why a cache has no directory to change.
func (c *Cache) alone() error {
	if c.domain.ReadOnly {
		return ErrReadOnly
	}
	return errPrivate{}
}

// errPrivate is ErrUnsupported, whatever the system.
type errPrivate struct{}

func (errPrivate) Error() string { return "a Private cache has no directory and no peers" }
func (errPrivate) Unwrap() error { return ErrUnsupported }

// drain empties a tier below the first and retires it. What no other tier has room for
// goes if it was last used before giveUp, domain time in milliseconds; if younger ones
// remain the slab is opened again, and the error is ErrFull or ErrTooLarge. On other
// errors it stays draining, for anybody to go on with.
func (c *Cache) drain(ctx context.Context, e table.Entry, giveUp uint64) (moved int, err error) {
	drain, err := c.control.Drain(e)
	if err != nil {
		return 0, err
	}
	c.follow(ByCall)
	empty := false
	err = c.update(ctx, func(v *view) error {
		t, ok := v.tier(e.SegmentID)
		if !ok && v.slab.Missing != nil {
			return v.slab.Missing
		}
		if !ok {
			return fmt.Errorf("slab %q: %w", e.Name, ErrRetired)
		}
		var n int
		n, empty, err = v.slab.Empty(ctx, t.slab, giveUp)
		moved += n
		return err
	})
	switch {
	case errors.Is(err, ErrFull), errors.Is(err, ErrTooLarge):
		_, undone := c.control.Reopen(drain)
		return moved, errors.Join(err, undone)
	case err != nil:
		return moved, err
	case !empty: // somebody has opened it meanwhile
		return moved, fmt.Errorf("slab %q takes records again: %w", e.Name, ErrState)
	}
	err = c.control.Retire(drain)
	c.follow(ByCall)
	return moved, err
}
