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
	Name
	Value   []byte
	LastUse uint64 // domain time in milliseconds
}

// Evict removes up to limit records whose last use lies before cutoff, domain
// time in milliseconds, oldest first, and returns their hashes in that order.
// It never removes one used at or after cutoff, which it lowers by the slab's
// StampMillis and layout.ClockSlackMillis because stamps lie behind by as much; the
// order of capacity evictions plays no part. It reads all stamps without a lock and
// then locks shard by shard for at most 64 removals at a time, waiting until ctx
// ends. On an error it returns what it had removed.
func (s *Slab) Evict(ctx context.Context, cutoff uint64, limit int) ([]uint64, error) {
	pairs, err := s.evict(ctx, s.before(cutoff), limit, false)
	return hashes(pairs), err
}

// EvictPairs is Evict, returning keys and values too.
func (s *Slab) EvictPairs(ctx context.Context, cutoff uint64, limit int) ([]Pair, error) {
	return s.evict(ctx, s.before(cutoff), limit, true)
}

// EvictNear is Evict, beginning with the records whose hashes fall into the same
// bucket as k's, of which it can remove one at the cost of a Remove.
func (s *Slab) EvictNear(ctx context.Context, k Key, cutoff uint64, limit int) ([]uint64, error) {
	near, err := s.evictBucket(ctx, k.hash, s.before(cutoff), limit)
	if err != nil || len(near) >= limit {
		return hashes(near), err
	}
	others, err := s.evict(ctx, s.before(cutoff), limit-len(near), false)
	return hashes(append(near, others...)), err
}

// EvictTag removes up to limit records with the tag, those unused for longest
// first, and returns their hashes in that order. Without limit, math.MaxInt, none
// that was there before the call is left. It locks as Evict does.
func (s *Slab) EvictTag(ctx context.Context, tag uint32, limit int) ([]uint64, error) {
	pairs, err := s.evict(ctx, sieve{cutoff: math.MaxUint64, byTag: true, tag: tag}, limit, false)
	return hashes(pairs), err
}

func hashes(pairs []Pair) []uint64 {
	out := make([]uint64, len(pairs))
	for i := range pairs {
		out[i] = pairs[i].Hash
	}
	return out
}

// sieve says which records an eviction is about.
type sieve struct {
	cutoff uint64 // those stamped before it
	byTag  bool   // of those with tag, whenever they were used
	tag    uint32
}

// before returns the sieve of what was surely not used at or after cutoff.
func (s *Slab) before(cutoff uint64) sieve {
	return sieve{cutoff: cutoff - min(cutoff, layout.ClockSlackMillis+uint64(s.geo.StampMillis))}
}

// candidate is a record that looked old without a lock.
type candidate struct {
	stamp, version uint64
	shard, cell    uint32
	inner          bool // a claim, or a namespace's id
}

// candidate returns what is in cell n if it passes the sieve.
func (sh *shard) candidate(n uint32, v sieve) (c candidate, passes bool) {
	h := sh.cell(n)
	version, flags := h.Version.Load(), h.KeyFlags.Load()>>layout.KeyFlagsShift
	inner := flags&(layout.FlagClaim|layout.FlagNamespace) != 0
	stamp := sh.lastUse(h)
	if !isLive(version) || stamp >= v.cutoff || v.byTag && (inner || h.UserTag.Load() != v.tag) {
		return c, false
	}
	return candidate{stamp, version, sh.number, n, inner}, true
}

// lastUse returns the stamp by which a record is as old. A namespace's id is used
// with each of its records, but its stamp may lie behind theirs by the grain and the
// clock's slack. With those it is never older, and outlasts them.
func (sh *shard) lastUse(c *layout.CellHeader) uint64 {
	stamp := lru.Stamp(c.Recency.Load())
	if c.KeyFlags.Load()>>layout.KeyFlagsShift&layout.FlagNamespace != 0 {
		stamp += sh.grain + layout.ClockSlackMillis
	}
	return stamp
}

// Records that are used while an eviction runs drop out of it; it looks for others
// in their place this often.
const evictPasses = 4

