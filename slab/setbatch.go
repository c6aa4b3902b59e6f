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
	order := make([]int, len(items))
	for i := range items {
		order[i] = i
		if err := st.fits(&items[i].Key, &items[i].Item); err != nil {
			return 0, err
		}
	}
	all := order
	shard := func(i int) uint32 { return st.shardOf(items[i].Key.hash).number }
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(shard(a), shard(b)) })
	for len(order) > 0 {
		n := oneShard(len(order), func(i int) uint32 { return shard(order[i]) })
		done, err := st.putSome(ctx, items, order[:n])
		if stored += done; err != nil {
			rearrange(items, all)
			return stored, err
		}
		order = order[n:]
	}
	return stored, nil
}

// rearrange puts the items into that order.
func rearrange(items []KeyItem, order []int) {
	was := slices.Clone(items)
	for at, i := range order {
		items[at] = was[i]
	}
}

// putSome stores items of one shard.
func (st *Stack) putSome(ctx context.Context, items []KeyItem, which []int) (stored int, err error) {
	col := st.columnOf(items[which[0]].Key.hash)
	for _, i := range which {
		col.top.finder.PrefetchBucket(items[i].Key.hash)
	}
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
