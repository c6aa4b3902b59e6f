package slab

import (
	"context"
	"fmt"

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

// Scan yields every record that is in the slab from before the call until after
// it, exactly once, and of those that come, go or change meanwhile some; expired
// ones too. It stops when yield returns false. It takes a lock only for buckets
// that keep changing, waiting until ctx ends. Recency is not touched.
func (s *Slab) Scan(ctx context.Context, yield func(Record) bool) error {
	for i := range s.shards {
		sh := &s.shards[i]
		for bucket := range uint64(s.geo.Buckets) {
			var page scanPage
			if err := sh.scanChain(ctx, bucket, &page); err != nil {
				return err
			}
			for _, r := range page.records {
				if !r.inner && !yield(r.Record) {
					return nil
				}
			}
		}
	}
	return s.usable()
}

// scanPage is the content of one chain of buckets.
type scanPage struct{ records []placed }

// scanChain reads one chain. A key that stays keeps its slot, and a rebuild
// leaves it in its chain, so a chain read within one epoch has every key that
// stays exactly once.
func (sh *shard) scanChain(ctx context.Context, bucket uint64, page *scanPage) (err error) {
	for range patience {
		if done, err := sh.tryChain(bucket, page); done || err != nil {
			return err
		}
	}
	if sh.slab.domain.ReadOnly {
		return fmt.Errorf("shard %d: %w: bucket %d keeps changing", sh.number, ErrBusy, bucket)
	}
	return sh.slab.update(ctx, sh, func() error {
		done, err := sh.tryChain(bucket, page)
		if err == nil && !done {
			err = sh.brokenf("bucket %d changes under the lock", bucket)
		}
		return err
	})
}

func (sh *shard) tryChain(bucket uint64, page *scanPage) (done bool, err error) {
	defer sh.slab.leave(shm.Guard(), &err)
	page.records = page.records[:0]
	epoch := sh.head.Epoch.Load() // pairs with rebuild
	if epoch&layout.EpochRebuilding != 0 {
		return false, nil
	}
	b := sh.bucketAt(bucket * layout.SizeBucket)
	var size uint64 // of what is gathered: no chain holds more than the cells do
	for range sh.slab.geo.Overflow + 1 {
		for i := range b.Slots {
			slot := b.Slots[i].Load() // pairs with write
			if slot == 0 || !sh.isCell(uint32(slot)) {
				continue
			}
			c := sh.cell(uint32(slot))
			version := c.Version.Load() // pairs with write and release
			r, whole := sh.record(c, uint32(slot), version)
			if b.Slots[i].Load() != slot || c.Version.Load() != version {
				return false, nil
			}
			// A chain trimmed meanwhile may lead into another one's buckets.
			if whole && r.placedBy>>layout.SlotTagShift == slot>>layout.SlotTagShift && sh.bucketOffset(r.placedBy) == bucket*layout.SizeBucket {
				page.records = append(page.records, r)
				if size += uint64(len(r.Key) + len(r.Value)); size > sh.slab.geo.cellBytes() {
					return false, nil
				}
			}
		}
		link := b.Link.Load()
		if link == 0 {
			return sh.head.Epoch.Load() == epoch, nil
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
	r.placedBy = sh.slab.rehash(key, flags)
	r.Name, r.inner = nameOf(key, flags, r.placedBy)
	return r, true
}
