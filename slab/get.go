package slab

import (
	"math/bits"
	"runtime"

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
// bound it tries the lock once, also if its owner is dead, in which case it
// rebuilds the shard, and else returns ErrBusy.
func (s *Slab) Get(dst, k []byte) (value []byte, ok bool, err error) {
	hash := s.HashOf(k)
	sh := s.shardOf(hash)
	sh.index.Prefetch(sh.bucketOffset(hash))
	if n := sh.glance(dst[len(dst):cap(dst)], k, hash, uint32(len(k))); n >= 0 {
		return dst[:len(dst)+n], true, nil
	}
	return s.get(dst, key{k, 0, hash})
}

// GetHash is Get for a record that SetHash stored.
func (s *Slab) GetHash(dst []byte, hash uint64) (value []byte, ok bool, err error) {
	var buf [8]byte
	k := s.hashKey(hash, &buf)
	if n := s.shardOf(k.hash).glance(dst[len(dst):cap(dst)], k.bytes, k.hash, k.word()); n >= 0 {
		return dst[:len(dst)+n], true, nil
	}
	return s.get(dst, k)
}

// get is the whole lookup, for what glance leaves.
func (s *Slab) get(dst []byte, k key) (value []byte, ok bool, err error) {
	defer s.leave(shm.Guard(), &err)
	return s.lookup(dst, &k)
}

// lookup is get without protection from faults.
func (s *Slab) lookup(dst []byte, k *key) (value []byte, ok bool, err error) {
	sh := s.shardOf(k.hash)
	if len(k.bytes) > int(s.geo.MaxKey) {
		shm.Increment(&sh.misses)
		return dst, false, s.usable()
	}
	value, found := sh.read(dst, k)
	if found == unsure {
		value, found, err = sh.readLocked(dst, k)
	}
	if found == hit {
		shm.Increment(&sh.hits)
		return value, true, nil
	}
	if err == nil {
		shm.Increment(&sh.misses)
		err = s.usable() // a closed slab reads as an empty one
	}
	return dst, false, err
}

// read is the lookup without a lock. PROTOCOL.md, "Lookup"; models read.pml and
// rebuild.pml name the rule that each comparison stands for.
func (sh *shard) read(dst []byte, k *key) ([]byte, verdict) {
	tries := patience
again:
	epoch := sh.head.Epoch.Load() // pairs with rebuild, which makes it odd first and even last
	if epoch&layout.EpochRebuilding != 0 {
		goto moved
	}
	for at, steps := sh.bucketOffset(k.hash), uint32(0); ; steps++ {
		b := sh.bucketAt(at)
		for m := sh.index.MatchTags(at, uint32(k.tag())); m != 0; m &= m - 1 {
			i := bits.TrailingZeros32(m) / 2
		look:
			slot := b.Slots[i].Load() // pairs with the store in write: the value is visible from then on
			n := uint32(slot)
			if slot>>layout.SlotTagShift != k.tag() || !sh.isCell(n) {
				continue
			}
			c := sh.cell(n)
			version := c.Version.Load() // pairs with fill (even) and release (odd)
			if isLive(version) && c.KeyFlags.Load() == k.word() && sh.hasKey(n, version, k) {
				seen, expiry := c.Recency.Load(), c.Expiry.Load()
				out, whole := sh.value(dst, n, version, uint64(len(k.bytes)), uint64(c.ValueLength.Load()))
				// A hit: same version (read.pml BREAK_FREE), same slot (BREAK_HIT), no
				// rebuild (rebuild.pml BREAK_EPOCH_HIT).
				if whole && c.Version.Load() == version && b.Slots[i].Load() == slot {
					if sh.head.Epoch.Load() != epoch {
						goto moved
					}
					if sh.expired(expiry) {
						return dst, miss
					}
					lru.Touch(c, seen, sh.now.Load(), sh.raise)
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
		link := b.Link.Load() // pairs with the link's store in write
		if link-1 >= uint64(sh.overflows) || steps == sh.overflows {
			break
		}
		at = sh.overflowOffset(link)
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

// value appends the record's value to dst; whole is false if the record changed
// or is damaged.
func (sh *shard) value(dst []byte, n uint32, version, keyLen, valueLen uint64) (out []byte, whole bool) {
	if keyLen+valueLen <= sh.payload {
		return sh.cells.Append(dst, sh.cellOffset(n)+headSize+keyLen, valueLen), true
	}
	return sh.longValue(dst, n, version, keyLen, valueLen)
}

// longValue is value for a record of more than one cell.
func (sh *shard) longValue(dst []byte, n uint32, version, keyLen, valueLen uint64) (out []byte, whole bool) {
	if valueLen > uint64(sh.slab.geo.MaxValue) {
		return dst, false
	}
	return sh.appendBytes(dst, n, version, keyLen, valueLen)
}

// expired reports whether a record's expiry has come.
func (sh *shard) expired(expiry uint64) bool {
	expiry &= layout.ExpiryMask
	return expiry != 0 && expiry <= sh.wall.Load()
}

// promote moves the record to the front of the order if the lock is free; if it
// is not, a later hit will. A shard that needs repair is left to its next writer.
func (sh *shard) promote(c *layout.CellHeader, n uint32, version uint64) {
	if sh.slab.lost.Load() {
		return
	}
	switch ok, consistent := sh.mutex.TryLock(); {
	case ok && !consistent:
		_ = sh.unlock(false) // the hit stands; if the lock is lost, later operations say so
	case ok:
		_ = sh.locked(true, func() error {
			if c.Version.Load() != version {
				return nil
			}
			return sh.order.Promote(n)
		})
	}
}

// readLocked is the lookup's last resort.
func (sh *shard) readLocked(dst []byte, k *key) (out []byte, found verdict, err error) {
	if sh.slab.lost.Load() {
		return dst, miss, ErrLost
	}
	out, found, err = dst, miss, ErrBusy
	ok, consistent := sh.mutex.TryLock()
	if !ok { // died in a rebuild: without this, who only reads would be stuck for good
		ok, consistent = sh.mutex.TrySteal(), false
	}
	if ok {
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
