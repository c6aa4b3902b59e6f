package slab

import (
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Buckets of a shard are numbered from 0; overflow bucket n, numbered from 1,
// stands behind them. Chains are walked at most as far as there are overflow
// buckets.

// bucketOffset returns where the chain of a hash starts.
func (sh *shard) bucketOffset(hash uint64) uint64 {
	return (hash & 0xffffffff) * sh.buckets >> 32 * layout.SizeBucket
}

func (sh *shard) bucketAt(off uint64) *layout.Bucket { return shm.At[layout.Bucket](sh.index, off) }

// overflow returns overflow bucket n; ok is false if there is none such.
func (sh *shard) overflow(n uint64) (b *layout.Bucket, ok bool) {
	if n-1 >= uint64(sh.overflows) { // 0 wraps around
		return nil, false
	}
	return sh.bucketAt(sh.overflowOffset(n)), true
}

func (sh *shard) overflowOffset(n uint64) uint64 { return (sh.buckets + n - 1) * layout.SizeBucket }

// place is a slot of the index.
type place struct {
	bucket *layout.Bucket
	slot   int
}

func (p place) word() uint64   { return p.bucket.Slots[p.slot].Load() }
func (p place) store(w uint64) { p.bucket.Slots[p.slot].Store(w) } // pairs with the loads of readers

// slots visits the slots of a hash's chain, under the lock, until visit returns
// false. A link that leads nowhere, or in a circle, is an error.
func (sh *shard) slots(hash uint64, visit func(p place) (goOn bool)) error {
	b := sh.bucketAt(sh.bucketOffset(hash))
	for range sh.overflows + 1 {
		for i := range b.Slots {
			if !visit(place{b, i}) {
				return nil
			}
		}
		link := b.Link.Load()
		if link == 0 {
			return nil
		}
		next, ok := sh.overflow(link)
		if !ok {
			return sh.brokenf("link to overflow bucket %d", link)
		}
		b = next
	}
	return sh.brokenf("endless chain of overflow buckets")
}

// spot is a record and the slot that names it; cell 0 is none.
type spot struct {
	sh   *shard
	cell uint32
	at   place
}

// header returns the record's header.
func (s spot) header() *layout.CellHeader { return s.sh.cell(s.cell) }

// found is what there is of a key: its record and the claim on it.
type found struct{ record, claim spot }

// find looks for the key, which is not a claim's, under the lock.
func (sh *shard) find(k *Key) (f found, err error) {
	tag, word, claim := k.tag(), k.word(), k.claim()
	err = sh.slots(k.hash, func(p place) bool {
		slot := p.word()
		n := uint32(slot)
		if slot>>layout.SlotTagShift != tag || !sh.isCell(n) {
			return true
		}
		c := sh.cell(n)
		v := c.Version.Load()
		if has := c.KeyFlags.Load(); isLive(v) && (has == word || has == claim.word()) && sh.hasKey(n, v, k) {
			if has == word {
				f.record = spot{sh, n, p}
			} else {
				f.claim = spot{sh, n, p}
			}
		}
		return f.record.cell == 0 || f.claim.cell == 0
	})
	return f, err
}

// find looks for the key, which is not a claim's, in all tiers, under the lock. There
// is one record of a key at most; should a peer's error have left another one below,
// it goes, so that it does not come to light later.
func (col *column) find(k *Key) (f found, err error) {
	for _, sh := range col.tiers {
		below, err := sh.find(k)
		if err == nil {
			err = keepUpper(&f.record, below.record, k.hash)
		}
		if err == nil {
			err = keepUpper(&f.claim, below.claim, k.hash)
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

// keepUpper takes note of what was found below, or removes it if there is a record
// above.
func keepUpper(upper *spot, below spot, hash uint64) error {
	switch {
	case below.cell == 0:
		return nil
	case upper.cell == 0:
		*upper = below
		return nil
	}
	return below.release(hash)
}

// locate finds the slot that names a record, given its hash.
func (sh *shard) locate(hash uint64, cell uint32) (place, error) {
	want := hash>>layout.SlotTagShift<<layout.SlotTagShift | uint64(cell)
	var at place
	err := sh.slots(hash, func(p place) bool {
		if p.word() == want {
			at = p
			return false
		}
		return true
	})
	if err == nil && at.bucket == nil {
		err = sh.brokenf("no slot names cell %d", cell)
	}
	return at, err
}

// vacant returns an empty slot in the hash's chain. If there is none, it takes
// an overflow bucket, whose number it returns too: the caller links it to the
// end of the chain, empty, and only then fills the slot. If there is no overflow
// bucket left the shard needs a rebuild, which packs the chains.
func (sh *shard) vacant(hash uint64) (at place, extra uint64, end *layout.Bucket, err error) {
	err = sh.slots(hash, func(p place) bool {
		end = p.bucket
		if p.word() == 0 {
			at = p
			return false
		}
		return true
	})
	if err != nil || at.bucket != nil {
		return at, 0, end, err
	}
	n := uint64(sh.head.OverflowHead.Load())
	if n == 0 {
		n = uint64(sh.head.OverflowBump.Load()) + 1
		b, ok := sh.overflow(n)
		if !ok {
			return at, 0, end, sh.brokenf("overflow buckets used up")
		}
		sh.head.OverflowBump.Store(uint32(n))
		return place{b, 0}, n, end, nil
	}
	b, ok := sh.overflow(n)
	if !ok {
		return at, 0, end, sh.brokenf("free overflow bucket %d", n)
	}
	sh.head.OverflowHead.Store(uint32(b.Link.Load()))
	b.Link.Store(0)
	return place{b, 0}, n, end, nil
}

// trim unlinks the empty buckets at the end of a chain. A reader that is inside
// one finds no slot of its key there, as keys that stay keep their slots; model:
// overflow.pml, BREAK_MIDDLE.
func (sh *shard) trim(hash uint64) {
	last := sh.bucketAt(sh.bucketOffset(hash)) // the last bucket that stays
	b := last
	for range sh.overflows {
		next, ok := sh.overflow(b.Link.Load())
		if !ok {
			break
		}
		b = next
		if !isEmpty(b) {
			last = b
		}
	}
	n := last.Link.Load()
	last.Link.Store(0)
	for range sh.overflows {
		b, ok := sh.overflow(n)
		if !ok {
			break
		}
		following := b.Link.Load()
		b.Link.Store(uint64(sh.head.OverflowHead.Load()))
		sh.head.OverflowHead.Store(uint32(n))
		n = following
	}
}

// isEmpty reports whether no slot of a bucket names a record.
func isEmpty(b *layout.Bucket) bool {
	for i := range b.Slots {
		if b.Slots[i].Load() != 0 {
			return false
		}
	}
	return true
}
