package slab

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lru"
)

// Pair is a record that an eviction removed.
type Pair struct {
	Key     []byte // the key's bytes; the application's hash, 8 bytes little-endian, if ByHash
	Value   []byte
	Hash    uint64 // HashOf(Key), or the application's hash if ByHash
	ByHash  bool   // stored by SetHash
	LastUse uint64 // domain time in milliseconds
}

// Evict removes up to limit records whose last use lies before cutoff, domain
// time in milliseconds, oldest first, and returns their hashes in that order.
// It never removes one used at or after cutoff, which it lowers by
// layout.ClockSlackMillis because stamps lie behind by as much; the order of
// capacity evictions plays no part. It reads all stamps without a lock and
// then locks shard by shard for at most 64 removals at a time, waiting until ctx
// ends. On an error it returns what it had removed.
func (s *Slab) Evict(ctx context.Context, cutoff uint64, limit int) ([]uint64, error) {
	pairs, err := s.evict(ctx, cutoff, limit, false)
	hashes := make([]uint64, len(pairs))
	for i := range pairs {
		hashes[i] = pairs[i].Hash
	}
	return hashes, err
}

// EvictPairs is Evict, returning keys and values too.
func (s *Slab) EvictPairs(ctx context.Context, cutoff uint64, limit int) ([]Pair, error) {
	return s.evict(ctx, cutoff, limit, true)
}

// candidate is a record that looked old without a lock.
type candidate struct {
	stamp, version uint64
	shard, cell    uint32
}

const (
	removalsPerLock = 64
	// Records that are used while an eviction runs drop out of it; it looks for
	// others in their place this often.
	evictPasses = 4
)

func (s *Slab) evict(ctx context.Context, cutoff uint64, limit int, values bool) (out []Pair, err error) {
	if s.domain.ReadOnly {
		return nil, ErrReadOnly // also if there is nothing to evict
	}
	cutoff -= min(cutoff, layout.ClockSlackMillis)
	for range evictPasses {
		old, err := s.oldest(cutoff, limit-len(out))
		if err != nil || len(old) == 0 {
			return out, err
		}
		slices.SortFunc(old, func(a, b candidate) int {
			return cmp.Or(cmp.Compare(a.shard, b.shard), cmp.Compare(a.stamp, b.stamp), cmp.Compare(a.version, b.version))
		})
		for len(old) > 0 && err == nil {
			n := 1
			for n < min(len(old), removalsPerLock) && old[n].shard == old[0].shard {
				n++
			}
			sh, part := &s.shards[old[0].shard], old[:n]
			err = s.update(ctx, sh, func() error {
				for _, c := range part {
					if err := sh.evictOne(c, values, &out); err != nil {
						return err
					}
				}
				return nil
			})
			old = old[n:]
		}
		slices.SortStableFunc(out, func(a, b Pair) int { return cmp.Compare(a.LastUse, b.LastUse) })
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// oldest returns up to limit records last used before cutoff such that no other
// is older.
func (s *Slab) oldest(cutoff uint64, limit int) (old []candidate, err error) {
	defer s.leave(shm.Guard(), &err)
	if err := s.usable(); err != nil || limit <= 0 {
		return nil, err
	}
	older := func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.stamp, b.stamp), cmp.Compare(a.version, b.version))
	}
	// Twice as many as wanted are gathered before the younger half goes.
	limit = min(limit, math.MaxInt32)
	for i := range s.shards {
		sh := &s.shards[i]
		top := min(sh.head.Bump.Load(), s.geo.Cells)
		for n := uint32(1); n <= top; n++ {
			c := sh.cell(n)
			version := c.Version.Load()
			stamp := lru.Stamp(c.Recency.Load())
			if !isLive(version) || stamp >= cutoff {
				continue
			}
			old = append(old, candidate{stamp, version, sh.number, n})
			if len(old) >= max(2*limit, 1024) {
				slices.SortFunc(old, older)
				old = old[:min(limit, len(old))]
				if len(old) == limit {
					cutoff = min(cutoff, old[limit-1].stamp+1)
				}
			}
		}
	}
	slices.SortFunc(old, older)
	return old[:min(limit, len(old))], nil
}

// evictOne removes a candidate unless it was used, changed or removed meanwhile.
// The pair is noted before the first store: should the shard need a rebuild in
// between, the record is gone then.
func (sh *shard) evictOne(want candidate, values bool, out *[]Pair) error {
	c := sh.cell(want.cell)
	recency := c.Recency.Load()
	if c.Version.Load() != want.version || lru.Stamp(recency) != want.stamp {
		return nil
	}
	keyLen, valueLen, flags, ok := sh.lengths(c)
	if !ok {
		return sh.brokenf("lengths of cell %d", want.cell)
	}
	k, ok := sh.appendBytes(nil, want.cell, want.version, 0, keyLen)
	if !ok {
		return sh.brokenf("chain of cell %d", want.cell)
	}
	hash := sh.slab.rehash(k, flags)
	pair := Pair{Hash: hash, LastUse: want.stamp}
	pair.ByHash, pair.Hash = reported(k, flags, hash)
	if values {
		pair.Key = k
		if pair.Value, ok = sh.appendBytes(nil, want.cell, want.version, keyLen, valueLen); !ok {
			return sh.brokenf("chain of cell %d", want.cell)
		}
	}
	at, err := sh.locate(hash, want.cell)
	if err != nil {
		return err
	}
	// Readers stamp without a lock; the last look decides. A reader that has just
	// checked its hit may stamp after it: that use and this removal overlap.
	if c.Recency.Load() != recency {
		return nil
	}
	*out = append(*out, pair)
	sh.head.EvictedCutoff.Add(1)
	return sh.release(want.cell, hash, at)
}
