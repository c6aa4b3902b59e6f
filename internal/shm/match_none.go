//go:build !amd64 || race

package shm

import "github.com/flagstone-shm/flagstone/internal/layout"

// MatchTags compares the upper halves of the first seven words of the line at
// off with tag and returns a mask in which bit 2i+1 stands for word i. Whoever
// acts on a bit loads the word again.
func (w Window) MatchTags(off uint64, tag uint32) (mask uint32) {
	line := At[[8]layout.Uint64](w, off)
	for i := range 7 {
		if uint32(line[i].Load()>>32) == tag {
			mask |= 2 << (2 * i)
		}
	}
	return mask
}
