//go:build !race && !steps

//lint:file-ignore U1000 find_amd64.s uses the constants.

package shm

import (
	"math"
	"unsafe"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// Numbers of the layout for find_amd64.s, which includes them as constants.
const (
	cellVersion  = unsafe.Offsetof(layout.CellHeader{}.Version)
	cellRecency  = unsafe.Offsetof(layout.CellHeader{}.Recency)
	cellExpiry   = unsafe.Offsetof(layout.CellHeader{}.Expiry)
	cellValueLen = unsafe.Offsetof(layout.CellHeader{}.ValueLength)
	cellKeyFlags = unsafe.Offsetof(layout.CellHeader{}.KeyFlags)
	cellPayload  = layout.SizeCellHeader
	maxKeyLength = layout.MaxKeyLength
	findLimit    = longestFind
	rebuilding   = layout.EpochRebuilding
	tagShift     = layout.SlotTagShift
	stateMask    = layout.VersionStateMask
	staleBits    = 64 - layout.ExpiryStaleShift
	stampShift   = layout.RecencyStampShift
	turnShift    = layout.RecencyTurnShift
	turnMask     = layout.RecencyTurnMask
)

// And those that its instructions imply.
var (
	_ = [1]struct{}{}[layout.SizeBucket-1<<6]
	_ = [1]struct{}{}[layout.SlotsPerBucket-7]     // of eight words, the mask of the matches
	_ = [1]struct{}{}[layout.SlotTagShift-32]      // tags are compared as the upper halves
	_ = [1]struct{}{}[layout.RecencyStampShift-16] // the rest of the word is moved as 16 bits
	_ = [1]struct{}{}[layout.RecencyCountMask-3]   // the count is raised by 1
	_ = [1]struct{}{}[layout.EpochRebuildMask-math.MaxUint32]
)

// Find is described with Finder.
//
// It notes the use with a compare-and-exchange that is one instruction, but without
// the lock that would keep other processors out for its duration, and the next
// lookup's loads waiting. What another one stores in the same nanoseconds may be
// lost: a use of the same time, a count, a turn. Unless this reader was held up since
// it looked at the clock: so it looks again afterwards, and if by then the stamp is
// older than the grain the use is to be noted anew, with the lock. RATIONALE.md, "The
// read path".
//
//go:noescape
func Find(f *Finder, dst, key []byte, hash uint64, word uint32) (n int, cell *layout.CellHeader, recency uint64)

//go:noescape
func prefetchRecord(f *Finder, hash uint64)

// PrefetchBucket asks for the hash's bucket.
func (f *Finder) PrefetchBucket(hash uint64) {
	prefetch(unsafe.Add(f.Index.base, hash&0xffffffff*f.Buckets>>32*layout.SizeBucket))
}

// PrefetchRecord asks for the first lines of the record that the hash's bucket,
// which it waits for, names.
func (f *Finder) PrefetchRecord(hash uint64) { prefetchRecord(f, hash) }
