package shm

import "sync/atomic"

// Finder answers the common case of a lookup in one shard: the first slot with the
// tag names a live record of one cell that has the key and is not expired, its
// value fits, and nothing moves. What it checks is what a lookup has to (PROTOCOL.md,
// "Lookup"); it lies here because its speed needs bare pointers.
type Finder struct {
	Index, Cells Window         // buckets, then overflow buckets; cells
	Epoch, Turn  *atomic.Uint64 // of the shard
	Wall, Now    *atomic.Uint64 // the domain's clocks
	Buckets      uint64         // at most as many as Index has lines
	CellSize     uint64         // bytes, a multiple of 64
	Payload      uint64         // bytes of key and value in one cell
	Count        uint64         // cells, all inside Cells
	Grain        uint64         // a stamp no older than this, in milliseconds, stays
	Raise        uint64         // bits of the use count that a hit sees to being set: none or all
	Hits         *atomic.Uint64 // of this process; counts those that change nothing
}

const (
	longestFind = 2048 // bytes of a value that Find copies; longer ones are left to others
)
