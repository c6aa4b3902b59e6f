package slab

import (
	"runtime/debug"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lru"
)

// A lookup waits for two cache lines one after the other, the bucket's and the
// record's. What can be gained is to have the next lookup's lines under way
// meanwhile, which the processor does by itself as long as few instructions, and no
// locked one, lie between. So the common case has a straight line of its own:
// RATIONALE.md, "The read path".

// Glance is GetKey for the common case: it appends the value to dst, if that has
// room, and returns its length, or less than 0 for anything else, records in the tiers
// below and faults included, which is left to GetKey.
func (st *Stack) Glance(dst []byte, k Key) (n int) {
	if st.top.seg.Forked() {
		return faulted
	}
	sh := st.shardOf(k.hash)
	if st.ahead {
		st.ask(k.hash)
	}
	sh.finder.PrefetchBucket(k.hash)
	guard := shm.Guard()
	n = faulted
	defer func() {
		debug.SetPanicOnFault(guard)
		if n == faulted {
			_ = recover()
		}
	}()
	found, c, seen := shm.Find(&sh.finder, dst[len(dst):cap(dst)], k.bytes, k.hash, k.word())
	if c != nil {
		sh.used(c, seen)
	}
	return found
}

// faulted is a glance's result until it has another one.
const faulted = -2

// used notes a use that Find has left to be noted.
func (sh *shard) used(c *layout.CellHeader, seen uint64) {
	lru.Touch(c, seen, sh.now.Load(), sh.grain, sh.raise)
	shm.Increment(&sh.hits)
}
