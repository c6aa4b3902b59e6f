package flagstone

import (
	"context"
	"fmt"

	"github.com/flagstone-shm/flagstone/table"
)

// Slab is one slab of a cache. Its operations on keys are those of the stack that it
// belongs to: they mean the same whichever slab holds the key.
type Slab struct {
	scope
	entry table.Entry
}

// Name returns the name it was given when it was made.
func (s *Slab) Name() string { return s.entry.Name }

// ID returns its segment id, by which the directory and events name it.
func (s *Slab) ID() uint64 { return s.entry.SegmentID }

// Tier returns its place in the order of the search; 0 is the first.
func (s *Slab) Tier() int { return int(s.entry.Tier) }

// Tiers returns the slabs of the cache in the order of the search.
func (c *Cache) Tiers() ([]*Slab, error) {
	v, err := c.fresh()
	if err != nil {
		return nil, err
	}
	var all []*Slab
	for _, t := range v.tiers {
		all = append(all, &Slab{scope{cache: c}, t.entry})
	}
	return all, v.slab.Missing
}

// Drain moves every record of the slab to other tiers and retires it: its memory is
// given back. What has expired goes. If there is no room elsewhere it stops, returns
// ErrFull, or ErrTooLarge where the limits of the others are smaller, with what it has
// moved, and the slab takes records again. On other errors, ErrBusy when ctx ends, it
// stays draining: it takes no records, and anybody, the steward too, may go on. The
// first slab cannot be drained (ErrOptions). ErrRetired says that it is gone.
func (s *Slab) Drain(ctx context.Context) (moved int, err error) {
	switch {
	case s.cache.control == nil:
		err = s.cache.alone()
	case s.entry.Tier == 0:
		err = fmt.Errorf("%w: it is tier 0", ErrOptions)
	default:
		moved, err = s.cache.drain(ctx, s.entry, 0)
	}
	if err != nil {
		err = fmt.Errorf("drain slab %q: %w", s.entry.Name, err)
	}
	return moved, err
}
