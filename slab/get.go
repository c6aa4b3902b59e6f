package slab

import (
	"context"
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

// How says what kind of lookup Look is.
type How uint8

// What lookups may be.
const (
	Quiet  How = 1 << iota // no use of the record
	Silent                 // not counted
	Bare                   // without the value
	stale                  // of expired values too that may still be served
)

// look is a lookup and what it finds beside the value.
type look struct {
	How
	expired bool // stale: the value has expired
	tag     uint32
	expiry  uint64 // as in CellHeader.Expiry
	version uint64
}

// item returns what was found.
func (l *look) item(value []byte) Item {
	return Item{
		Value: value, Expiry: l.expiry & layout.ExpiryMask, Stale: uint16(l.expiry >> layout.ExpiryStaleShift),
		Tag: l.tag, Version: l.version,
	}
}

// Get appends the value of the bytes k to dst and returns the result and whether
// there was one. It takes no lock, waits for nobody and does not allocate if dst
// has room. A value is never torn, and never older than the last Put that returned
// before Get began. If writers or a rebuild keep it from being sure within its
// bound it tries the lock once, also if its owner is dead, in which case it
// rebuilds the shard, and else returns ErrBusy.
func (s *Slab) Get(dst, k []byte) (value []byte, ok bool, err error) {
	return s.GetKey(dst, s.Key(k))
}

// GetKey is Get for any kind of key.
func (s *Slab) GetKey(dst []byte, k Key) (value []byte, ok bool, err error) {
	if n := s.Glance(dst, k); n >= 0 {
		return dst[:len(dst)+n], true, nil
	}
	return s.GetSlowly(dst, k)
}

// GetSlowly is GetKey without a Glance before.
func (s *Slab) GetSlowly(dst []byte, k Key) (value []byte, ok bool, err error) {
	if len(dst) == cap(dst) { // like nil: it was too small for a glance
		var room [256]byte
		if n := s.Glance(room[:0], k); n >= 0 {
			return append(dst, room[:n]...), true, nil
		}
	}
	return s.get(dst, k, &look{})
}

// GetWaiting is GetKey under the lock, for which it waits as Put does; it is no use
// of the record.
func (s *Slab) GetWaiting(ctx context.Context, dst []byte, k Key) (value []byte, ok bool, err error) {
	sh := s.shardOf(k.hash)
	err = s.update(ctx, sh, func() error {
		f, err := sh.find(&k)
		if ok = err == nil && sh.current(&f) != Absent; !ok {
			return err
		}
		value, err = sh.valueOf(dst, &k, f.cell)
		return err
	})
	if !ok || err != nil {
		return dst, false, err
	}
	return value, true, nil
}

// GetHash is Get for a record that SetHash stored.
func (s *Slab) GetHash(dst []byte, hash uint64) (value []byte, ok bool, err error) {
	var buf [8]byte
	return s.GetKey(dst, s.HashKey(hash, &buf))
}

// Look is Get, returning what is kept with the value too.
func (s *Slab) Look(dst []byte, k Key, how How) (it Item, ok bool, err error) {
	l := look{How: how}
	value, ok, err := s.get(dst, k, &l)
	return l.item(value), ok, err
}

// Peek looks without being a use of the record, and is not counted.
func (s *Slab) Peek(dst []byte, k Key) (it Item, ok bool, err error) {
	return s.Look(dst, k, Quiet|Silent)
}

// Use looks without being counted.
func (s *Slab) Use(dst []byte, k Key) (it Item, ok bool, err error) { return s.Look(dst, k, Silent) }

// GetStale is Use of the value, but where the value has expired and may still be
// served while a loader is at work, it returns it, and old is set.
func (s *Slab) GetStale(dst []byte, k Key) (value []byte, ok, old bool, err error) {
	l := look{How: stale | Silent}
	value, ok, err = s.get(dst, k, &l)
	return value, ok, l.expired, err
}

// get is the whole lookup, for what glance leaves.
func (s *Slab) get(dst []byte, k Key, l *look) (value []byte, ok bool, err error) {
	value = dst // what a fault leaves
	defer s.leave(shm.Guard(), &err)
	return s.lookup(dst, &k, l)
}

// lookup is get without protection from faults.
func (s *Slab) lookup(dst []byte, k *Key, l *look) (value []byte, ok bool, err error) {
	sh := s.shardOf(k.hash)
	value, found := dst, miss
	if len(k.bytes) <= int(s.geo.MaxKey) {
		if value, found = sh.read(dst, k, l); found == unsure {
			value, found, err = sh.readLocked(dst, k, l)
		}
	}
	if err == nil && found == miss {
		err = s.usable() // a closed slab reads as an empty one
	}
	switch {
	case err != nil:
	case l.How&Silent != 0:
	case found == miss:
		shm.Increment(&sh.misses)
	case found == hit:
		shm.Increment(&sh.hits)
	}
	return value, found == hit && err == nil, err
}

// read is the lookup without a lock. PROTOCOL.md, "Lookup"; models read.pml and
// rebuild.pml name the rule that each comparison stands for.
func (sh *shard) read(dst []byte, k *Key, l *look) ([]byte, verdict) {
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
				seen, expiry, tag, out, whole := c.Recency.Load(), c.Expiry.Load(), c.UserTag.Load(), dst, true
				if l.How&Bare == 0 {
					out, whole = sh.value(dst, n, version, uint64(len(k.bytes)), uint64(c.ValueLength.Load()))
				}
				// A hit: same version (read.pml BREAK_FREE), same slot (BREAK_HIT), no
				// rebuild (rebuild.pml BREAK_EPOCH_HIT).
				if whole && c.Version.Load() == version && b.Slots[i].Load() == slot {
					if sh.head.Epoch.Load() != epoch {
						goto moved
					}
					if l.expired = sh.expired(expiry); l.expired && !(l.How&stale != 0 && sh.servable(expiry)) {
						return dst, miss
					}
					l.expiry, l.tag, l.version = expiry, tag, version
					if l.How&Quiet != 0 {
						return out, hit
					}
					lru.Touch(c, seen, sh.now.Load(), sh.grain, sh.raise)
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

// servable reports whether an expired value may still be served as stale.
func (sh *shard) servable(expiry uint64) bool {
	return sh.wall.Load() < expiry&layout.ExpiryMask+expiry>>layout.ExpiryStaleShift*1000
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
func (sh *shard) readLocked(dst []byte, k *Key, l *look) (out []byte, found verdict, err error) {
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
			if out, found = sh.read(dst, k, l); found == unsure {
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
