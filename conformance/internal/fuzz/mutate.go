package fuzz

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/flagstone-shm/flagstone/conformance/internal/vectors"
	"github.com/flagstone-shm/flagstone/internal/layout"
)

// mutant is an image with bytes changed, and what was done to it.
type mutant struct {
	files []vectors.File
	done  []string
}

// mutate changes a copy of the image in one to six places.
func mutate(v *vectors.Vector, r *rand.Rand) *mutant {
	m := &mutant{}
	for _, f := range v.Files {
		m.files = append(m.files, vectors.File{Name: f.Name, Bytes: append([]byte(nil), f.Bytes...)})
	}
	for range 1 + r.IntN(6) {
		f := &m.files[0] // the control segment
		if len(m.files) > 1 && r.IntN(5) > 0 {
			f = &m.files[1+r.IntN(len(m.files)-1)]
		}
		m.note(f.Name, change(f.Bytes, m.files, r))
	}
	if r.IntN(40) == 0 {
		f := &m.files[r.IntN(len(m.files))]
		n := r.IntN(2*len(f.Bytes) + 1)
		f.Bytes = append(f.Bytes, make([]byte, len(f.Bytes))...)[:n]
		m.note(f.Name, fmt.Sprintf("%d bytes long", n))
	}
	for i := range m.files {
		if f := &m.files[i]; r.IntN(4) > 0 && sum(f) {
			m.note(f.Name, "checksum made right")
		}
	}
	return m
}

func (m *mutant) note(file, what string) { m.done = append(m.done, file+": "+what) }

// change changes something in b.
func change(b []byte, files []vectors.File, r *rand.Rand) string {
	at := place(b, r)
	switch r.IntN(8) {
	case 0, 1:
		bit := r.IntN(8)
		b[at] ^= 1 << bit
		return fmt.Sprintf("bit %d of byte %#x flipped", bit, at)
	case 2:
		const cell = 64
		from := place(b, r) / cell * cell
		at = at / cell * cell
		copy(b[at:min(at+cell, len(b))], b[from:])
		return fmt.Sprintf("%d bytes at %#x are those at %#x", cell, at, from)
	case 3:
		other := files[r.IntN(len(files))].Bytes
		word := binary.LittleEndian.Uint64(other[place(other, r)&^7:])
		return store64(b, at, word)
	case 4:
		return store64(b, at, plausible(r))
	default:
		at &^= 3
		n := uint32(plausible(r))
		binary.LittleEndian.PutUint32(b[at:], n)
		return fmt.Sprintf("u32 at %#x is %#x", at, n)
	}
}

func store64(b []byte, at int, n uint64) string {
	at &^= 7
	binary.LittleEndian.PutUint64(b[at:], n)
	return fmt.Sprintf("u64 at %#x is %#x", at, n)
}

// place returns an offset, most often near one that is not zero, and seldom one in the
// header: whoever changes that is refused, and there is no more to see.
func place(b []byte, r *rand.Rand) int {
	const header = 256
	least := 0
	if len(b) > header && r.IntN(10) > 0 {
		least = header
	}
	for range 400 {
		at := least + r.IntN(len(b)-least)
		if b[at] != 0 {
			return max(at-r.IntN(9), least)
		}
	}
	return r.IntN(len(b))
}

// plausible returns a number that might stand somewhere.
func plausible(r *rand.Rand) uint64 {
	switch r.IntN(6) {
	case 0:
		return 0
	case 1:
		return 1<<32 - 1 - uint64(r.IntN(3))
	case 2:
		return 1<<r.IntN(64) - uint64(r.IntN(2))
	case 3: // a version
		return uint64(r.IntN(12))<<layout.VersionSequenceShift | uint64(r.IntN(4))
	case 4: // a token
		return uint64(r.IntN(5))<<layout.LockGenerationShift | uint64(r.IntN(6))<<layout.LockRegionShift | uint64(r.IntN(8))
	}
	return uint64(r.IntN(40))
}

// sum makes a header's checksum right, and reports whether it was not.
func sum(f *vectors.File) bool {
	at := layout.OffsetSlabHeaderChecksum
	if !strings.HasPrefix(f.Name, "slab-") {
		at = layout.OffsetControlHeaderChecksum
	}
	if len(f.Bytes) < at+8 {
		return false
	}
	right := xxh3.Hash(f.Bytes[:at])
	was := binary.LittleEndian.Uint64(f.Bytes[at:])
	binary.LittleEndian.PutUint64(f.Bytes[at:], right)
	return was != right
}

// renumbered reports whether a slab has a word that might be a version from which on a
// rebuild gives all records new ones, which are random (section 17).
func (m *mutant) renumbered() bool {
	for _, f := range m.files[1:] {
		for at := 0; at+8 <= len(f.Bytes); at += 8 {
			w := binary.LittleEndian.Uint64(f.Bytes[at:])
			sequence := w << layout.VersionSequenceShift
			if w >= layout.VersionHigh && w < layout.VersionLimit ||
				sequence>>layout.VersionSequenceShift == w && sequence >= layout.VersionHigh && sequence < layout.VersionLimit {
				return true
			}
		}
	}
	return false
}

// lru reports whether the first slab is in the lru order.
func (m *mutant) lru() bool {
	const at = layout.OffsetSlabHeaderOrder
	b := m.files[1].Bytes
	return len(b) >= at+4 && binary.LittleEndian.Uint32(b[at:]) == layout.OrderLRU
}
