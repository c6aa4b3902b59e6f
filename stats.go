package flagstone

import (
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// Stats are the cache's figures and its shape.
type Stats struct {
	// What is in the cache, and what happened in it since it was made. Sets counts
	// claims too, which Own.Sets does not. AgeMean and AgeLast are milliseconds.
	slab.Stats

	Geometry slab.Geometry
	FileSize uint64 // bytes
	Headroom uint64 // cells beyond the capacity: for uneven hashing and replacing

	// Own is what this handle did, Total what all did that ever were, in independent
	// slabs too. What a process did in the second before it was killed is missing in
	// Total.
	Own, Total Counters
	Processes  []Process // the handles that are open, and those of the dead not yet cleaned up
}

// Process is a handle that some process has on the cache.
type Process struct {
	table.Region
	Counters Counters // in the place of the region's: about a second old
}

// Counters count operations: of a handle since it was opened, or of several.
type Counters struct {
	Hits       uint64 // lookups answered with a value
	Misses     uint64 // lookups answered with a miss
	Sets       uint64 // records written
	Deletes    uint64 // deletions that found a record
	LockWaits  uint64 // locks that were not free at the first try
	Steals     uint64 // locks taken from the dead
	Rebuilds   uint64 // shards rebuilt
	Loads      uint64 // values computed by GetOrLoad
	LoadErrors uint64 // computations that failed
	LoadWaits  uint64 // lookups that waited for another's computation
	Stale      uint64 // lookups answered with an expired value while another computed
	Refused    uint64 // computed values that were not stored: late, or there was no room

	// TierHits are the hits by tier number, whichever slabs had it; those of deeper tiers
	// count in the last.
	TierHits [layout.TierCounters]uint64
}

// words are the counters by their index in shared memory.
func (c *Counters) words() []*uint64 {
	words := []*uint64{
		layout.CounterHits: &c.Hits, layout.CounterMisses: &c.Misses,
		layout.CounterSets: &c.Sets, layout.CounterDeletes: &c.Deletes,
		layout.CounterLockWaits: &c.LockWaits, layout.CounterSteals: &c.Steals,
		layout.CounterRebuilds: &c.Rebuilds,
		layout.CounterLoads:    &c.Loads, layout.CounterLoadErrors: &c.LoadErrors,
		layout.CounterLoadWaits: &c.LoadWaits, layout.CounterStale: &c.Stale,
		layout.CounterRefused: &c.Refused,
	}
	for i := range c.TierHits {
		words = append(words, &c.TierHits[i])
	}
	return words
}

// add adds a region's counters.
func (c *Counters) add(region [32]uint64) {
	for i, word := range c.words() {
		*word += region[i]
	}
}

// plus adds another handle's.
func (c *Counters) plus(o Counters) {
	others := o.words()
	for i, word := range c.words() {
		*word += *others[i]
	}
}

// Stats returns the figures of the moment, which need not agree with each other.
// About 1 us per shard and per open handle.
func (c *Cache) Stats() (Stats, error) {
	var figures slab.Stats
	var g slab.Geometry
	err := c.figures(func(v *view) (err error) {
		g = v.tiers[0].slab.Geometry()
		figures, err = v.slab.Stats()
		return err
	})
	if g.Shards == 0 { // not even a view
		return Stats{}, err
	}
	c.publishCounters()
	st := Stats{Stats: figures, Geometry: g, FileSize: g.FileSize(), Headroom: g.Headroom(), Own: c.own()}
	for _, r := range c.table.Regions() {
		p := Process{Region: r}
		p.Counters.add(r.Counters)
		st.Processes = append(st.Processes, p)
	}
	st.Total = c.total()
	return st, err
}

// total sums up what all handles published.
func (c *Cache) total() (all Counters) {
	all.add(c.table.Totals())
	return all
}

// own returns what this handle did in the stack.
func (c *Cache) own() Counters {
	of, loads := c.counted(), &c.loads
	return Counters{
		Hits: of.Hits, Misses: uint64(max(int64(of.Misses)+c.misses.Load(), 0)), Sets: of.Sets, Deletes: of.Deletes,
		LockWaits: of.LockWaits, Steals: of.Steals, Rebuilds: of.Rebuilds,
		Loads: loads.loads.Load(), LoadErrors: loads.errors.Load(), LoadWaits: loads.waits.Load(),
		Stale: loads.stale.Load(), Refused: loads.refused.Load(), TierHits: of.hits,
	}
}

// past are the figures of slabs that this handle has let go of.
type past struct {
	slab.Counters
	hits [layout.TierCounters]uint64 // by tier
}

func (p *past) add(t tier) {
	of := t.slab.Counters()
	p.Counters.Add(of)
	p.hits[min(t.entry.Tier, layout.TierCounters-1)] += of.Hits
}

// counted returns the figures of all slabs that ever were in this handle's view.
func (c *Cache) counted() past {
	c.refreshing.Lock()
	defer c.refreshing.Unlock()
	all := c.past
	for _, t := range c.view.Load().tiers {
		all.add(t)
	}
	return all
}

// Holders returns which shards are locked at this moment, and by whom.
func (c *Cache) Holders() ([]slab.Holder, error) {
	v, err := c.fresh()
	if err != nil {
		return nil, err
	}
	return v.slab.Holders()
}
