package flagstone

import (
	"context"
	"time"
)

// Pair is a record that EvictPairs removed. Scope is what Namespace.ID returned
// when the record was stored: as long as the namespace was not cleared, what it
// returns now.
type Pair struct {
	Key    []byte        // nil if ByHash
	Value  []byte        //
	Hash   uint64        // HashOf(Key), or the application's own; in a namespace that of id and key
	ByHash bool          // stored by SetHash
	Scope  uint64        // id of the namespace it was in, 0 if in none
	Idle   time.Duration // since its last use, to Options.Precision
}

// Evict removes up to limit records that were not used within olderThan, those
// unused for longest first, and returns their hashes in that order: HashOf of the
// key, or the application's own; in a namespace that of id and key. A limit of 0 or
// less removes none. It never removes one used more recently; one used at most
// Options.Precision and 30 ms earlier than that may stay. (Where no process could
// run for longer than that, stamps lie behind by as much.) It looks at every record
// without a lock, some milliseconds per million, and locks a shard for at most 64
// removals at a time, waiting until ctx ends. On an error it returns what it had
// removed. It is about all namespaces.
func (c *Cache) Evict(ctx context.Context, olderThan time.Duration, limit int) ([]uint64, error) {
	v, cutoff, err := c.cutoff(olderThan)
	if err != nil {
		return nil, err
	}
	return v.slab.Evict(ctx, cutoff, limit)
}

// EvictPairs is Evict, returning the records.
func (c *Cache) EvictPairs(ctx context.Context, olderThan time.Duration, limit int) ([]Pair, error) {
	v, cutoff, err := c.cutoff(olderThan)
	if err != nil {
		return nil, err
	}
	removed, err := v.slab.EvictPairs(ctx, cutoff, limit)
	now := c.now()
	pairs := make([]Pair, len(removed))
	for i, r := range removed {
		pairs[i] = Pair{
			Value: r.Value, Hash: r.Hash, ByHash: r.ByHash, Scope: r.Scope,
			Idle: millis(now - min(r.LastUse, now)),
		}
		if !r.ByHash {
			pairs[i].Key = r.Key
		}
	}
	return pairs, err
}

// EvictNear is Evict, beginning with the records in the same bucket of the index
// as key, so that room near a key that is about to be stored costs no look at the
// others.
func (c *Cache) EvictNear(ctx context.Context, key []byte, olderThan time.Duration, limit int) ([]uint64, error) {
	v, cutoff, err := c.cutoff(olderThan)
	if err != nil {
		return nil, err
	}
	return v.slab.EvictNear(ctx, v.slab.Key(key), cutoff, limit)
}

// EvictNearHash is EvictNear for an application's own hash.
func (c *Cache) EvictNearHash(ctx context.Context, hash uint64, olderThan time.Duration, limit int) ([]uint64, error) {
	v, cutoff, err := c.cutoff(olderThan)
	if err != nil {
		return nil, err
	}
	var buf [8]byte
	return v.slab.EvictNear(ctx, v.slab.HashKey(hash, &buf), cutoff, limit)
}

// EvictTag removes up to limit records with the tag, of all namespaces, those
// unused for longest first, however lately used, and returns their hashes, as Evict
// does, in that order. With math.MaxInt as limit none that was there before the call is left; tag
// 0 is all that have none. Cost and waits are as in Evict.
func (c *Cache) EvictTag(ctx context.Context, tag uint32, limit int) ([]uint64, error) {
	v, err := c.fresh()
	if err != nil {
		return nil, err
	}
	return v.slab.EvictTag(ctx, tag, limit)
}

// Clear removes everything that was there before the call, of all namespaces; of
// what is set meanwhile some may stay. Who loads a value at the time of the call is
// not going to store it. It locks shards for a thousand records at a time, waiting until ctx ends.
func (c *Cache) Clear(ctx context.Context) error {
	v, err := c.fresh()
	if err != nil {
		return err
	}
	return v.slab.Clear(ctx)
}

// Len returns the number of records that take room, those that have expired, ids of
// namespaces and claims included: of all namespaces, also what was in one before it
// was cleared, until it is replaced or evicted. There is an id for each namespace in
// use and a claim for each value being loaded, or whose error is kept. It costs a
// load per shard.
func (c *Cache) Len() (uint64, error) {
	v, err := c.fresh()
	if err != nil {
		return 0, err
	}
	return v.slab.Len()
}

// cutoff returns the domain time that lies olderThan back.
func (c *Cache) cutoff(olderThan time.Duration) (*view, uint64, error) {
	v, err := c.fresh()
	c.table.Tick()
	now, back := c.now(), uint64(max(olderThan, 0)/time.Millisecond)
	return v, now - min(back, now), err
}
