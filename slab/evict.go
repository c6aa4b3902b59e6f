package slab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lru"
)

// Pair is a record that an eviction removed, or a sink is offered. Without values
// only Name and LastUse are set.
type Pair struct {
	Name
	Item
	LastUse uint64 // domain time in milliseconds
}

// Evict removes up to limit records whose last use lies before cutoff, domain
// time in milliseconds, oldest first, and returns their hashes in that order.
// It never removes one used at or after cutoff, which it lowers by the slab's
// StampMillis and layout.ClockSlackMillis because stamps lie behind by as much; the
// order of capacity evictions plays no part. It reads all stamps without a lock and
// then locks shard by shard for at most 64 removals at a time, waiting until ctx
// ends. On an error it returns what it had removed.
func (st *Stack) Evict(ctx context.Context, cutoff uint64, limit int) ([]uint64, error) {
	pairs, err := st.evict(ctx, st.before(cutoff), limit, false)
	return hashes(pairs), err
}

// EvictPairs is Evict, returning keys and values too.
func (st *Stack) EvictPairs(ctx context.Context, cutoff uint64, limit int) ([]Pair, error) {
	return st.evict(ctx, st.before(cutoff), limit, true)
}

// EvictNear is Evict, beginning with the records whose hashes fall into the same
// bucket as k's, of which it can remove one at the cost of a Remove.
func (st *Stack) EvictNear(ctx context.Context, k Key, cutoff uint64, limit int) ([]uint64, error) {
	near, err := st.evictBucket(ctx, k.hash, st.before(cutoff), limit)
	if err != nil || len(near) >= limit {
		return hashes(near), err
	}
	others, err := st.evict(ctx, st.before(cutoff), limit-len(near), false)
	return hashes(append(near, others...)), err
}

// EvictTag removes up to limit records with the tag, those unused for longest
// first, and returns their hashes in that order. Without limit, math.MaxInt, none
// that was there before the call is left; what is set meanwhile stays. It locks as
// Evict does. It is ErrBusy if records keep moving between tiers.
func (st *Stack) EvictTag(ctx context.Context, tag uint32, limit int) ([]uint64, error) {
	newest, err := st.newest()
	if err != nil {
		return nil, err
	}
	pairs, err := st.evict(ctx, sieve{cutoff: math.MaxUint64, byTag: true, tag: tag, newest: newest}, limit, false)
	return hashes(pairs), err
}

// newest returns the last version of each shard.
func (st *Stack) newest() (versions []uint64, err error) {
	defer st.leave(shm.Guard(), &err)
	for i := range st.shards {
		sh := &st.shards[i]
		versions = append(versions, sh.version(sh.head.Sequence.Load()))
	}
	return versions, nil
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
	newest []uint64 // by tag: the last version, of each shard, that may go
	only   *Slab    // in one tier; nil is all
	outer  bool     // without those that only this library uses
}

// before returns the sieve of what was surely not used at or after cutoff.
func (st *Stack) before(cutoff uint64) sieve {
	return sieve{cutoff: cutoff - min(cutoff, layout.ClockSlackMillis+uint64(st.top.geo.StampMillis))}
}

// candidate is a record that looked old without a lock.
type candidate struct {
	stamp, version uint64
	shard, cell    uint32
	tier           uint8
	inner          bool // a claim, or a namespace's id
}

