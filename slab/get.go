package slab

import (
	"context"
	"errors"
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
	Deep                   // in all tiers, whatever StackOptions.Reads says
	stale                  // of expired values too that may still be served
)

// look is a lookup and what it finds beside the value.
type look struct {
	How
	expired bool // stale: the value has expired
	tag     uint32
	expiry  uint64 // as in CellHeader.Expiry
	version uint64

	// Where: valid while the version is.
	sh   *shard
	cell uint32
	seen uint64 // the recency word

	tries int // how often it may still look again
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
// rebuilds the column, and else returns ErrBusy. A miss is one as of the view that
// the stack is: who knows of a newer one looks again.
func (st *Stack) Get(dst, k []byte) (value []byte, ok bool, err error) {
	return st.GetKey(dst, st.Key(k))
}

// GetKey is Get for any kind of key.
func (st *Stack) GetKey(dst []byte, k Key) (value []byte, ok bool, err error) {
	if n := st.Glance(dst, k); n >= 0 {
		return dst[:len(dst)+n], true, nil
	}
	return st.GetSlowly(dst, k)
}

// GetSlowly is GetKey without a Glance before.
func (st *Stack) GetSlowly(dst []byte, k Key) (value []byte, ok bool, err error) {
	if len(dst) == cap(dst) { // like nil: it was too small for a glance
		var room [256]byte
		if n := st.Glance(room[:0], k); n >= 0 {
			return append(dst, room[:n]...), true, nil
		}
	}
	return st.get(dst, k, &look{})
}

// GetWaiting is GetKey under the lock, for which it waits as Put does; it is no use
// of the record.
func (st *Stack) GetWaiting(ctx context.Context, dst []byte, k Key) (value []byte, ok bool, err error) {
	col := st.columnOf(k.hash)
	err = st.update(ctx, col, func() error {
		f, err := col.find(&k)
		if ok = err == nil && f.record.current() != Absent; !ok {
			return err
		}
		value, err = f.record.valueOf(dst, &k)
		return err
	})
	if !ok || err != nil {
		return dst, false, err
	}
	return value, true, nil
}

// GetHash is Get for a record that SetHash stored.
func (st *Stack) GetHash(dst []byte, hash uint64) (value []byte, ok bool, err error) {
	var buf [8]byte
	return st.GetKey(dst, st.HashKey(hash, &buf))
}

// Look is Get, returning what is kept with the value too.
func (st *Stack) Look(dst []byte, k Key, how How) (it Item, ok bool, err error) {
	l := look{How: how}
	value, ok, err := st.get(dst, k, &l)
	if !ok {
		return Item{Value: value}, false, err
	}
	return l.item(value), ok, err
}

// Peek looks without being a use of the record, and is not counted.
func (st *Stack) Peek(dst []byte, k Key) (it Item, ok bool, err error) {
	return st.Look(dst, k, Quiet|Silent)
}

// Use looks without being counted, and in all tiers: it is for the library's own records.
func (st *Stack) Use(dst []byte, k Key) (it Item, ok bool, err error) {
	return st.Look(dst, k, Silent|Deep)
}

// GetStale is Use of the value, but where the value has expired and may still be
// served while a loader is at work, it returns it, and old is set.
func (st *Stack) GetStale(dst []byte, k Key) (value []byte, ok, old bool, err error) {
	it, ok, old, err := st.LookStale(dst, k)
	return it.Value, ok, old, err
}

// LookStale is GetStale, returning what is kept with the value too.
func (st *Stack) LookStale(dst []byte, k Key) (it Item, ok, old bool, err error) {
	l := look{How: stale | Silent}
	value, ok, err := st.get(dst, k, &l)
	return l.item(value), ok, l.expired, err
}

// get is the whole lookup, for what glance leaves.
func (st *Stack) get(dst []byte, k Key, l *look) (value []byte, ok bool, err error) {
	value = dst // what a fault leaves
	defer st.leave(shm.Guard(), &err)
	return st.lookup(dst, &k, l)
}

// lookup is get without protection from faults.
func (st *Stack) lookup(dst []byte, k *Key, l *look) (value []byte, ok bool, err error) {
	if err := st.top.forked(); err != nil {
		return dst, false, err
	}
	col := st.columnOf(k.hash)
	value, found := dst, miss
	if len(k.bytes) <= int(st.top.geo.MaxKey) {
		if value, found = col.read(dst, k, l); found == unsure {
			value, found, err = col.readLocked(dst, k, l)
		}
	}
	if err == nil && found == miss {
		if err = st.usable(); err == nil { // a closed slab reads as an empty one
			err = st.Missing
		}
	}
	switch {
	case err != nil:
	case l.How&Silent != 0:
	case found == miss:
		shm.Increment(&col.top.misses)
	case found == hit:
		shm.Increment(&l.sh.hits)
	}
	return value, found == hit && err == nil, err
}

// read is the lookup without a lock: tier by tier. What it found counts only if
// meanwhile nothing was rebuilt or moved up: the record may have been away, and be back
// in its cell, version and all. A miss counts only if nothing was removed below tier 0
// either: the record may have gone up past the reader. PROTOCOL.md, "Lookup"; models
// rebuild.pml, tiers.pml, comeback.pml.
func (col *column) read(dst []byte, k *Key, l *look) ([]byte, verdict) {
	epoch, tiers := &col.top.head.Epoch, col.tiers
	if l.How&Deep == 0 {
		tiers = tiers[:col.stack.Reads]
	}
	for l.tries = patience; l.tries >= 0; l.tries-- {
		before := epoch.Load() // pairs with rebuild, which makes it odd first and even last, with moves up, and with release
		if before&layout.EpochRebuilding == 0 {
			out, found := dst, miss
			for _, sh := range tiers {
				if out, found = sh.search(dst, k, l); found != miss {
					break
				}
			}
			moved := before ^ epoch.Load()
			switch {
			case found == unsure:
			case found == miss && moved != 0: // rebuild.pml BREAK_EPOCH_MISS, tiers.pml BREAK_COUNT
			case moved&layout.EpochRebuildMask != 0: // rebuild.pml BREAK_EPOCH_HIT, comeback.pml BREAK_HIT
			case found == hit && !col.accept(k, l):
				return dst, miss
			default:
				return out, found
			}
		}
		runtime.Gosched()
	}
	return dst, unsure
}

// accept judges a record that was found by its expiry, and notes the use. An expired
// one is a miss whatever is below (tiers.pml BREAK_EXPIRED).
func (col *column) accept(k *Key, l *look) bool {
	sh := l.sh
	if l.expired = sh.expired(l.expiry); l.expired && !(l.How&stale != 0 && sh.servable(l.expiry)) {
		return false
	}
	if l.How&Quiet != 0 {
		return true
	}
	c := sh.cell(l.cell)
	lru.Touch(c, l.seen, sh.now.Load(), sh.grain, sh.raise)
	switch {
	case sh != col.top && col.stack.Promote:
		col.promote(k, l)
	case lru.Due(l.seen, sh.head.Turn.Load()):
		col.try(func() error {
			if c.Version.Load() != l.version {
				return nil
			}
			return sh.order.Promote(l.cell)
		})
	}
	return true
}

// search looks for the key in one tier. Model: read.pml, which names the rule that
// each comparison stands for.
func (sh *shard) search(dst []byte, k *Key, l *look) ([]byte, verdict) {
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
				// A hit: same version (read.pml BREAK_FREE), same slot (BREAK_HIT).
				if whole && c.Version.Load() == version && b.Slots[i].Load() == slot {
					l.expiry, l.tag, l.version = expiry, tag, version
					l.sh, l.cell, l.seen = sh, n, seen
					return out, hit
				}
			} else if b.Slots[i].Load() == slot && c.Version.Load() == version {
				// On past a slot with the tag only if slot and version are what they
				// were (read.pml BREAK_GOON).
				continue
			}
			if l.tries--; l.tries < 0 {
				return dst, unsure
			}
			goto look
		}
		link := b.Link.Load() // pairs with the link's store in write
		if link-1 >= uint64(sh.overflows) || steps == sh.overflows {
			return dst, miss
		}
		at = sh.overflowOffset(link)
	}
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

