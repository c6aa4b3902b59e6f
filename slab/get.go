package slab

import (
	"math/bits"
	"runtime"
	"sync/atomic"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lru"
)

// verdict is the end of a lookup.
type verdict int

const (
	unsure verdict = iota // its bound ran out while writers or a rebuild were at work
	miss
	hit
)

// patience bounds how often a lookup looks again because something moved.
const patience = 64

// Get appends the key's value to dst and returns the result and whether there
// was one. It takes no lock, waits for nobody and does not allocate if dst has
// room. A value is never torn, and never older than the last Set that returned
// before Get began. If writers or a rebuild keep it from being sure within its
// bound it tries the lock once, and else returns ErrBusy.
func (s *Slab) Get(dst, k []byte) (value []byte, ok bool, err error) {
	return s.get(dst, s.keyOf(k))
}

// GetHash is Get for a record that SetHash stored.
func (s *Slab) GetHash(dst []byte, hash uint64) (value []byte, ok bool, err error) {
	var buf [8]byte
	return s.get(dst, s.hashKey(hash, &buf))
}

func (s *Slab) get(dst []byte, k key) (value []byte, ok bool, err error) {
	defer s.leave(shm.Guard(), &err)
	return s.lookup(dst, &k)
}

// lookup is get without protection from faults.
func (s *Slab) lookup(dst []byte, k *key) (value []byte, ok bool, err error) {
	sh := s.shardOf(k.hash)
	value, found := sh.read(dst, k)
	if found == unsure {
		value, found, err = sh.readLocked(dst, k)
	}
	if found == hit {
		sh.hits.Add(1)
		return value, true, err
	}
	sh.misses.Add(1)
	if err == nil {
		err = s.usable() // a closed slab reads as an empty one
	}
	return dst, false, err
}

// read is the lookup without a lock. PROTOCOL.md, "Get"; models read.pml and
// rebuild.pml name the rule that each comparison stands for.
func (sh *shard) read(dst []byte, k *key) ([]byte, verdict) {
	tag := k.tag()
	tries := patience
again:
	epoch := sh.head.Epoch.Load() // pairs with rebuild, which makes it odd first and even last
	if epoch&layout.EpochRebuilding != 0 {
		goto moved
	}
	for b, steps := sh.bucketAt(sh.bucketOffset(k.hash)), uint32(0); ; steps++ {
		for m := match(b, tag); m != 0; m &= m - 1 {
			i := bits.TrailingZeros(m)
		look:
			slot := b.Slots[i].Load() // pairs with the store in write: the value is visible from then on
			n := uint32(slot)
			if slot>>layout.SlotTagShift != tag || !sh.isCell(n) {
				continue
			}
			c := sh.cell(n)
			version := c.Version.Load() // pairs with fill (even) and release (odd)
			if isLive(version) && c.KeyFlags.Load() == k.word() && sh.hasKey(n, version, k) {
				seen := c.Recency.Load()
				out, expired, whole := sh.value(dst, c, n, version, uint64(len(k.bytes)))
				// A hit: same version (read.pml BREAK_FREE), same slot (BREAK_HIT), no
				// rebuild (rebuild.pml BREAK_EPOCH_HIT).
				if whole && c.Version.Load() == version && b.Slots[i].Load() == slot {
					if sh.head.Epoch.Load() != epoch {
						goto moved
					}
					if expired {
						return dst, miss
					}
					lru.Touch(c, seen, sh.slab.domain.Now.Load())
					if lru.Due(seen, sh.head.Turn.Load()) {
						sh.promote(c, n, version)
					}
					return out, hit
				}
			} else if b.Slots[i].Load() == slot && c.Version.Load() == version {
				// On past a slot with the tag only if slot and version are what they
				// were (read.pml BREAK_GOON).
				continue
			}
			if tries--; tries < 0 {
				return dst, unsure
			}
			goto look
		}
		next, ok := sh.overflow(b.Link.Load()) // pairs with the link's store in write
		if !ok || steps == sh.overflows {
			break
		}
		b = next
	}
	if sh.head.Epoch.Load() == epoch { // rebuild.pml BREAK_EPOCH_MISS
		return dst, miss
	}
moved:
	if tries--; tries < 0 {
		return dst, unsure
	}
	runtime.Gosched()
	goto again
}

// match returns the slots of b that have the tag, as bits. It does not branch:
// which slot a key is in cannot be predicted.
func match(b *layout.Bucket, tag uint64) uint {
	return same(&b.Slots[0], tag) | same(&b.Slots[1], tag)<<1 | same(&b.Slots[2], tag)<<2 | same(&b.Slots[3], tag)<<3 |
		same(&b.Slots[4], tag)<<4 | same(&b.Slots[5], tag)<<5 | same(&b.Slots[6], tag)<<6
}

func same(slot *atomic.Uint64, tag uint64) (bit uint) {
	if slot.Load()>>layout.SlotTagShift == tag {
		bit = 1
	}
	return bit
}

// value appends the record's value to dst. Whole is false if the record changed
// or is damaged.
func (sh *shard) value(dst []byte, c *layout.CellHeader, n uint32, version, keyLen uint64) (out []byte, expired, whole bool) {
	if expiry := c.Expiry.Load() & layout.ExpiryMask; expiry != 0 && expiry <= sh.slab.domain.Wall.Load() {
		return dst, true, true
	}
	valueLen := uint64(c.ValueLength.Load())
	if keyLen+valueLen <= sh.payload {
		return sh.cells.Append(dst, sh.cellOffset(n)+headSize+keyLen, valueLen), false, true
	}
	if valueLen > uint64(sh.slab.geo.MaxValue) {
		return dst, false, false
	}
	out, whole = sh.appendBytes(dst, n, version, keyLen, valueLen)
	return out, false, whole
}

// promote moves the record to the front of the order if the lock is free; if it
// is not, a later hit will.
func (sh *shard) promote(c *layout.CellHeader, n uint32, version uint64) {
	if ok, consistent := sh.mutex.TryLock(); ok {
		_ = sh.locked(consistent, func() error {
			if c.Version.Load() != version {
				return nil
			}
			return sh.order.Promote(n)
		})
	}
}

// readLocked is the lookup's last resort.
func (sh *shard) readLocked(dst []byte, k *key) (out []byte, found verdict, err error) {
	out, found, err = dst, miss, ErrBusy
	if ok, consistent := sh.mutex.TryLock(); ok {
		err = sh.locked(consistent, func() error {
			if out, found = sh.read(dst, k); found == unsure {
				return sh.brokenf("a record changes under the lock")
			}
			return nil
		})
	}
	if err != nil {
		return dst, miss, err
	}
	return out, found, nil
}
