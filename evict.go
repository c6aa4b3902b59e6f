package flagstone

import (
	"context"
	"fmt"
	"time"

	"github.com/flagstone-shm/flagstone/slab"
)

// Pair is a record that EvictPairs removed, with all that InsertBatch needs to store
// it elsewhere. Scope is what Namespace.ID returned when the record was stored: as long
// as the namespace was not cleared, what it returns now.
type Pair struct {
	Key      []byte        // nil if ByHash
	Value    []byte        //
	Hash     uint64        // HashOf(Key), or the application's own; in a namespace that of id and key
	ByHash   bool          // stored by SetHash
	Scope    uint64        // id of the namespace it was in, 0 if in none
	Idle     time.Duration // since its last use, to Options.Precision
	Expires  time.Time     // when the value is no longer good, to the millisecond; zero is never
	StaleFor time.Duration // as in Item
	Tag      uint32        // as in Item
	Token    Token         // of the write that stored it
	origin   uint64        // segment id of tier 0 of the cache it was in
}

// Evict removes up to limit records that were not used within olderThan, those
// unused for longest first, and returns their hashes in that order: HashOf of the
// key, or the application's own; in a namespace that of id and key. A limit of 0 or
// less removes none. It never removes one used more recently; one used at most
// Options.Precision and 30 ms earlier than that may stay. (Where no process could
// run for longer than that, stamps lie behind by as much.) It looks at every record
// without a lock, some tens of milliseconds per million, and locks a shard for at most 64
// removals at a time, waiting until ctx ends. On an error it returns what it had
// removed. It is about all namespaces.
func (c *Cache) Evict(ctx context.Context, olderThan time.Duration, limit int) ([]uint64, error) {
	return c.evictHashes(ctx, limit, func(v *view, limit int) ([]uint64, error) {
		return v.slab.Evict(ctx, c.cutoff(olderThan), limit)
	})
}

// EvictPairs is Evict, returning the records.
func (c *Cache) EvictPairs(ctx context.Context, olderThan time.Duration, limit int) ([]Pair, error) {
	return c.evictPairs(ctx, limit, func(v *view, limit int) ([]slab.Pair, error) {
		return v.slab.EvictPairs(ctx, c.cutoff(olderThan), limit)
	})
}

// EvictNear is Evict, beginning with the records in the same bucket of the index
// as key, so that room near a key that is about to be stored costs no look at the
// others.
func (c *Cache) EvictNear(ctx context.Context, key []byte, olderThan time.Duration, limit int) ([]uint64, error) {
	return c.evictHashes(ctx, limit, func(v *view, limit int) ([]uint64, error) {
		return v.slab.EvictNear(ctx, v.slab.Key(key), c.cutoff(olderThan), limit)
	})
}

// EvictNearHash is EvictNear for an application's own hash.
func (c *Cache) EvictNearHash(ctx context.Context, hash uint64, olderThan time.Duration, limit int) ([]uint64, error) {
	var buf [8]byte
	return c.evictHashes(ctx, limit, func(v *view, limit int) ([]uint64, error) {
		return v.slab.EvictNear(ctx, v.slab.HashKey(hash, &buf), c.cutoff(olderThan), limit)
	})
}

// EvictTag removes up to limit records with the tag, of all namespaces, those
// unused for longest first, however lately used, and returns their hashes, as Evict
// does, in that order. With math.MaxInt as limit none that was there before the call is
// left; tag 0 is all that have none. Cost and waits are as in Evict; ErrBusy also says that
// records kept moving between slabs.
func (c *Cache) EvictTag(ctx context.Context, tag uint32, limit int) ([]uint64, error) {
	return c.evictHashes(ctx, limit, func(v *view, limit int) ([]uint64, error) {
		return v.slab.EvictTag(ctx, tag, limit)
	})
}

// Clear removes everything that was there before the call, of all namespaces; of
// what is set meanwhile some may stay. Who loads a value at the time of the call is
// not going to store it. It locks shards for a thousand records at a time, waiting until
// ctx ends; ErrBusy also says that records kept moving between slabs.
func (c *Cache) Clear(ctx context.Context) error {
	return c.update(ctx, func(v *view) error { return v.slab.Clear(ctx) })
}