// promote moves a record that was found below to tier 0, if the lock is free.
func (col *column) promote(k *Key, l *look) {
	col.try(func() error {
		if l.sh.cell(l.cell).Version.Load() != l.version {
			return nil
		}
		at, err := l.sh.locate(k.hash, l.cell)
		if err != nil {
			return err
		}
		from := spot{l.sh, l.cell, at}
		err = col.displace(from, k.hash, 0, from, true) // no lookup is to cost another record
		if errors.Is(err, ErrFull) || errors.Is(err, ErrTooLarge) {
			return nil
		}
		return err
	})
}

// readLocked is the lookup's last resort.
func (col *column) readLocked(dst []byte, k *Key, l *look) (out []byte, found verdict, err error) {
	if col.stack.top.lost.Load() {
		return dst, miss, ErrLost
	}
	out, found, err = dst, miss, ErrBusy
	ok, consistent := col.top.mutex.TryLock()
	if !ok { // died in a rebuild: without this, who only reads would be stuck for good
		ok, consistent = col.top.mutex.TrySteal(), false
	}
	if ok {
		err = col.locked(consistent, func() error {
			if out, found = col.read(dst, k, l); found == unsure {
				return col.top.brokenf("a record changes under the lock")
			}
			return nil
		})
	}
	if err != nil {
		return dst, miss, err
	}
	return out, found, nil
}