// candidate returns what is in cell n if it passes the sieve.
func (sh *shard) candidate(n uint32, v sieve) (c candidate, passes bool) {
	h := sh.cell(n)
	if lru.Stamp(h.Recency.Load()) >= v.cutoff {
		return c, false // most of them
	}
	version, flags := h.Version.Load(), h.KeyFlags.Load()>>layout.KeyFlagsShift
	inner := flags&(layout.FlagClaim|layout.FlagNamespace) != 0
	stamp := sh.lastUse(h)
	if !isLive(version) || stamp >= v.cutoff || v.outer && inner || v.byTag && (inner || h.UserTag.Load() != v.tag || version > v.newest[sh.number]) {
		return c, false
	}
	return candidate{stamp: stamp, version: version, shard: sh.number, cell: n, inner: inner}, true
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

func (st *Stack) evict(ctx context.Context, v sieve, limit int, values bool) (out []Pair, err error) {
	_, err = st.sift(ctx, v, limit, func(col *column, c candidate) (bool, error) {
		n := len(out)
		err := col.evictOne(c, v, values, &out)
		return len(out) > n, err
	})
	slices.SortStableFunc(out, func(a, b Pair) int { return cmp.Compare(a.LastUse, b.LastUse) })
	return out, err
}

// Records that are used while it runs drop out of an eviction; it looks for others in
// their place this often.
const evictPasses = 4

// sift calls do, under its column's lock, for up to limit records that pass the sieve,
// and counts those for which do says so. It looks again for what was used, changed, or
// moved to another tier meanwhile.
func (st *Stack) sift(ctx context.Context, v sieve, limit int, do func(*column, candidate) (bool, error)) (count int, err error) {
	if st.top.domain.ReadOnly {
		return 0, ErrReadOnly // also if there is nothing to do
	}
	passes := evictPasses
	if v.byTag {
		passes = patience
	}
	for range passes {
		moves, err := st.moves()
		if err != nil {
			return count, err
		}
		old, err := st.oldest(v, limit-count)
		if err != nil || count >= limit {
			return count, err
		}
		if len(old) == 0 {
			if now, err := st.moves(); err != nil || now == moves || v.only != nil {
				return count, errors.Join(err, st.complete())
			}
		}
		byShard(old)
		for len(old) > 0 {
			n := oneShard(len(old), func(i int) uint32 { return old[i].shard })
			col, part := &st.columns[old[0].shard], old[:n]
			if err := st.glimpse(func() { col.ask(part) }); err != nil {
				return count, err
			}
			done, err := st.each(ctx, col, part, do)
			if count += done; err != nil {
				return count, err
			}
			old = old[n:]
		}
	}
	if v.byTag && count < limit {
		return count, fmt.Errorf("%w: records keep moving", ErrBusy)
	}
	return count, nil
}

// each calls do for candidates of one column, under its lock, and counts those of which
// it says that it did, the library's own left out.
func (st *Stack) each(ctx context.Context, col *column, part []candidate, do func(*column, candidate) (bool, error)) (count int, err error) {
	err = st.update(ctx, col, func() error {
		for len(part) > 0 { // a second try, after a rebuild, goes on with the one that failed
			did, err := do(col, part[0])
			if did && !part[0].inner {
				count++
			}
			if err != nil {
				return err
			}
			part = part[1:]
		}
		return nil
	})
	return count, err
}

// ask asks for the memory that removing or moving the candidates takes, of all of them
// before any is waited for. It holds no lock: what it reads may change, and was asked for
// in vain then.
func (col *column) ask(part []candidate) {
	for _, c := range part {
		sh := col.tiers[c.tier]
		sh.cells.Prefetch(sh.cellOffset(c.cell))
		sh.cells.Prefetch(sh.cellOffset(c.cell) + layout.LineSize)
	}
	var room [128]byte
	for _, c := range part {
		sh := col.tiers[c.tier]
		h := sh.cell(c.cell)
		for _, neighbour := range [...]uint32{h.Prev.Load() &^ layout.QueueSmall, h.Next.Load()} {
			if sh.isCell(neighbour) {
				sh.cells.Prefetch(sh.cellOffset(neighbour))
			}
		}
		if keyLen, _, flags, ok := sh.lengths(h); ok && keyLen <= min(sh.payload, uint64(len(room))) {
			hash := sh.slab.rehash(sh.cells.Append(room[:0], sh.cellOffset(c.cell)+headSize, keyLen), flags)
			for _, t := range col.tiers {
				t.finder.PrefetchBucket(hash)
			}
		}
	}
}

// byShard sorts candidates by shard, and within that by their last use.
func byShard(old []candidate) {
	slices.SortFunc(old, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.shard, b.shard), older(a, b)) })
}

// moves counts the records that ever came to a tier from another one. It is ErrStale
// if they may have come to one that the stack does not know.
func (st *Stack) moves() (n uint64, err error) {
	defer st.leave(shm.Guard(), &err)
	if st.stale() {
		return 0, ErrStale
	}
	for i := range st.columns {
		n += st.columns[i].moves()
	}
	return n, st.Missing
}

