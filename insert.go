package flagstone

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
)

// InsertBatch stores records that EvictPairs returned in this slab, with their expiry,
// tag and last use; the tokens are new. Into the cache that they are from they go
// only if their key has no value in any tier by then: what was set meanwhile is newer,
// and stays. Into another cache they go in place of what is there. Scope counts as it
// is: for another cache, whose namespaces have other ids, set it to what Namespace.ID
// returns there.
//
// It returns how many records are done with, and puts them first: pairs[n:] were not
// stored. Those are, with ErrFull, what the slab has no room for and refuses, or all
// if it is draining; with ErrTooLarge, what is beyond its limits; with another error,
// what was not come to. ErrRetired says that the slab is gone. It locks shards for at
// most 64 records at a time, waiting until ctx ends (ErrBusy). Others see the records
// appear one by one; if this process dies, some have.
func (s *Slab) InsertBatch(ctx context.Context, pairs []Pair) (n int, err error) {
	records := make([]slab.Insertion, len(pairs))
	for i := range pairs {
		if records[i], err = s.cache.insertion(&pairs[i]); err != nil {
			return 0, s.failed("insert into", err)
		}
	}
	err = s.cache.update(ctx, func(v *view) error {
		to, err := s.in(v)
		if err != nil {
			return err
		}
		for i := range pairs {
			records[i].Key, records[i].Replace = v.slab.KeyOf(pairs[i].name()), pairs[i].origin != v.tiers[0].entry.SegmentID
		}
		return v.slab.Insert(ctx, to, records)
	})
	var stayed refusals
	var rest []Pair
	for i := range records {
		if records[i].Settled {
			pairs[n] = pairs[i]
			n++
			continue
		}
		stayed.add(records[i].Err)
		rest = append(rest, pairs[i])
	}
	copy(pairs[n:], rest)
	return n, s.failed("insert into", errors.Join(err, stayed.full, stayed.large))
}

// refusals are why records stay where they are: one error of each kind.
type refusals struct{ full, large error }

func (r *refusals) add(err error) {
	switch {
	case errors.Is(err, ErrFull):
		r.full = err
	case errors.Is(err, ErrTooLarge):
		r.large = err
	}
}

// name returns how a slab calls the record.
func (p *Pair) name() slab.Name {
	return slab.Name{Key: p.Key, Hash: p.Hash, ByHash: p.ByHash, Scope: p.Scope}
}

// insertion returns the record as slabs take it, but for its key.
func (c *Cache) insertion(p *Pair) (r slab.Insertion, err error) {
	r.Item, err = c.packed(&Item{Value: p.Value, StaleFor: p.StaleFor, Tag: p.Tag})
	if err != nil {
		return r, fmt.Errorf("key %q: %w", p.Key, err)
	}
	if !p.Expires.IsZero() {
		r.Item.Expiry = uint64(min(max(p.Expires.UnixMilli(), 1), layout.ExpiryMask)) // 0 is never
	}
	now := c.now()
	r.LastUse = now - min(uint64(max(p.Idle, 0)/time.Millisecond), now)
	return r, nil
}
