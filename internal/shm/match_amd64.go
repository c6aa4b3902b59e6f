//go:build !race

package shm

import "unsafe"

//go:noescape
func matchTags(line unsafe.Pointer, tag uint32) uint32

// MatchTags compares the upper halves of the first seven words of the line at
// off with tag and returns a mask in which bit 2i+1 stands for word i. It does
// not branch: which slot a key is in cannot be predicted. Whoever acts on a bit
// loads the word again. A miss acts on the bits that are not set: right, because
// a key that stays keeps its slot and so its tag, aligned 32-bit lanes of a load
// are not torn, and loads are not reordered with later ones here.
func (w Window) MatchTags(off uint64, tag uint32) uint32 {
	return matchTags(w.at(off, 64), tag)
}
