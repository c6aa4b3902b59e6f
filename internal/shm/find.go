package shm

import (
	"sync/atomic"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// Finder answers the common case of a lookup in one shard: the first slot with the
// tag names a live record of one cell that has the key and is not expired, its
// value fits, and nothing moves. What it checks is what a lookup has to (PROTOCOL.md,
// "Lookup"); it lies here because its speed needs bare pointers.
//
// Find copies the value to dst and returns its length, or -1 for anything else: then
// nothing was changed but, perhaps, dst. Word is the key's length and flags as in
// CellHeader.KeyFlags. It returns the cell if the use is still to be noted in the
// record's recency, and the word as it was while the version was right; otherwise it
// has counted the hit. A record that is due to go to the front is none of the common
// cases.
type Finder struct {
	Index, Cells Window         // buckets, then overflow buckets; cells
	Epoch, Turn  *layout.Uint64 // of the shard
	Wall, Now    *layout.Uint64 // the domain's clocks
	Buckets      uint64         // at most as many as Index has lines
	CellSize     uint64         // bytes, a multiple of 64
	Payload      uint64         // bytes of key and value in one cell
	Count        uint64         // cells, all inside Cells
	Grain        uint64         // a stamp no older than this, in milliseconds, stays
	Raise        uint64         // bits of the use count that a hit sees to being set: none or all
	Hits         *atomic.Uint64 // of this process; counts those that change nothing
}

// longestFind is how many bytes of a value Find copies; longer ones are left to others.
const longestFind = 2048
