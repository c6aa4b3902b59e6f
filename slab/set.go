package slab

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lru"
)

// Item is a value and what is kept with it.
type Item struct {
	Value   []byte
	Expiry  uint64 // wall time in milliseconds since 1970, 48 bits; 0 is never
	Stale   uint16 // seconds beyond Expiry during which a loader may serve it
	Tag     uint32 // the application's; 0 is none
	Version uint64 // of the record, in what lookups return: different for each write
}

// expiry packs Expiry and Stale as they stand in CellHeader.Expiry.
func (it *Item) expiry() uint64 {
	return min(it.Expiry, layout.ExpiryMask) | uint64(it.Stale)<<layout.ExpiryStaleShift
}

// What Put may ask of the record that is there; any other number is the version
// that it must have. Versions are even, so no record ever has Anyhow or Never.
const (
	Absent uint64 = 0 // there is none, or it has expired
	Anyhow uint64 = 1 // nothing
	Never  uint64 = 3 // the impossible
)

// Put stores the item under the key, in place of any earlier one, if the record
// that is there is as wanted: Anyhow, Absent, or of that version. It returns
// whether it did, and the new version. The value is visible to everybody from one
// store on, and there when Put returned, whoever dies. A claim on the key ends,
// also where there then is no room: its loader knows less. If the key's shard is
// full, others make room by the slab's order, or Put returns ErrFull. It waits for
// the shard's lock until ctx ends (ErrBusy): that of a dead owner a few
// milliseconds and a rebuild, that of a stopped one as long as it is stopped.
func (s *Slab) Put(ctx context.Context, k Key, it *Item, want uint64) (version uint64, stored bool, err error) {
	if err := s.fits(&k, it); err != nil {
		return 0, false, err
	}
	sh := s.shardOf(k.hash)
	err = s.update(ctx, sh, func() error {
		f, err := sh.find(&k)
		if err != nil {
			return err
		}
		// The second try, after a rebuild, may find what the first one wrote.
		if stored = sh.isAt(&f, version); stored || want != Anyhow && want != sh.current(&f) {
			return nil
		}
		version, err = sh.replace(&k, it, &f)
		stored = err == nil
		return err
	})
	if !stored {
		version = 0
	}
	return version, stored, err
}

// Set stores the value under the bytes k, as Put does; expiry as in Item.
func (s *Slab) Set(ctx context.Context, k, value []byte, expiry uint64) error {
	_, _, err := s.Put(ctx, s.Key(k), &Item{Value: value, Expiry: expiry}, Anyhow)
	return err
}

// SetHash is Set with the application's own 64-bit hash as key. Hashes and keys
// never meet: SetHash does not touch what Set stored.
func (s *Slab) SetHash(ctx context.Context, hash uint64, value []byte, expiry uint64) error {
	var buf [8]byte
	_, _, err := s.Put(ctx, s.HashKey(hash, &buf), &Item{Value: value, Expiry: expiry}, Anyhow)
	return err
}

// Add adds delta to the counter under the key, 8 bytes little-endian, and returns
// the sum. Where there is no record, or an expired one, it makes it.Value's, which
// has to be a counter too, with the rest of it; a record that is there keeps its
// expiry and tag. A sum beyond 64 bits is ErrOverflow, a value that is no counter
// ErrNotCounter, and nothing is changed then. It waits as Put does.
func (s *Slab) Add(ctx context.Context, k Key, delta int64, it Item) (sum int64, err error) {
	if err := s.fits(&k, &it); err != nil {
		return 0, err
	}
	if len(it.Value) != 8 {
		return 0, fmt.Errorf("%w: %d bytes to begin with", ErrNotCounter, len(it.Value))
	}
	var buf [8]byte
	var version uint64
	sh := s.shardOf(k.hash)
	err = s.update(ctx, sh, func() error {
		f, err := sh.find(&k)
		if err != nil {
			return err
		}
		if sh.isAt(&f, version) { // the second try, after a rebuild
			return nil
		}
		next := it
		if sh.current(&f) != Absent {
			c := sh.cell(f.cell)
			if n := c.ValueLength.Load(); n != 8 {
				return fmt.Errorf("%w: %d bytes", ErrNotCounter, n)
			}
			packed := c.Expiry.Load()
			next = Item{Expiry: packed & layout.ExpiryMask, Stale: uint16(packed >> layout.ExpiryStaleShift), Tag: c.UserTag.Load()}
			if next.Value, err = sh.valueOf(buf[:0], &k, f.cell); err != nil {
				return err
			}
		}
		n := int64(binary.LittleEndian.Uint64(next.Value))
		if delta > 0 && n > math.MaxInt64-delta || delta < 0 && n < math.MinInt64-delta {
			return fmt.Errorf("%w: %d plus %d", ErrOverflow, n, delta)
		}
		sum = n + delta
		next.Value = binary.LittleEndian.AppendUint64(buf[:0], uint64(sum))
		version, err = sh.replace(&k, &next, &f)
		return err
	})
	return sum, err
}

