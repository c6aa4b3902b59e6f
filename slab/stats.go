package slab

import "github.com/flagstone-shm/flagstone/internal/shm"

// Stats are a slab's figures, summed over its shards. All but the last group are
// counted in shared memory, for all processes since the slab was made.
type Stats struct {
	Records       uint64 // records held, expired ones included
	Cells         uint64 // cells they use
	TotalCells    uint64 // cells there are
	Bytes         uint64 // key and value bytes of the records
	Sets          uint64 // records written
	Deletes       uint64 // deletions that found a record
	EvictedFull   uint64 // records evicted to make room
	EvictedCutoff uint64 // records evicted by a cutoff
	EvictedTag    uint64 // records evicted by their tag
	Cleared       uint64 // records removed by Clear
	AgeMean       uint64 // milliseconds unused, on average, of the records evicted to make room
	AgeLast       uint64 // milliseconds unused, of the youngest among those each shard evicted last to make room
	Rebuilds      uint64 // shards rebuilt
	Steals        uint64 // locks found taken by the dead or left in need of repair
	Dropped       uint64 // records given up by rebuilds as damaged
	Overflow      uint64 // overflow buckets ever used at once since the last rebuild

	Hits        uint64 // this handle: lookups answered with a value
	Misses      uint64 // this handle: lookups answered with a miss
	OwnSets     uint64 // this handle: records written
	OwnDels     uint64 // this handle: deletions that found a record
	OwnRebuilds uint64 // this handle: shards rebuilt
	LockWaits   uint64 // this handle: locks that were not free at the first try
	LockTaken   uint64 // this handle: locks taken from the dead
}

// Stats returns the figures of the moment; they are read without a lock, so that
// they need not agree with each other.
func (s *Slab) Stats() (st Stats, err error) {
	defer s.leave(shm.Guard(), &err)
	var ages uint64
	for i := range s.shards {
		sh := &s.shards[i]
		st.Records += uint64(sh.head.Live.Load())
		st.Cells += uint64(sh.head.Used.Load())
		st.TotalCells += uint64(s.geo.Cells)
		st.Bytes += sh.head.Bytes.Load()
		st.Sets += sh.head.Sets.Load()
		st.Deletes += sh.head.Deletes.Load()
		st.EvictedFull += sh.head.EvictedFull.Load()
		st.EvictedCutoff += sh.head.EvictedCutoff.Load()
		st.EvictedTag += sh.head.EvictedTag.Load()
		st.Cleared += sh.head.Cleared.Load()
		ages += sh.head.AgeSum.Load()
		if age := sh.head.AgeLast.Load(); age != 0 && (st.AgeLast == 0 || age < st.AgeLast) {
			st.AgeLast = age
		}
		st.Rebuilds += sh.head.Rebuilds.Load()
		st.Steals += sh.head.Steals.Load()
		st.Dropped += sh.head.Dropped.Load()
		st.Overflow += uint64(sh.head.OverflowBump.Load())
		st.Hits += sh.hits.Load()
		st.Misses += sh.misses.Load()
		st.OwnSets += sh.sets.Load()
		st.OwnDels += sh.deletes.Load()
		st.OwnRebuilds += sh.rebuilds.Load()
	}
	st.AgeMean = ages / max(st.EvictedFull, 1)
	st.LockWaits, st.LockTaken = s.locks.Waits.Load(), s.locks.Steals.Load()
	return st, s.usable()
}

// Len returns the number of records held, expired ones, claims and ids included. One
// load per shard.
func (s *Slab) Len() (n uint64, err error) {
	defer s.leave(shm.Guard(), &err)
	for i := range s.shards {
		n += uint64(s.shards[i].head.Live.Load())
	}
	return n, s.usable()
}

// Holder is who holds a shard's lock.
type Holder struct {
	Shard              int
	Region, Generation uint32
}

// Holders returns the shards that are locked at this moment, and by whom: a
// glance without a lock.
func (s *Slab) Holders() (out []Holder, err error) {
	defer s.leave(shm.Guard(), &err)
	for i := range s.shards {
		if region, generation, ok := s.shards[i].mutex.Holder(); ok {
			out = append(out, Holder{i, region, generation})
		}
	}
	return out, s.usable()
}
