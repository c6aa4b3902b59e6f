//go:build !amd64 || race

package shm

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"github.com/flagstone-shm/flagstone/internal/step"
)

// Copies by atomic words: elsewhere than on amd64 plain accesses may move
// across the accesses of the version word, and the race detector would call
// them races.

// word returns the word that holds byte off and the byte's place in it.
func (w Window) word(off uint64) (*uint64, uint64) {
	return (*uint64)(w.at(off&^7, 8)), off & 7
}

// Append appends the n bytes at off to dst. The bytes may be torn; the caller
// compares versions afterwards.
func (w Window) Append(dst []byte, off, n uint64) []byte {
	w.at(off, n)
	for n > 0 {
		p, shift := w.word(off)
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], atomic.LoadUint64(p))
		part := min(8-shift, n)
		dst = append(dst, b[shift:shift+part]...)
		off, n = off+part, n-part
	}
	return dst
}

// Equal reports whether the bytes at off equal b.
func (w Window) Equal(off uint64, b []byte) bool {
	w.at(off, uint64(len(b)))
	for len(b) > 0 {
		p, shift := w.word(off)
		var have [8]byte
		binary.LittleEndian.PutUint64(have[:], atomic.LoadUint64(p))
		part := min(8-shift, uint64(len(b)))
		if !bytes.Equal(have[shift:shift+part], b[:part]) {
			return false
		}
		off, b = off+part, b[part:]
	}
	return true
}

// Write copies b to off. Bytes beside b in the same words keep their values,
// which is right because one lock holder writes a cell.
func (w Window) Write(off uint64, b []byte) {
	step.Here()
	w.at(off, uint64(len(b)))
	for len(b) > 0 {
		p, shift := w.word(off)
		var have [8]byte
		part := min(8-shift, uint64(len(b)))
		if part < 8 {
			binary.LittleEndian.PutUint64(have[:], atomic.LoadUint64(p))
		}
		copy(have[shift:shift+part], b)
		atomic.StoreUint64(p, binary.LittleEndian.Uint64(have[:]))
		off, b = off+part, b[part:]
	}
}

// Zero clears n bytes at off.
func (w Window) Zero(off, n uint64) {
	w.at(off, n)
	var zeros [512]byte
	for n > 0 {
		part := min(n, uint64(unsafe.Sizeof(zeros)))
		w.Write(off, zeros[:part])
		off, n = off+part, n-part
	}
}

// Read copies the bytes at off to dst. They may be torn, as with Append.
func (w Window) Read(dst []byte, off uint64) { w.Append(dst[:0], off, uint64(len(dst))) }

// Increment adds one to a statistic of this process.
func Increment(n *atomic.Uint64) { n.Add(1) }
