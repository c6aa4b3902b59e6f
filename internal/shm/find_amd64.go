//go:build !race

package shm

import (
	"unsafe"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// Offsets for find_amd64.s, which includes them as constants.
const (
	cellVersion  = unsafe.Offsetof(layout.CellHeader{}.Version)
	cellRecency  = unsafe.Offsetof(layout.CellHeader{}.Recency)
	cellExpiry   = unsafe.Offsetof(layout.CellHeader{}.Expiry)
	cellValueLen = unsafe.Offsetof(layout.CellHeader{}.ValueLength)
	cellKeyFlags = unsafe.Offsetof(layout.CellHeader{}.KeyFlags)
	cellPayload  = layout.SizeCellHeader
	maxKeyLength = layout.MaxKeyLength
	findLimit    = longestFind
	stampShift   = layout.RecencyStampShift
	turnShift    = layout.RecencyTurnShift
	turnMask     = layout.RecencyTurnMask
)

//go:noescape
func prefetchRecord(f *Finder, hash uint64)

// Find copies the value to dst and returns its length, or -1 for anything but
// the common case. Word is the key's length and flags as in CellHeader.KeyFlags.
// If there is more to be done with the record's recency it returns the cell, and the
// word as it was while the version was right.
//
// It notes the use with a compare-and-exchange that is one instruction, but without
// the lock that would keep other processors out for its duration, and the next
// lookup's loads waiting. If another reader notes a use within that microsecond, one
// of the two is lost, which are of one time. Unless this reader was held up since it
// looked at the clock: so it looks again afterwards, and if that was for longer than
// the grain, the use is to be noted anew, with the lock. RATIONALE.md, "The read path".
//
//go:noescape
func Find(f *Finder, dst, key []byte, hash uint64, word uint32) (n int, cell *layout.CellHeader, recency uint64)

// PrefetchBucket asks for the hash's bucket.
func (f *Finder) PrefetchBucket(hash uint64) {
	prefetch(unsafe.Add(f.Index.base, hash&0xffffffff*f.Buckets>>32*layout.SizeBucket))
}

// PrefetchRecord asks for the first lines of the record that the hash's bucket,
// which it waits for, names.
func (f *Finder) PrefetchRecord(hash uint64) { prefetchRecord(f, hash) }
