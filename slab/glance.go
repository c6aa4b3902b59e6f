package slab

import (
	"math/bits"
	"runtime/debug"
	"sync/atomic"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lru"
)

// A lookup waits for two cache lines one after the other, the bucket's and the
// record's. What can be gained is to have the next lookup's lines under way
// meanwhile, which the processor does by itself as long as few instructions and
// stores, and no locked one, lie between. So the common case has a straight line
// of its own: RATIONALE.md, "The read path".

// glance is peek, guarded against faults.
func (sh *shard) glance(dst, k []byte, hash uint64, word uint32) (n int) {
	defer settle(debug.SetPanicOnFault(true), &n)
	return sh.peek(dst, k, hash, word, sh.guess(hash))
}

// settle, deferred, leaves it to read to meet the fault again.
func settle(old bool, n *int) {
	debug.SetPanicOnFault(old)
	if recover() != nil {
		*n = -1
	}
}

// guess returns which slot of the hash's bucket names its record, probably: the
// first with the tag, and 7 if there is none.
func (sh *shard) guess(hash uint64) int {
	m := sh.index.MatchTags(sh.bucketOffset(hash), uint32(hash>>layout.SlotTagShift))
	return bits.TrailingZeros32(m|1<<14) / 2
}

// named returns a slot of the hash's bucket; 7 is the link.
func (sh *shard) named(hash uint64, slot int) *atomic.Uint64 {
	return &shm.At[[8]atomic.Uint64](sh.index, sh.bucketOffset(hash))[slot&7]
}

// peek is read for the common case: the slot guessed names a live record of one
// cell that has the key and is not expired, its value fits dst, and nothing moves.
// It copies the value to dst and returns its length, or -1 for anything else,
// which is left to read.
func (sh *shard) peek(dst, k []byte, hash uint64, word uint32, guess int) int {
	epoch := sh.head.Epoch.Load() // pairs as in read, here and below
	named := sh.named(hash, guess)
	slot := named.Load()
	if slot>>layout.SlotTagShift != hash>>layout.SlotTagShift || !sh.isCell(uint32(slot)) || guess == layout.SlotsPerBucket {
		return -1
	}
	off := sh.cellOffset(uint32(slot))
	c := shm.At[layout.CellHeader](sh.cells, off)
	version, seen := c.Version.Load(), c.Recency.Load()
	length := uint64(c.ValueLength.Load())
	// Differences are gathered by or, which costs fewer branches.
	odd := version&layout.VersionStateMask | uint64(c.KeyFlags.Load()^word) | uint64(len(k))&^layout.KeyLengthMask
	if odd != 0 || version == 0 || length > uint64(len(dst)) || uint64(len(k))+length > sh.payload ||
		!sh.cells.Equal(off+headSize, k) || sh.expired(c.Expiry.Load()) {
		return -1
	}
	sh.cells.Read(dst[:length], off+headSize+uint64(len(k)))
	// The parentheses count: ^ binds no tighter than |.
	moved := (c.Version.Load() ^ version) | (named.Load() ^ slot) | (sh.head.Epoch.Load() ^ epoch) | epoch&layout.EpochRebuilding
	if moved != 0 || lru.Due(seen, sh.head.Turn.Load()) {
		return -1
	}
	lru.Touch(c, seen, sh.now.Load(), sh.raise)
	shm.Increment(&sh.hits)
	return int(length)
}
