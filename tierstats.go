package flagstone

import (
	"errors"
	"time"

	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// TierStats are the figures of one slab of the cache.
type TierStats struct {
	Name  string
	ID    uint64      // of the segment, by which the directory and events name it
	Tier  int         // its place in the order of the search
	State table.State // in the directory: StateOpen takes records, StateDraining none

	slab.Stats // what is in this slab, and what happened in it since it was made
	Geometry   slab.Geometry
	FileSize   uint64 // bytes
	Headroom   uint64 // cells beyond the capacity

	// Oldest is how long the record was unused that was unused for longest, of those that
	// go next in their shards, at this moment; 0 if that is not known, as in an empty slab.
	Oldest time.Duration

	// HitsOwn are lookups of this handle that this slab answered. HitsTotal are those
	// of all handles that ever were which a slab of this tier number answered, earlier
	// ones included; from tier layout.TierCounters-1 on, of all those tiers.
	HitsOwn, HitsTotal uint64
}

// TierStats returns the figures of each slab in the order of the search: those of the
// moment, which need not agree with each other nor with Stats. ErrUnattached says
// that this process has not got all of them; it comes with the others. About 1 us per
// shard and tier, and per open handle.
func (c *Cache) TierStats() (all []TierStats, err error) {
	c.table.Tick()
	err = c.figures(func(v *view) error {
		all = nil
		for _, t := range v.tiers {
			figures, err := t.slab.Stats()
			if err != nil {
				return err
			}
			fills, err := t.slab.Fills()
			if err != nil {
				return err
			}
			g := t.slab.Geometry()
			all = append(all, TierStats{
				Name: t.entry.Name, ID: t.entry.SegmentID, Tier: int(t.entry.Tier), State: t.entry.State,
				Stats: figures, Geometry: g, FileSize: g.FileSize(), Headroom: g.Headroom(),
				Oldest: oldest(fills, c.now()), HitsOwn: t.slab.Counters().Hits,
			})
		}
		return v.slab.Missing
	})
	c.publishCounters()
	total := c.total()
	for i := range all {
		all[i].HitsTotal = total.TierHits[min(all[i].Tier, len(total.TierHits)-1)]
	}
	return all, err
}

// oldest returns how long ago the oldest of the records was used that go next.
func oldest(fills []slab.Fill, now uint64) time.Duration {
	var unused uint64
	for _, f := range fills {
		if f.Known {
			unused = max(unused, now-min(f.Oldest, now))
		}
	}
	return millis(unused)
}

// figures reads what it asks of an up to date view, and again of a newer one where a
// slab was retired, and so closed, meanwhile.
func (c *Cache) figures(read func(*view) error) error {
	for looks := 0; ; looks++ {
		v, err := c.fresh()
		if err != nil {
			return err
		}
		err = read(v)
		if retired := errors.Is(err, ErrClosed) && c.view.Load() != v; !retired || looks == mostLooks {
			return err
		}
	}
}