// Keep appends the value under the key to dst, if it has the length of the item's;
// otherwise it stores the item first. It waits as Put does.
func (s *Slab) Keep(ctx context.Context, dst []byte, k Key, it *Item) (value []byte, err error) {
	if err := s.fits(&k, it); err != nil {
		return dst, err
	}
	sh := s.shardOf(k.hash)
	err = s.update(ctx, sh, func() error {
		f, err := sh.find(&k)
		if err != nil {
			return err
		}
		if sh.current(&f) != Absent && uint64(sh.cell(f.cell).ValueLength.Load()) == uint64(len(it.Value)) {
			value, err = sh.valueOf(dst, &k, f.cell)
			return err
		}
		_, err = sh.replace(&k, it, &f)
		value = append(dst, it.Value...)
		return err
	})
	if err != nil {
		return dst, err
	}
	return value, nil
}

// Touch gives the record a new expiry, as in Item, and counts as a use of it; the
// value and its version stay. It reports whether there was one, not expired. It
// waits as Put does.
func (s *Slab) Touch(ctx context.Context, k Key, expiry uint64) (found bool, err error) {
	if len(k.bytes) > int(s.geo.MaxKey) {
		return false, s.usable()
	}
	sh := s.shardOf(k.hash)
	err = s.update(ctx, sh, func() error {
		if found { // the second try, after a rebuild, which made the order of stamps
			return nil
		}
		f, err := sh.find(&k)
		if err != nil {
			return err
		}
		if found = sh.current(&f) != Absent; !found {
			return nil
		}
		c := sh.cell(f.cell)
		c.Expiry.Store(c.Expiry.Load()&^layout.ExpiryMask | min(expiry, layout.ExpiryMask)) // pairs with the loads of readers, who see one or the other
		seen := c.Recency.Load()
		lru.Touch(c, seen, sh.now.Load(), 0, sh.raise)
		if lru.Due(seen, sh.head.Turn.Load()) {
			return sh.order.Promote(f.cell)
		}
		return nil
	})
	return found, err
}

// Remove removes the key, and a claim on it, and reports whether it was there.
// Once it returned nobody finds the key, until it is set again. It waits as Put
// does.
func (s *Slab) Remove(ctx context.Context, k Key) (found bool, err error) {
	if len(k.bytes) > int(s.geo.MaxKey) {
		return false, s.usable()
	}
	sh := s.shardOf(k.hash)
	err = s.update(ctx, sh, func() error {
		f, err := sh.find(&k)
		if err == nil {
			err = sh.endClaim(&k, &f) // claim.pml BREAK_DELETE
		}
		if err != nil || f.cell == 0 {
			return err
		}
		found = sh.current(&f) != Absent
		sh.head.Deletes.Add(1)
		shm.Increment(&sh.deletes)
		return sh.release(f.cell, k.hash, f.at)
	})
	return found, err
}

// Delete is Remove for plain bytes.
func (s *Slab) Delete(ctx context.Context, k []byte) (bool, error) { return s.Remove(ctx, s.Key(k)) }

// DeleteHash is Remove for a record that SetHash stored.
func (s *Slab) DeleteHash(ctx context.Context, hash uint64) (bool, error) {
	var buf [8]byte
	return s.Remove(ctx, s.HashKey(hash, &buf))
}

// fits returns an error for a record that the slab was not made for.
func (s *Slab) fits(k *Key, it *Item) error {
	if len(k.bytes) > int(s.geo.MaxKey) {
		return fmt.Errorf("%w: %d bytes, the slab's limit is %d", ErrKeyTooLong, len(k.bytes), s.geo.MaxKey)
	}
	if len(it.Value) > int(s.geo.MaxValue) {
		return fmt.Errorf("%w: %d bytes, the slab's limit is %d", ErrValueTooLong, len(it.Value), s.geo.MaxValue)
	}
	return nil
}

// current returns the version of the record found, Absent if it has expired.
func (sh *shard) current(f *found) uint64 {
	if f.cell == 0 {
		return Absent
	}
	c := sh.cell(f.cell)
	if sh.expired(c.Expiry.Load()) {
		return Absent
	}
	return c.Version.Load()
}

// isAt reports whether the record found has the version, expired or not.
func (sh *shard) isAt(f *found, version uint64) bool {
	return f.cell != 0 && version != 0 && sh.cell(f.cell).Version.Load() == version
}

