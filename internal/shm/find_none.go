//go:build !amd64 || race || steps

package shm

import (
	"math/bits"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// line returns where the hash's bucket starts, and which slot of it is the first
// with the tag; ok is false if there is none.
func (f *Finder) line(hash uint64) (off uint64, slot int, ok bool) {
	off = (hash & 0xffffffff) * f.Buckets >> 32 * layout.SizeBucket
	m := f.Index.MatchTags(off, uint32(hash>>layout.SlotTagShift))
	return off, bits.TrailingZeros32(m) / 2, m != 0
}

// Find is described with Finder.
func Find(f *Finder, dst, key []byte, hash uint64, word uint32) (n int, cell *layout.CellHeader, recency uint64) {
	epoch := f.Epoch.Load() // pairs with rebuild
	off, i, ok := f.line(hash)
	if !ok || epoch&layout.EpochRebuilding != 0 {
		return -1, nil, 0
	}
	named := &At[layout.Bucket](f.Index, off).Slots[i]
	slot := named.Load() // pairs with write
	number := uint64(uint32(slot) - 1)
	if slot>>layout.SlotTagShift != hash>>layout.SlotTagShift || number >= f.Count {
		return -1, nil, 0
	}
	off = number * f.CellSize
	c := At[layout.CellHeader](f.Cells, off)
	version, seen, length := c.Version.Load(), c.Recency.Load(), uint64(c.ValueLength.Load()) // pairs with fill and release
	payload := off + layout.SizeCellHeader
	if version == 0 || version&layout.VersionStateMask != 0 || c.KeyFlags.Load() != word || len(key) > layout.MaxKeyLength ||
		length > uint64(len(dst)) || length > longestFind || uint64(len(key))+length > f.Payload ||
		f.expired(c.Expiry.Load()) || (seen>>layout.RecencyTurnShift^f.Turn.Load())&layout.RecencyTurnMask != 0 || !f.Cells.Equal(payload, key) {
		return -1, nil, 0
	}
	f.Cells.Read(dst[:length], payload+uint64(len(key)))
	// Models: read.pml BREAK_FREE, BREAK_HIT, rebuild.pml BREAK_EPOCH_HIT, comeback.pml BREAK_HIT.
	if c.Version.Load() != version || named.Load() != slot || (f.Epoch.Load()^epoch)&layout.EpochRebuildMask != 0 {
		return -1, nil, 0
	}
	if seen>>layout.RecencyStampShift+f.Grain < f.Now.Load() || seen&f.Raise != f.Raise {
		return int(length), c, seen
	}
	f.Hits.Add(1)
	return int(length), nil, 0
}

func (f *Finder) expired(expiry uint64) bool {
	expiry &= layout.ExpiryMask
	return expiry != 0 && expiry <= f.Wall.Load()
}

// PrefetchBucket asks for the hash's bucket.
func (f *Finder) PrefetchBucket(hash uint64) {
	f.Index.Prefetch((hash & 0xffffffff) * f.Buckets >> 32 * layout.SizeBucket)
}

// PrefetchRecord asks for the first lines of the record that the hash's bucket,
// which it waits for, names.
func (f *Finder) PrefetchRecord(hash uint64) {
	off, i, _ := f.line(hash)
	line := At[[8]layout.Uint64](f.Index, off)
	if cell := uint64(uint32(line[i&7].Load()) - 1); cell < f.Count {
		f.Cells.Prefetch(cell * f.CellSize)
		f.Cells.Prefetch(cell*f.CellSize + layout.LineSize)
	}
}
