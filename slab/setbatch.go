package slab

import (
	"cmp"
	"context"
	"slices"
)

// KeyItem is a key and what to store under it.
type KeyItem struct {
	Key  Key
	Item Item
}

// PutBatch stores all items, each as Put would with Anyhow; those of one key in
// their order. Items of one shard share its lock, for up to 64 at a time. It
// begins with none that does not fit the slab; on another error the first of them,
// as many as it says, are stored, and the others are left to be gone on with: the
// items change their places then.
func (st *Stack) PutBatch(ctx context.Context, items []KeyItem) (stored int, err error) {
	if err := st.usable(); err != nil {
		return 0, err
	}
	for i := range items {
		if err := st.fits(&items[i].Key, &items[i].Item); err != nil {
			return 0, err
		}
	}
	var settled []int // in the order in which they were stored
	err = st.eachColumn(len(items), func(i int) uint64 { return items[i].Key.hash }, func(col *column, which []int) error {
		done, err := st.putSome(ctx, col, items, which)
		settled = append(settled, which[:done]...)
		return err
	})
	if err != nil {
		storedFirst(items, settled)
	}
	return len(settled), err
}

// storedFirst puts the items that were stored before the others.
func storedFirst(items []KeyItem, stored []int) {
	was, done := slices.Clone(items), make([]bool, len(items))
	for at, i := range stored {
		items[at], done[i] = was[i], true
	}
	at := len(stored)
	for i := range was {
		if !done[i] {
			items[at] = was[i]
			at++
		}
	}
}

// eachColumn calls do with the numbers below n, up to perLock of one column at a time
// and those in their order, by the hashes of what they stand for. It asks for the
// buckets before.
func (st *Stack) eachColumn(n int, hash func(i int) uint64, do func(col *column, which []int) error) error {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	shard := func(i int) uint32 { return st.shardOf(hash(i)).number }
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(shard(a), shard(b)) })
	for len(order) > 0 {
		n := oneShard(len(order), func(i int) uint32 { return shard(order[i]) })
		col := st.columnOf(hash(order[0]))
		for _, i := range order[:n] {
			col.top.finder.PrefetchBucket(hash(i))
		}
		if err := do(col, order[:n]); err != nil {
			return err
		}
		order = order[n:]
	}
	return nil
}

// putSome stores items of one column.
func (st *Stack) putSome(ctx context.Context, col *column, items []KeyItem, which []int) (stored int, err error) {
	err = st.update(ctx, col, func() error {
		for stored < len(which) { // a second try, after a rebuild, goes on with the one that failed
			it := &items[which[stored]]
			f, err := col.find(&it.Key)
			if err != nil {
				return err
			}
			if _, err := col.replace(&it.Key, &it.Item, &f); err != nil {
				return err
			}
			stored++
		}
		return nil
	})
	return stored, err
}