func (s *Slab) evict(ctx context.Context, v sieve, limit int, values bool) (out []Pair, err error) {
	if s.domain.ReadOnly {
		return nil, ErrReadOnly // also if there is nothing to evict
	}
	for range evictPasses {
		old, err := s.oldest(v, limit-len(out))
		if err != nil || len(old) == 0 {
			return out, err
		}
		slices.SortFunc(old, func(a, b candidate) int {
			return cmp.Or(cmp.Compare(a.shard, b.shard), cmp.Compare(a.stamp, b.stamp), cmp.Compare(a.version, b.version))
		})
		for len(old) > 0 && err == nil {
			n := oneShard(len(old), func(i int) uint32 { return old[i].shard })
			sh, part := &s.shards[old[0].shard], old[:n]
			err = s.update(ctx, sh, func() error {
				for _, c := range part {
					if err := sh.evictOne(c, v, values, &out); err != nil {
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

// evictBucket evicts from the chain of one bucket. It leaves the library's own
// records to evict, which knows what they must outlast.
func (s *Slab) evictBucket(ctx context.Context, hash uint64, v sieve, limit int) (out []Pair, err error) {
	sh := s.shardOf(hash)
	err = s.update(ctx, sh, func() error {
		var old []candidate
		err := sh.slots(hash, func(p place) bool {
			if n := uint32(p.word()); sh.isCell(n) {
				if c, ok := sh.candidate(n, v); ok && !c.inner {
					old = append(old, c)
				}
			}
			return true
		})
		slices.SortFunc(old, older)
		for _, c := range old {
			if err == nil && len(out) < limit {
				err = sh.evictOne(c, v, false, &out)
			}
		}
		return err
	})
	return out, err
}

// older orders candidates by their last use.
func older(a, b candidate) int {
	return cmp.Or(cmp.Compare(a.stamp, b.stamp), cmp.Compare(a.version, b.version))
}

// oldest returns up to limit records that pass the sieve such that no other one
// is older.
func (s *Slab) oldest(v sieve, limit int) (old []candidate, err error) {
	defer s.leave(shm.Guard(), &err)
	if err := s.usable(); err != nil || limit <= 0 {
		return nil, err
	}
	// Twice as many as wanted are gathered before the younger half goes.
	limit = min(limit, math.MaxInt32)
	counted := 0
	for i := range s.shards {
		sh := &s.shards[i]
		top := min(sh.head.Bump.Load(), s.geo.Cells)
		for n := uint32(1); n <= top; n++ {
			c, ok := sh.candidate(n, v)
			if !ok {
				continue
			}
			old = append(old, c)
			if !c.inner {
				counted++
			}
			if counted >= max(2*limit, 1024) {
				old = first(old, limit)
				counted = limit
				v.cutoff = min(v.cutoff, old[len(old)-1].stamp+1)
			}
		}
	}
	return first(old, limit), nil
}

// first returns the oldest limit records, and the library's own that are older:
// those do not count.
func first(old []candidate, limit int) []candidate {
	slices.SortFunc(old, older)
	for i := range old {
		if old[i].inner {
			continue
		}
		if limit--; limit == 0 {
			return old[:i+1]
		}
	}
	return old
}

// evictOne removes a candidate unless it was used, changed or removed meanwhile;
// by tag, used or not. The pair is noted before the first store: should the shard
// need a rebuild in between, the record is gone then.
func (sh *shard) evictOne(want candidate, v sieve, values bool, out *[]Pair) error {
	c := sh.cell(want.cell)
	recency := c.Recency.Load()
	if c.Version.Load() != want.version || !v.byTag && sh.lastUse(c) != want.stamp {
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
	pair := Pair{LastUse: want.stamp}
	pair.Name, _ = nameOf(k, flags, hash)
	if values {
		if pair.Value, ok = sh.appendBytes(nil, want.cell, want.version, keyLen, valueLen); !ok {
			return sh.brokenf("chain of cell %d", want.cell)
		}
	}
	at, err := sh.locate(hash, want.cell)
	if err != nil {
		return err
	}
	counter := &sh.head.EvictedTag
	if !v.byTag {
		counter = &sh.head.EvictedCutoff
		// Readers stamp without a lock; the last look decides. A reader that has just
		// checked its hit may stamp after it: that use and this removal overlap.
		if c.Recency.Load() != recency {
			return nil
		}
	}
	if !want.inner {
		*out = append(*out, pair)
	}
	counter.Add(1)
	return sh.release(want.cell, hash, at)
}
