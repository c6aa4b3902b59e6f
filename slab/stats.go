package slab

import (
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Stats are a slab's figures, summed over its shards: of all processes, since the
// slab was made. They are counted in shared memory, under the shards' locks.
type Stats struct {
	Records       uint64 // records held, expired ones and claims included
	Cells         uint64 // cells they use
	TotalCells    uint64 // cells there are
	Bytes         uint64 // key and value bytes of the records
	Sets          uint64 // records written, claims included
	Deletes       uint64 // deletions that found a record
	EvictedFull   uint64 // records evicted to make room
	EvictedCutoff uint64 // records evicted by a cutoff
	EvictedTag    uint64 // records evicted by their tag
	Cleared       uint64 // records removed by Clear
	Expired       uint64 // records removed as they had expired
	MovedIn       uint64 // records that came from another tier
	MovedOut      uint64 // records that went to another tier or stack, or to a sink
	AgeMean       uint64 // milliseconds unused, on average, of the records evicted to make room
	AgeLast       uint64 // milliseconds unused, of the youngest among those each shard evicted last to make room
	Rebuilds      uint64 // shards rebuilt
	Steals        uint64 // locks found taken by the dead or left in need of repair
	Dropped       uint64 // records given up by rebuilds as damaged
	Overflow      uint64 // overflow buckets ever used at once since the last rebuild
}

// Stats returns the figures of the moment; they are read without a lock, so that
// they need not agree with each other. Some ten loads per shard.
func (s *Slab) Stats() (st Stats, err error) {
	defer s.leave(shm.Guard(), &err)
	var ages uint64
	for i := range s.shards {
		h := s.shards[i].head
		st.Records += uint64(h.Live.Load())
		st.Cells += uint64(h.Used.Load())
		st.TotalCells += uint64(s.geo.Cells)
		st.Bytes += h.Bytes.Load()
		st.Sets += h.Sets.Load()
		st.Deletes += h.Deletes.Load()
		st.EvictedFull += h.EvictedFull.Load()
		st.EvictedCutoff += h.EvictedCutoff.Load()
		st.EvictedTag += h.EvictedTag.Load()
		st.Cleared += h.Cleared.Load()
		st.Expired += h.Expired.Load()
		st.MovedIn += h.MovedIn.Load()
		st.MovedOut += h.MovedOut.Load()
		ages += h.AgeSum.Load()
		if age := h.AgeLast.Load(); age != 0 && (st.AgeLast == 0 || age < st.AgeLast) {
			st.AgeLast = age
		}
		st.Rebuilds += h.Rebuilds.Load()
		st.Steals += h.Steals.Load()
		st.Dropped += h.Dropped.Load()
		st.Overflow += uint64(h.OverflowBump.Load())
	}
	st.AgeMean = ages / max(st.EvictedFull, 1)
	return st, s.usable()
}

// Counters are what one handle did since it was opened.
type Counters struct {
	Hits      uint64 // lookups answered with a value
	Misses    uint64 // lookups answered with a miss
	Sets      uint64 // records written, claims not included
	Deletes   uint64 // deletions that found a record
	Rebuilds  uint64 // shards rebuilt
	LockWaits uint64 // locks that were not free at the first try
	Steals    uint64 // locks taken from the dead
}

// Counters returns this handle's figures, also after Close. They are kept in its
// process's own memory: a few loads per shard.
func (s *Slab) Counters() (c Counters) {
	for i := range s.shards {
		sh := &s.shards[i]
		c.Hits += sh.hits.Load()
		c.Misses += sh.misses.Load()
		c.Sets += sh.sets.Load()
		c.Deletes += sh.deletes.Load()
		c.Rebuilds += sh.rebuilds.Load()
	}
	c.LockWaits, c.Steals = s.locks.Waits.Load(), s.locks.Steals.Load()
	return c
}

// Stats returns the sums over the tiers. It is ErrStale if one was retired meanwhile,
// and with a tier missing the error says so.
func (st *Stack) Stats() (all Stats, err error) {
	for i := range st.tiers {
		of, err := st.tiers[i].Slab.Stats()
		if err != nil {
			return all, err
		}
		all.add(of)
	}
	return all, st.Missing
}

// add adds the figures of another slab.
func (s *Stats) add(o Stats) {
	ages := s.AgeMean*s.EvictedFull + o.AgeMean*o.EvictedFull
	if s.AgeLast == 0 || o.AgeLast != 0 && o.AgeLast < s.AgeLast {
		s.AgeLast = o.AgeLast
	}
	for _, f := range []struct {
		sum  *uint64
		more uint64
	}{
		{&s.Records, o.Records},
		{&s.Cells, o.Cells},
		{&s.TotalCells, o.TotalCells},
		{&s.Bytes, o.Bytes},
		{&s.Sets, o.Sets},
		{&s.Deletes, o.Deletes},
		{&s.EvictedFull, o.EvictedFull},
		{&s.EvictedCutoff, o.EvictedCutoff},
		{&s.EvictedTag, o.EvictedTag},
		{&s.Cleared, o.Cleared},
		{&s.Expired, o.Expired},
		{&s.MovedIn, o.MovedIn},
		{&s.MovedOut, o.MovedOut},
		{&s.Rebuilds, o.Rebuilds},
		{&s.Steals, o.Steals},
		{&s.Dropped, o.Dropped},
		{&s.Overflow, o.Overflow},
	} {
		*f.sum += f.more
	}
	s.AgeMean = ages / max(s.EvictedFull, 1)
}

// Counters returns the sums over the tiers.
func (st *Stack) Counters() (all Counters) {
	for i := range st.tiers {
		all.Add(st.tiers[i].Slab.Counters())
	}
	return all
}

// Add adds the figures of another slab.
func (c *Counters) Add(o Counters) {
	c.Hits += o.Hits
	c.Misses += o.Misses
	c.Sets += o.Sets
	c.Deletes += o.Deletes
	c.Rebuilds += o.Rebuilds
	c.LockWaits += o.LockWaits
	c.Steals += o.Steals
}

// Len returns the number of records held, expired ones, claims and ids included. One
// load per shard and tier.
func (st *Stack) Len() (n uint64, err error) {
	defer st.leave(shm.Guard(), &err)
	for i := range st.columns {
		for _, sh := range st.columns[i].tiers {
			n += uint64(sh.head.Live.Load())
		}
	}
	if err := st.usable(); err != nil {
		return 0, err
	}
	return n, st.Missing
}

// Holder is who holds a shard's lock.
type Holder struct {
	Shard              int
	Region, Generation uint32
}

// Holders returns the shards that are locked at this moment, and by whom: a
// glance without a lock.
func (st *Stack) Holders() (out []Holder, err error) {
	defer st.leave(shm.Guard(), &err)
	for i := range st.shards {
		if region, generation, ok := st.shards[i].mutex.Holder(); ok {
			out = append(out, Holder{i, region, generation})
		}
	}
	return out, st.usable()
}
