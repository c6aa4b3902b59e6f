package slab

import (
	"runtime/debug"

	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lru"
)

// A lookup waits for two cache lines one after the other, the bucket's and the
// record's. What can be gained is to have the next lookup's lines under way
// meanwhile, which the processor does by itself as long as few instructions, and no
// locked one, lie between. So the common case has a straight line of its own:
// RATIONALE.md, "The read path".

// glance is peek, guarded against faults: it leaves it to read to meet one again.
func (sh *shard) glance(dst, k []byte, hash uint64, word uint32) (n int) {
	sh.index.Prefetch(sh.bucketOffset(hash))
	guard := shm.Guard()
	n = faulted
	defer func() {
		debug.SetPanicOnFault(guard)
		if n == faulted {
			_ = recover()
		}
	}()
	n = sh.peek(dst, k, hash, word)
	return n
}

// faulted is a glance's result until it has another one.
const faulted = -2

// peek is read for the common case: it copies the value to dst and returns its
// length, or less than 0 for anything else, which is left to read.
func (sh *shard) peek(dst, k []byte, hash uint64, word uint32) int {
	n, c, seen := shm.Find(&sh.finder, dst, k, hash, word)
	if c != nil {
		if lru.Due(seen, sh.head.Turn.Load()) {
			return -1
		}
		lru.Touch(c, seen, sh.now.Load(), sh.grain, sh.raise)
	}
	if n >= 0 {
		shm.Increment(&sh.hits)
	}
	return n
}
