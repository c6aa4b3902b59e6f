//go:build amd64 && !race

package shm

import (
	"sync/atomic"
	"unsafe"

	"github.com/flagstone-shm/flagstone/internal/step"
)

// On amd64 loads are not reordered with loads nor stores with stores, so plain
// copies between two atomic accesses of a version word are enough.

// Append appends the n bytes at off to dst. The bytes may be torn; the caller
// compares versions afterwards.
func (w Window) Append(dst []byte, off, n uint64) []byte {
	return append(dst, unsafe.Slice((*byte)(w.at(off, n)), n)...)
}

// Equal reports whether the bytes at off equal b.
func (w Window) Equal(off uint64, b []byte) bool {
	return unsafe.String((*byte)(w.at(off, uint64(len(b)))), len(b)) == string(b)
}

// Write copies b to off.
func (w Window) Write(off uint64, b []byte) {
	to := unsafe.Slice((*byte)(w.at(off, uint64(len(b)))), len(b))
	if step.On { // who dies in the middle leaves half of it
		step.Here()
		n := copy(to, b[:len(b)/2])
		to, b = to[n:], b[n:]
	}
	step.Here()
	copy(to, b)
}

// Zero clears n bytes at off.
func (w Window) Zero(off, n uint64) {
	step.Here()
	clear(unsafe.Slice((*byte)(w.at(off, n)), n))
}

// Read copies the bytes at off to dst. They may be torn, as with Append.
func (w Window) Read(dst []byte, off uint64) {
	copy(dst, unsafe.Slice((*byte)(w.at(off, uint64(len(dst)))), len(dst)))
}

// Increment adds one to a statistic of this process without the cost of a locked
// instruction. Of increments at the same instant one may be lost.
func Increment(n *atomic.Uint64) { *(*uint64)(unsafe.Pointer(n))++ }