// evictBucket evicts from the chain of one bucket in each tier. It leaves the
// library's own records to evict, which knows what they must outlast.
func (st *Stack) evictBucket(ctx context.Context, hash uint64, v sieve, limit int) (out []Pair, err error) {
	col := st.columnOf(hash)
	err = st.update(ctx, col, func() error {
		var old []candidate
		var err error
		for tier, sh := range col.tiers {
			err = errors.Join(err, sh.slots(hash, func(p place) bool {
				if n := uint32(p.word()); sh.isCell(n) {
					if c, ok := sh.candidate(n, v); ok && !c.inner {
						c.tier = uint8(tier)
						old = append(old, c)
					}
				}
				return true
			}))
		}
		slices.SortFunc(old, older)
		for _, c := range old {
			if err == nil && len(out) < limit {
				err = col.evictOne(c, v, false, &out)
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

// ahead is by how many cells a scan asks for memory before it needs it.
const ahead = 32

// oldest returns up to limit records that pass the sieve such that no other one
// is older.
func (st *Stack) oldest(v sieve, limit int) (old []candidate, err error) {
	defer st.leave(shm.Guard(), &err)
	if err := st.usable(); err != nil || limit <= 0 {
		return nil, err
	}
	// Twice as many as wanted are gathered before the younger half goes.
	limit = min(limit, math.MaxInt32)
	counted := 0
	for tier := range st.tiers {
		s := st.tiers[tier].Slab
		if v.only != nil && v.only != s {
			continue
		}
		for i := range s.shards {
			sh := &s.shards[i]
			top := min(sh.head.Bump.Load(), s.geo.Cells)
			for n := uint32(1); n <= top; n++ {
				sh.cells.Prefetch(sh.cellOffset(min(n+ahead, top)))
				c, ok := sh.candidate(n, v)
				if !ok {
					continue
				}
				c.tier = uint8(tier)
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
	}
	return first(old, limit), nil
}

// first returns the oldest limit records, and the library's own that are older:
// those do not count. The youngest of them is the last, the others have no order.
func first(old []candidate, limit int) []candidate {
	inner := 0 // the library's own come first while the others are parted
	for i := range old {
		if old[i].inner {
			old[i], old[inner] = old[inner], old[i]
			inner++
		}
	}
	if len(old)-inner < limit {
		return old
	}
	part(old[inner:], limit-1)
	last := old[inner+limit-1]
	old = old[:inner+limit]
	return slices.DeleteFunc(old, func(c candidate) bool { return older(c, last) > 0 })
}

// part puts the record that n others are older than at n, and those before it
// (quickselect).
func part(old []candidate, n int) {
	for len(old) > 1 {
		pivot := old[rand.IntN(len(old))]
		low, high := 0, len(old)-1
		for low <= high {
			for older(old[low], pivot) < 0 {
				low++
			}
			for older(old[high], pivot) > 0 {
				high--
			}
			if low <= high {
				old[low], old[high] = old[high], old[low]
				low, high = low+1, high-1
			}
		}
		switch {
		case n <= high:
			old = old[:high+1]
		case n >= low:
			old, n = old[low:], n-low
		default:
			return
		}
	}
}

// named is a record with its hash.
type named struct {
	spot
	hash uint64
	name Name
}

// again finds a candidate's record under the lock; none if it was used, changed or
// removed meanwhile, by tag only if it was changed or removed. Its name stands in room,
// if that is large enough.
func (col *column) again(want candidate, v sieve, room []byte) (r named, err error) {
	sh := col.tiers[want.tier]
	c := sh.cell(want.cell)
	if c.Version.Load() != want.version || !v.byTag && sh.lastUse(c) != want.stamp {
		return r, nil
	}
	keyLen, _, flags, ok := sh.lengths(c)
	if !ok {
		return r, sh.brokenf("lengths of cell %d", want.cell)
	}
	k, ok := sh.appendBytes(room, want.cell, want.version, 0, keyLen)
	if !ok {
		return r, sh.brokenf("chain of cell %d", want.cell)
	}
	r.hash = sh.slab.rehash(k, flags)
	r.name, _ = nameOf(k, flags, r.hash)
	at, err := sh.locate(r.hash, want.cell)
	if err != nil {
		return r, err
	}
	r.spot = spot{sh, want.cell, at}
	return r, nil
}

// pair copies a candidate's record; none if it was used, changed or removed meanwhile.
func (col *column) pair(want candidate, v sieve) (p Pair, there bool, err error) {
	r, err := col.again(want, v, nil)
	if r.cell == 0 || err != nil {
		return p, false, err
	}
	p = Pair{Name: r.name, LastUse: want.stamp}
	p.Item, err = r.item()
	return p, err == nil, err
}

// evictOne removes a candidate unless it was used, changed or removed meanwhile;
// by tag, used or not. The pair is noted before the first store: should the shard
// need a rebuild in between, the record is gone then.
func (col *column) evictOne(want candidate, v sieve, values bool, out *[]Pair) error {
	r, err := col.again(want, v, nil)
	if r.cell == 0 || err != nil {
		return err
	}
	c := r.header()
	recency := c.Recency.Load()
	pair := Pair{Name: r.name, LastUse: want.stamp}
	if values {
		if pair.Item, err = r.item(); err != nil {
			return err
		}
	}
	counter := &r.sh.head.EvictedTag
	if !v.byTag {
		counter = &r.sh.head.EvictedCutoff
		// Readers stamp without a lock; the last look decides. A reader that has just
		// checked its hit may stamp after it: that use and this removal overlap.
		if r.sh.lastUse(c) != want.stamp || c.Recency.Load() != recency {
			return nil
		}
	}
	if !want.inner {
		*out = append(*out, pair)
	}
	counter.Add(1)
	return r.release(r.hash)
}

// item copies the record, under the lock.
func (s spot) item() (Item, error) {
	c := s.header()
	keyLen, valueLen, _, _ := s.sh.lengths(c)
	value, ok := s.sh.appendBytes(nil, s.cell, c.Version.Load(), keyLen, valueLen)
	if !ok {
		return Item{}, s.sh.brokenf("chain of cell %d", s.cell)
	}
	packed := c.Expiry.Load()
	return Item{
		Value: value, Version: c.Version.Load(), Tag: c.UserTag.Load(),
		Expiry: packed & layout.ExpiryMask, Stale: uint16(packed >> layout.ExpiryStaleShift),
	}, nil
}
