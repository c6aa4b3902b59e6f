package slab

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lru"
)

// Record is what Scan yields. Its slices are valid until yield returns.
type Record struct {
	Name
	Item
	LastUse uint64 // domain time in milliseconds
}

// Scan yields every record that is in the stack from before the call until after
// it, exactly once, and of those that come, go or change meanwhile some; expired
// ones too. It stops when yield returns false. It takes a lock only for buckets
// that keep changing, waiting until ctx ends. Recency is not touched.
func (st *Stack) Scan(ctx context.Context, yield func(Record) bool) error {
	return st.ScanFrom(ctx, &Position{}, yield)
}

// Position is how far a scan has come. The zero value is its beginning.
type Position struct {
	column int
	bucket uint64
}

// ScanFrom is Scan from a position on, which it moves: with ErrStale the scan goes on
// there in a newer stack.
func (st *Stack) ScanFrom(ctx context.Context, at *Position, yield func(Record) bool) error {
	return st.scanAll(ctx, at, func(r *placed) bool { return r.inner || yield(r.Record) })
}

// scanAll is ScanFrom with the records that only this library uses.
func (st *Stack) scanAll(ctx context.Context, at *Position, yield func(*placed) bool) error {
	for ; at.column < len(st.columns); at.column, at.bucket = at.column+1, 0 {
		col := &st.columns[at.column]
		for ; at.bucket < col.top.buckets; at.bucket++ {
			var page scanPage
			if err := col.scan(ctx, at.bucket, &page); err != nil {
				return err
			}
			for i := range page.records {
				if !yield(&page.records[i]) {
					return nil
				}
			}
		}
	}
	return st.usable()
}

// scanPage is what a column has of the keys that tier 0 has a bucket for: one chain
// there, and the parts of chains in the tiers below.
type scanPage struct{ records []placed }

// scan reads the page of one bucket. A key that stays keeps its slot, and a rebuild
// leaves it in its chain; where it moves down it is found twice or once, and where it
// moves up the epoch counts. So a page read within one epoch, with twins left out, has
// every key that stays exactly once.
func (col *column) scan(ctx context.Context, bucket uint64, page *scanPage) (err error) {
	for range patience {
		if done, err := col.tryScan(bucket, page); done || err != nil {
			return err
		}
	}
	if col.stack.top.domain.ReadOnly {
		return fmt.Errorf("shard %d: %w: bucket %d keeps changing", col.top.number, ErrBusy, bucket)
	}
	return col.stack.update(ctx, col, func() error {
		done, err := col.tryScan(bucket, page)
		if err == nil && !done {
			err = col.top.brokenf("bucket %d changes under the lock", bucket)
		}
		return err
	})
}

func (col *column) tryScan(bucket uint64, page *scanPage) (done bool, err error) {
	defer col.stack.leave(shm.Guard(), &err)
	page.records = page.records[:0]
	epoch := col.top.head.Epoch.Load() // pairs with rebuild, and with release below tier 0
	if epoch&layout.EpochRebuilding != 0 {
		return false, nil
	}
	for tier, sh := range col.tiers {
		// The hashes of a bucket are a range, which falls into one or more buckets of
		// another table.
		first, last := firstHash(bucket, col.top.buckets), firstHash(bucket+1, col.top.buckets)-1
		upper := page.records
		for b := first * sh.buckets >> 32; b <= last*sh.buckets>>32; b++ {
			whole, err := sh.scanChain(b, page, func(r *placed) bool {
				low := r.placedBy & 0xffffffff
				return low >= first && low <= last && (tier == 0 || !r.among(upper))
			})
			if err != nil || !whole {
				return false, err
			}
		}
	}
	// What it had may have moved to where it did not look.
	return col.top.head.Epoch.Load() == epoch, col.stack.complete()
}

// firstHash returns the lowest value of a hash's lower half that falls into a bucket.
func firstHash(bucket, buckets uint64) uint64 { return (bucket<<32 + buckets - 1) / buckets }

// among reports whether the same key is among the records.
func (r *placed) among(records []placed) bool {
	return slices.ContainsFunc(records, func(o placed) bool {
		return o.placedBy == r.placedBy && o.flags == r.flags && bytes.Equal(o.raw, r.raw)
	})
}

// scanChain adds the records of one chain that are wanted to the page; whole is false
// if it changed meanwhile.
func (sh *shard) scanChain(bucket uint64, page *scanPage, wanted func(*placed) bool) (whole bool, err error) {
	b := sh.bucketAt(bucket * layout.SizeBucket)
	var size uint64 // of what is gathered: no chain holds more than the cells do
	for range sh.slab.geo.Overflow + 1 {
		for i := range b.Slots {
			slot := b.Slots[i].Load() // pairs with insert
			if slot == 0 || !sh.isCell(uint32(slot)) {
				continue
			}
			c := sh.cell(uint32(slot))
			version := c.Version.Load() // pairs with fill and release
			r, whole := sh.record(c, uint32(slot), version)
			if b.Slots[i].Load() != slot || c.Version.Load() != version {
				return false, nil
			}
			// A chain trimmed meanwhile may lead into another one's buckets.
			if whole && r.placedBy>>layout.SlotTagShift == slot>>layout.SlotTagShift && sh.bucketOffset(r.placedBy) == bucket*layout.SizeBucket && wanted(&r) {
				page.records = append(page.records, r)
				if size += uint64(len(r.Key) + len(r.Value)); size > sh.slab.geo.cellBytes() {
					return false, nil
				}
			}
		}
		link := b.Link.Load()
		if link == 0 {
			return true, nil
		}
		next, ok := sh.overflow(link)
		if !ok {
			return false, nil
		}
		b = next
	}
	return false, nil // a circle
}

// placed is a record with the hash that places it.
type placed struct {
	Record
	placedBy uint64
	raw      []byte // the key's bytes as they are stored
	flags    uint32
	inner    bool // only this library uses it
}

// record copies the record in cell n; whole is false if it is no live one, or
// damaged, or changing.
func (sh *shard) record(c *layout.CellHeader, n uint32, version uint64) (r placed, whole bool) {
	keyLen, valueLen, flags, ok := sh.lengths(c)
	if !isLive(version) || !ok {
		return r, false
	}
	both, ok := sh.appendBytes(nil, n, version, 0, keyLen+valueLen)
	if !ok {
		return r, false
	}
	key := both[:keyLen:keyLen]
	packed := c.Expiry.Load()
	r.Item = Item{
		Value: both[keyLen:], Version: version, Tag: c.UserTag.Load(),
		Expiry: packed & layout.ExpiryMask, Stale: uint16(packed >> layout.ExpiryStaleShift),
	}
	r.LastUse = lru.Stamp(c.Recency.Load())
	r.placedBy, r.raw, r.flags = sh.slab.rehash(key, flags), key, flags
	r.Name, r.inner = nameOf(key, flags, r.placedBy)
	return r, true
}