// valueOf appends the value of k's record in a cell to dst, under the lock.
func (sh *shard) valueOf(dst []byte, k *Key, cell uint32) ([]byte, error) {
	c := sh.cell(cell)
	_, n, _, ok := sh.lengths(c)
	if !ok {
		return dst, sh.brokenf("lengths of cell %d", cell)
	}
	value, ok := sh.appendBytes(dst, cell, c.Version.Load(), uint64(len(k.bytes)), n)
	if !ok {
		return dst, sh.brokenf("chain of cell %d", cell)
	}
	return value, nil
}

// endClaim takes back the claim on a key, if there is one.
func (sh *shard) endClaim(k *Key, f *found) error {
	if f.claim == 0 {
		return nil
	}
	claim := f.claim
	f.claim = 0
	return sh.release(claim, k.hash, f.claimAt)
}

// replace writes the item in place of what was found, and ends the claim.
func (sh *shard) replace(k *Key, it *Item, f *found) (version uint64, err error) {
	// An older load must not take the value's place (claim.pml BREAK_SET). First, as
	// room for the record may be made of it; who dies here has only cost a loader its
	// claim.
	if err := sh.endClaim(k, f); err != nil {
		return 0, err
	}
	version, err = sh.write(k, it, f.cell, f.at)
	if err == nil {
		shm.Increment(&sh.sets)
	}
	return version, err
}

// write stores a record in place of old, if there is one, named by the slot at.
// PROTOCOL.md, "Set". A crash after any step leaves either the old value or the
// new one; the rebuild that follows keeps the higher version. The version is
// returned even with an error: the record may be visible.
func (sh *shard) write(k *Key, it *Item, old uint32, at place) (version uint64, err error) {
	need := sh.slab.geo.cellsFor(uint64(len(k.bytes)) + uint64(len(it.Value)))
	if err := sh.makeRoom(need, old); err != nil {
		return 0, err
	}
	var extra uint64
	var end *layout.Bucket
	if old == 0 {
		if at, extra, end, err = sh.vacant(k.hash); err != nil {
			return 0, err
		}
	}
	n, version, err := sh.fill(k, it)
	if err != nil {
		return version, err
	}
	if extra != 0 {
		// Linked while empty: a late reader may still be inside the bucket, and must
		// not find there what the next reader does not (overflow.pml BREAK_LINK_LAST).
		end.Link.Store(extra) // pairs with the walk in read
	}
	at.store(k.tag()<<layout.SlotTagShift | uint64(n)) // the value is visible now
	if old == 0 {
		err = sh.order.Insert(n, k.hash)
	} else if err = sh.order.Replace(old, n); err == nil {
		err = sh.reclaim(old)
	}
	if err != nil {
		return version, err
	}
	sh.order.Written()
	sh.tally(1, need, uint64(len(k.bytes)+len(it.Value)))
	sh.head.Sets.Add(1)
	return version, nil
}

// fill writes the record into free cells and returns its head, even and in no
// slot yet. Readers that still hold the cells from an earlier life see the odd
// version first (read.pml), which the atomic stores order before the bytes.
func (sh *shard) fill(k *Key, it *Item) (head uint32, version uint64, err error) {
	sequence := sh.head.Sequence.Load() + 1
	version = sh.version(sequence)
	if sequence > layout.VersionLimit>>layout.VersionSequenceShift-1 {
		return 0, 0, sh.brokenf("sequence number %d", sequence)
	}
	sh.head.Sequence.Store(sequence)
	n, err := sh.pop()
	if err != nil {
		return 0, version, err
	}
	c, off := sh.cell(n), sh.cellOffset(n)
	c.Version.Store(version | layout.VersionPart)

	var header [headSize - 8]byte // what follows the version
	le := binary.LittleEndian
	le.PutUint64(header[0:], lru.Recency(sh.slab.domain.Now.Load(), sh.head.Turn.Load()))
	le.PutUint64(header[16:], it.expiry())
	le.PutUint32(header[24:], uint32(len(it.Value)))
	le.PutUint32(header[28:], k.word())
	le.PutUint32(header[36:], it.Tag)
	sh.cells.Write(off+8, header[:])

	rest := [2][]byte{k.bytes, it.Value}
	put := func(off, room uint64) {
		for i := range rest {
			part := min(uint64(len(rest[i])), room)
			sh.cells.Write(off, rest[i][:part])
			rest[i], off, room = rest[i][part:], off+part, room-part
		}
	}
	put(off+headSize, sh.payload)
	for link := &c.Chain; len(rest[0])+len(rest[1]) > 0; {
		n, err := sh.pop()
		if err != nil {
			return 0, version, err
		}
		t := sh.tail(n)
		t.Version.Store(version | layout.VersionPart)
		link.Store(n)
		put(sh.cellOffset(n)+tailSize, sh.cellSize-tailSize)
		link = &t.Chain
	}
	c.Version.Store(version) // pairs with the loads of readers: the bytes are whole
	return n, version, nil
}
