package lru

import (
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// GhostSize is the size of a bucket of ghosts in bytes: two words of four
// fingerprints each, the youngest in the low bits of the first.
const GhostSize = layout.GhostWays * 2

// Remember notes that record n, whose key has that hash, goes to make room. From
// the small queue it leaves a ghost, in the place of the oldest of its bucket.
func (o *Order) Remember(n uint32, hash uint64) error {
	c, err := o.cell(n)
	if err != nil {
		return err
	}
	if o.raise == 0 || c.Prev.Load()&layout.QueueSmall == 0 {
		return nil
	}
	bucket, fingerprint := o.ghostsOf(hash)
	young, old := bucket[0].Load(), bucket[1].Load()
	bucket[0].Store(young<<16 | fingerprint)
	bucket[1].Store(old<<16 | young>>48)
	return nil
}

// recall reports whether a key of that hash has left a ghost, which it takes. A
// bucket's places that hold none are 0, and so is one fingerprint in 65,536: such
// a key, or one that has a ghost's fingerprint by chance, skips the small queue.
func (o *Order) recall(hash uint64) bool {
	bucket, fingerprint := o.ghostsOf(hash)
	for i := range bucket {
		word := bucket[i].Load()
		for at := 0; at < 64; at += 16 {
			if word>>at&0xffff == fingerprint {
				bucket[i].Store(word &^ (0xffff << at))
				return true
			}
		}
	}
	return false
}

// ghostsOf returns the bucket of a hash, chosen by its high half, and its
// fingerprint, of bits in which the keys of a shard differ.
func (o *Order) ghostsOf(hash uint64) (bucket *[2]layout.Uint64, fingerprint uint64) {
	n := hash >> 32 * (o.ghosts.Len() / GhostSize) >> 32
	return shm.At[[2]layout.Uint64](o.ghosts, n*GhostSize), hash >> 16 & 0xffff
}