// Len returns the number of records that take room, those that have expired, ids of
// namespaces and claims included: of all namespaces, also what was in one before it
// was cleared, until it is replaced or evicted. There is an id for each namespace in
// use and a claim for each value being loaded, or whose error is kept. It costs a
// load per shard and slab.
func (c *Cache) Len() (uint64, error) {
	v, err := c.fresh()
	if err != nil {
		return 0, err
	}
	return v.slab.Len()
}

// cutoff returns the domain time that lies olderThan back.
func (c *Cache) cutoff(olderThan time.Duration) uint64 {
	c.table.Tick()
	now, back := c.now(), uint64(max(olderThan, 0)/time.Millisecond)
	return now - min(back, now)
}

// evictHashes gathers what evict removes from the view's stack, and from newer ones
// if the directory changes meanwhile.
func (c *Cache) evictHashes(ctx context.Context, limit int, evict func(v *view, limit int) ([]uint64, error)) (all []uint64, err error) {
	err = c.update(ctx, func(v *view) error {
		some, err := evict(v, limit-len(all))
		all = append(all, some...)
		return err
	})
	return all, err
}

// evictPairs is evictHashes for records.
func (c *Cache) evictPairs(ctx context.Context, limit int, evict func(v *view, limit int) ([]slab.Pair, error)) (all []Pair, err error) {
	err = c.update(ctx, func(v *view) error {
		some, err := evict(v, limit-len(all))
		for i := range some {
			p := c.pair(&some[i])
			p.origin = v.tiers[0].entry.SegmentID
			all = append(all, p)
		}
		return err
	})
	return all, err
}

// pair returns the record as the application sees it.
func (c *Cache) pair(r *slab.Pair) Pair {
	now := c.now()
	p := Pair{
		Value: r.Value, Hash: r.Hash, ByHash: r.ByHash, Scope: r.Scope,
		Idle:     millis(now - min(r.LastUse, now)),
		StaleFor: time.Duration(r.Stale) * time.Second, Tag: r.Tag, Token: Token(r.Version),
	}
	if r.Expiry != 0 {
		p.Expires = time.UnixMilli(int64(r.Expiry)) // of 48 bits
	}
	if !r.ByHash {
		p.Key = r.Key
	}
	return p
}

// Evict is Cache.Evict for the records of this slab alone. In a cache of several tiers
// it leaves the namespaces' ids; what moves to another tier meanwhile stays. ErrRetired
// says that the slab is gone.
func (s *Slab) Evict(ctx context.Context, olderThan time.Duration, limit int) ([]uint64, error) {
	hashes, err := s.cache.evictHashes(ctx, limit, func(v *view, limit int) ([]uint64, error) {
		pairs, err := s.evictFrom(ctx, v, olderThan, limit, false)
		hashes := make([]uint64, len(pairs))
		for i := range pairs {
			hashes[i] = pairs[i].Hash
		}
		return hashes, err
	})
	return hashes, s.failed("evict from", err)
}

// EvictPairs is Evict, returning the records, for InsertBatch into another slab. Until
// then they are in neither, and are lost if this process dies: Move has no such moment.
func (s *Slab) EvictPairs(ctx context.Context, olderThan time.Duration, limit int) ([]Pair, error) {
	pairs, err := s.cache.evictPairs(ctx, limit, func(v *view, limit int) ([]slab.Pair, error) {
		return s.evictFrom(ctx, v, olderThan, limit, true)
	})
	return pairs, s.failed("evict from", err)
}

func (s *Slab) evictFrom(ctx context.Context, v *view, olderThan time.Duration, limit int, values bool) ([]slab.Pair, error) {
	of, err := s.in(v)
	if err != nil {
		return nil, err
	}
	return v.slab.EvictFrom(ctx, of, s.cache.cutoff(olderThan), limit, values)
}

// in returns the slab as the view has it.
func (s *Slab) in(v *view) (*slab.Slab, error) {
	t, ok := v.tier(s.entry.SegmentID)
	switch {
	case ok:
		return t.slab, nil
	case v.slab.Missing != nil:
		return nil, v.slab.Missing
	case s.cache.table.Changes() != v.changes: // it may have come since
		return nil, slab.ErrStale
	}
	return nil, fmt.Errorf("%w: slab %q, %016x", ErrRetired, s.entry.Name, s.entry.SegmentID)
}
