package slab

import (
	"context"
	"fmt"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// Check compares index, order, free lists and counts of every shard with its
// cells, under the shard's lock, and returns what contradicts what, nothing for a
// sound slab. It changes nothing, except that a lock it has to take from the
// dead is followed by a rebuild. It waits for each lock until ctx ends.
func (st *Stack) Check(ctx context.Context) (problems []string, err error) {
	for i := range st.columns {
		col := &st.columns[i]
		var found []string
		err := st.update(ctx, col, func() error { found = col.check(); return nil })
		if err != nil {
			return problems, err
		}
		problems = append(problems, found...)
	}
	return problems, nil
}

// check checks the column's shards, and that no key is in two of them.
func (col *column) check() (problems []string) {
	if s := col.top.head.Sequence.Load(); s >= layout.VersionLimit>>layout.VersionSequenceShift {
		problems = append(problems, fmt.Sprintf("shard %d: sequence %#x is garbage", col.top.number, s))
	}
	tiers := map[string]int{}
	for tier, sh := range col.tiers {
		c := checker{shard: sh, tier: tier, live: map[uint32]survivor{}, used: make([]bool, sh.slab.geo.Cells+1)}
		c.check()
		for _, r := range c.live {
			key := fmt.Sprintf("%d %s", r.flags, r.key)
			if above, twice := tiers[key]; twice && len(col.tiers) > 1 {
				c.report("key %q is in tier %d too", r.key, above)
			}
			tiers[key] = tier
		}
		problems = append(problems, c.problems...)
	}
	return problems
}

// checker gathers what is wrong with one shard.
type checker struct {
	*shard
	tier     int
	problems []string
	live     map[uint32]survivor // by cell
	used     []bool
}

func (c *checker) report(format string, args ...any) {
	if len(c.problems) < 32 {
		where := fmt.Sprintf("shard %d: ", c.number)
		if c.tier > 0 {
			where = fmt.Sprintf("tier %d, shard %d: ", c.tier, c.number)
		}
		c.problems = append(c.problems, where+fmt.Sprintf(format, args...))
	}
}

func (c *checker) check() {
	c.checkCells()
	c.checkOverflow(c.checkIndex())
	c.checkOrder()
	c.checkFree()
}

// checkCells gathers the live records and compares the counts.
func (c *checker) checkCells() {
	var cells, size uint64
	for n := uint32(1); n <= c.slab.geo.Cells; n++ {
		v := c.cell(n).Version.Load()
		switch {
		case v >= layout.VersionLimit || v != 0 && v>>layout.VersionShardShift&(layout.MaxShards-1) != uint64(c.number):
			c.report("cell %d: version %#x is not this shard's", n, v)
		case v>>layout.VersionSequenceShift > c.lead.Sequence.Load():
			c.report("cell %d: version %#x is ahead of the sequence %d", n, v, c.lead.Sequence.Load())
		case isLive(v):
			r, ok := c.survivor(n, v, c.used)
			if !ok {
				c.report("cell %d: lengths or chain of a live record are damaged", n)
				continue
			}
			c.live[n] = r
			cells += uint64(r.cells)
			size += r.bytes
		}
	}
	for _, f := range []struct {
		name      string
		got, want uint64
	}{
		{"Live", uint64(c.head.Live.Load()), uint64(len(c.live))},
		{"Used", uint64(c.head.Used.Load()), cells},
		{"Bytes", c.head.Bytes.Load(), size},
	} {
		if f.got != f.want {
			c.report("%s is %d, the cells say %d", f.name, f.got, f.want)
		}
	}
}

// checkIndex sees that each live record is named by one slot, in its own chain,
// and no slot by anything else. It returns the buckets that stand in chains.
func (c *checker) checkIndex() (chained map[*layout.Bucket]bool) {
	named := map[uint32]int{}
	chained = map[*layout.Bucket]bool{}
	for bucket := range uint64(c.slab.geo.Buckets) {
		// Any hash of this bucket leads to its chain.
		hash := ceil(bucket<<32, uint64(c.slab.geo.Buckets))
		err := c.slots(hash, func(p place) bool {
			if chained[p.bucket] && p.slot == 0 {
				c.report("bucket %d: its chain leads into another", bucket)
			}
			chained[p.bucket] = true
			slot := p.word()
			if slot == 0 {
				return true
			}
			r, ok := c.live[uint32(slot)]
			switch {
			case !ok:
				c.report("bucket %d: slot names cell %d, which is no live record", bucket, uint32(slot))
			case r.hash>>layout.SlotTagShift != slot>>layout.SlotTagShift || c.bucketOffset(r.hash) != bucket*layout.SizeBucket:
				c.report("bucket %d: slot names cell %d, whose hash %#x belongs elsewhere", bucket, uint32(slot), r.hash)
			}
			named[uint32(slot)]++
			return true
		})
		if err != nil {
			c.report("bucket %d: %v", bucket, err)
		}
	}
	keys := map[string]uint32{}
	for n, r := range c.live {
		if named[n] != 1 {
			c.report("cell %d: %d slots name it", n, named[n])
		}
		id := fmt.Sprintf("%d %s", r.flags, r.key)
		if other := keys[id]; other != 0 {
			c.report("cells %d and %d hold the same key", n, other)
		}
		keys[id] = n
	}
	return chained
}

// checkOverflow sees that every overflow bucket is in a chain, free or fresh, and that
// what a chain would get is empty.
func (c *checker) checkOverflow(used map[*layout.Bucket]bool) {
	for n := uint64(c.head.OverflowHead.Load()); n != 0; {
		b, ok := c.overflow(n)
		if !ok || used[b] {
			c.report("free overflow buckets: bucket %d is in a chain, no bucket, or comes twice", n)
			return
		}
		if !isEmpty(b) {
			c.report("free overflow buckets: bucket %d has slots that are not empty", n)
		}
		used[b] = true
		n = b.Link.Load()
	}
	for n := uint64(1); n <= uint64(c.overflows); n++ {
		b, _ := c.overflow(n)
		switch fresh := n > uint64(c.head.OverflowBump.Load()); {
		case used[b] == fresh:
			c.report("overflow bucket %d is neither in a chain nor free nor fresh, or two of them", n)
		case fresh && !(isEmpty(b) && b.Link.Load() == 0):
			c.report("overflow bucket %d was never used, and is not empty", n)
		}
	}
}

// checkOrder sees that each live record stands in one of the queues.
func (c *checker) checkOrder() {
	small := c.checkQueue("small queue", c.head.SmallFront.Load(), c.head.SmallBack.Load(), layout.QueueSmall)
	main := c.checkQueue("order", c.head.Front.Load(), c.head.Back.Load(), 0)
	if small+main != len(c.live) || uint64(small) != uint64(c.head.SmallCount.Load()) {
		c.report("order: %d records and %d in the small queue, of %d and %d", main, small, len(c.live), c.head.SmallCount.Load())
	}
	if c.raise == 0 && small != 0 {
		c.report("order: a small queue in an order without one")
	}
}

// checkQueue walks a queue from the back and returns how many records it has.
// Each of them bears the mark, so that none can stand in both.
func (c *checker) checkQueue(name string, front, back, mark uint32) (count int) {
	after := uint32(0)
	for n := back; n != 0; count++ {
		if _, ok := c.live[n]; !ok || count > len(c.live) {
			c.report("%s: cell %d is no live record, or comes twice", name, n)
			return count
		}
		h := c.cell(n)
		if next := h.Next.Load(); next != after {
			c.report("%s: cell %d points back to %d, not to %d", name, n, next, after)
		}
		prev := h.Prev.Load()
		if prev&layout.QueueSmall != mark {
			c.report("%s: cell %d is marked as the other queue's", name, n)
		}
		after, n = n, prev&^layout.QueueSmall
	}
	if after != front {
		c.report("%s: ends at cell %d, the front being %d", name, after, front)
	}
	return count
}

// checkFree sees that every cell is used, free or fresh.
func (c *checker) checkFree() {
	for n, steps := c.head.FreeHead.Load(), uint32(0); n != 0; steps++ {
		if !c.isCell(n) || c.used[n] || steps > c.slab.geo.Cells {
			c.report("free list: cell %d is in use, no cell, or comes twice", n)
			return
		}
		if v := c.cell(n).Version.Load(); v&layout.VersionStateMask != layout.VersionFree {
			c.report("free list: cell %d has version %#x", n, v)
		}
		c.used[n] = true
		n = c.cell(n).Chain.Load()
	}
	for n := uint32(1); n <= c.slab.geo.Cells; n++ {
		switch fresh := n > c.head.Bump.Load(); {
		case c.used[n] == fresh:
			c.report("cell %d is neither used nor free nor fresh, or two of them", n)
		case fresh && c.cell(n).Version.Load() != 0:
			c.report("cell %d was never used, and has version %#x", n, c.cell(n).Version.Load())
		}
	}
}
