package slab

import (
	"cmp"
	"context"
	"slices"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// ShardDump is what two implementations agree on, of a shard that went through the
// same operations in both.
type ShardDump struct {
	Tier, Shard int
	Live, Used  uint32
	Sequence    uint64
	Turn        uint64
	Small       uint32
	Records     []RecordDump // of the small queue and then of the main one, from front to back
}

// RecordDump is a record as it stands in its cells, expired ones and those that only
// this library uses included.
type RecordDump struct {
	Small bool   // in which queue
	Key   []byte // the stored bytes
	Flags uint32 // layout.Flag*
	Item
	LastUse uint64 // domain time in milliseconds
	Count   uint64 // of uses, in the s3fifo order
}

// Dump returns the shards of all tiers, tier by tier, each as it stands under its
// column's lock, after a rebuild if one is due. It waits for each lock until ctx ends.
// It is for comparing implementations and for diagnosis, and copies the whole stack.
func (st *Stack) Dump(ctx context.Context) (all []ShardDump, err error) {
	for i := range st.columns {
		col := &st.columns[i]
		var some []ShardDump
		err := st.update(ctx, col, func() (err error) {
			some, err = col.dump()
			return err
		})
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	slices.SortStableFunc(all, func(a, b ShardDump) int { return cmp.Compare(a.Tier, b.Tier) })
	return all, nil
}

func (col *column) dump() (out []ShardDump, err error) {
	for tier, sh := range col.tiers {
		h := sh.head
		d := ShardDump{
			Tier: tier, Shard: int(sh.number), Live: h.Live.Load(), Used: h.Used.Load(),
			Sequence: h.Sequence.Load(), Turn: h.Turn.Load(), Small: h.SmallCount.Load(),
		}
		if err := sh.dumpQueue(&d, h.SmallFront.Load(), true); err != nil {
			return nil, err
		}
		if err := sh.dumpQueue(&d, h.Front.Load(), false); err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// dumpQueue adds the records of one queue, whose bytes can be no more than the cells'.
func (sh *shard) dumpQueue(d *ShardDump, front uint32, small bool) error {
	steps := uint32(0)
	for n := front; n != 0; steps++ {
		if !sh.isCell(n) || steps > sh.slab.geo.Cells {
			return sh.brokenf("order: cell %d is none, or comes twice", n)
		}
		c := sh.cell(n)
		r, whole := sh.record(c, n, c.Version.Load())
		if !whole {
			return sh.brokenf("order: cell %d is no live record", n)
		}
		d.Records = append(d.Records, RecordDump{
			Small: small, Key: r.raw, Flags: r.flags, Item: r.Item, LastUse: r.LastUse,
			Count: c.Recency.Load() & layout.RecencyCountMask,
		})
		n = c.Next.Load()
	}
	return nil
}
