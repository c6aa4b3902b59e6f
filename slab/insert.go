package slab

import (
	"context"
	"errors"
	"fmt"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// Records that go from one stack to another are copied there, and then removed where
// they were if they are still the same. No two locks are held at a time, and each
// record is in one of the stacks at any moment. PROTOCOL.md, "Moves between stacks".

// Insertion is a record to be stored in a tier, and what came of it.
type Insertion struct {
	Key     Key
	Item    Item   // with the version that it got, if Stored
	LastUse uint64 // domain time in milliseconds
	Replace bool   // what is there; otherwise that is newer
	AllStay bool   // no other record is to go for good to make room

	Settled  bool  // nothing is to be done any more
	Stored   bool  // it was stored
	Replaced bool  // and took the place of a value that was there
	Err      error // not settled: ErrFull or ErrTooLarge
}

// Insert stores the records that are not settled in one tier of the stack, each with
// a new version; expiry, tag and last use are as given. With Replace one takes the
// place of what is there in any tier, and a claim ends, as in Put; without, a value
// that is there stays. Where the tier has no room and
// refuses, takes no records, or has smaller limits, the record's Err says so, and the
// others are stored nevertheless. It locks a column for up to 64 records at a time,
// waiting until ctx ends. On an error, ErrStale too, the settled ones stay so.
func (st *Stack) Insert(ctx context.Context, to *Slab, records []Insertion) error {
	tier, err := st.tierOf(to)
	if err != nil {
		return err
	}
	return st.eachColumn(len(records), func(i int) uint64 { return records[i].Key.hash }, func(col *column, which []int) error {
		return st.update(ctx, col, func() error {
			for _, i := range which { // a second try, after a rebuild, passes over those that are settled
				if err := col.insert(tier, &records[i]); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func (col *column) insert(tier int, r *Insertion) error {
	if r.Settled {
		return nil
	}
	if r.Err = col.admits(tier, &r.Key, &r.Item); r.Err != nil {
		return nil
	}
	f, err := col.find(&r.Key)
	if err != nil {
		return err
	}
	if f.record.isAt(r.Item.Version) && r.Stored { // the second try, after a rebuild
		r.Settled = true
		return nil
	}
	if r.Stored = r.Replace || f.record.current() == Absent; !r.Stored {
		r.Settled = true
		return nil
	}
	if r.Replace { // an older load must not take its place (claim.pml BREAK_SET)
		if err := f.endClaim(&r.Key); err != nil {
			return err
		}
	}
	r.Replaced = r.Replaced || f.record.current() != Absent // in a second try the first one's may be gone
	it := r.Item
	r.Item.Version, err = col.writeTo(tier, &r.Key, &it, r.LastUse, f.record, r.AllStay)
	if errors.Is(err, ErrFull) {
		r.Err, r.Stored, r.Replaced = err, false, false
		return nil
	}
	r.Settled = err == nil
	return err
}

// admits returns why a tier has no place for such a record, if so.
func (col *column) admits(tier int, k *Key, it *Item) error {
	g, top := &col.tiers[tier].slab.geo, &col.top.slab.geo
	if maxKey := min(g.MaxKey, top.MaxKey); len(k.bytes) > int(maxKey) || len(it.Value) > int(g.MaxValue) {
		return fmt.Errorf("%w: key of %d and value of %d bytes, the limits of tier %d are %d and %d", ErrTooLarge, len(k.bytes), len(it.Value), tier, maxKey, g.MaxValue)
	}
	if !col.takes(tier) {
		return fmt.Errorf("%w: tier %d takes no more records", ErrFull, tier)
	}
	return nil
}

// Withdrawal is a record to be removed if it is still the one of a version, and what
// came of it.
type Withdrawal struct {
	Key     Key
	Version uint64

	Settled bool // nothing is to be done any more
	Removed bool // it was that one, and is gone
}

// Withdraw removes the records that are not settled and have their version still, in
// whichever tier. It locks as Insert does. On an error, ErrStale too, the settled ones
// stay so.
func (st *Stack) Withdraw(ctx context.Context, records []Withdrawal) error {
	return st.eachColumn(len(records), func(i int) uint64 { return records[i].Key.hash }, func(col *column, which []int) error {
		return st.update(ctx, col, func() error {
			for _, i := range which {
				r := &records[i]
				if r.Settled {
					continue
				}
				f, err := col.find(&r.Key)
				if err == nil && f.record.isAt(r.Version) {
					r.Removed = true // noted first: a rebuild finishes what follows
					f.record.sh.head.MovedOut.Add(1)
					err = f.record.release(r.Key.hash)
				}
				if err != nil {
					return err
				}
				r.Settled = true
			}
			return nil
		})
	})
}

// Aged calls take with copies of up to limit records of one tier that were not used
// since cutoff, domain time in milliseconds, up to 64 of one shard at a time. Without
// a limit they are all there are; with one, no other is older. Those that are used or
// changed meanwhile are left out. Ids of namespaces and claims are too. No lock is
// held while take runs; it locks as Evict does.
func (st *Stack) Aged(ctx context.Context, from *Slab, cutoff uint64, limit int, take func([]Pair) error) error {
	if _, err := st.tierOf(from); err != nil {
		return err
	}
	v := st.before(cutoff)
	v.only, v.outer = from, true
	old, err := st.oldest(v, limit)
	if err != nil {
		return err
	}
	byShard(old)
	for len(old) > 0 {
		n := oneShard(len(old), func(i int) uint32 { return old[i].shard })
		col := &st.columns[old[0].shard]
		var pairs []Pair
		err := st.update(ctx, col, func() error {
			pairs = pairs[:0]
			for _, c := range old[:n] {
				pair, there, err := col.pair(c, v)
				if err != nil {
					return err
				}
				if there {
					pairs = append(pairs, pair)
				}
			}
			return nil
		})
		if err == nil {
			err = take(pairs)
		}
		if err != nil {
			return err
		}
		old = old[n:]
	}
	return nil
}

// EvictFrom is EvictPairs of one tier alone, with values or without. If there are
// others, ids of namespaces stay: what is in those may lie there.
func (st *Stack) EvictFrom(ctx context.Context, from *Slab, cutoff uint64, limit int, values bool) ([]Pair, error) {
	if _, err := st.tierOf(from); err != nil {
		return nil, err
	}
	v := st.before(cutoff)
	v.only, v.outer = from, len(st.tiers) > 1
	return st.evict(ctx, v, limit, values)
}

// Namespaces returns the names of the namespaces that have an id, by id. It looks at
// the whole stack, and locks as Scan does.
func (st *Stack) Namespaces(ctx context.Context) (map[uint64][]byte, error) {
	names := map[uint64][]byte{}
	var at Position
	err := st.scanAll(ctx, &at, func(r *placed) bool {
		if id, ok := scopeID(r.Value); ok && r.flags&layout.FlagNamespace != 0 {
			names[id] = r.raw
		}
		return true
	})
	return names, err
}
