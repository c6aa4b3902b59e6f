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
func (st *Stack) Put(ctx context.Context, k Key, it *Item, want uint64) (version uint64, stored bool, err error) {
	if err := st.fits(&k, it); err != nil {
		return 0, false, err
	}
	col := st.columnOf(k.hash)
	err = st.update(ctx, col, func() error {
		f, err := col.find(&k)
		if err != nil {
			return err
		}
		// The second try, after a rebuild, may find what the first one wrote.
		if stored = f.record.isAt(version); stored || want != Anyhow && want != f.record.current() {
			return nil
		}
		version, err = col.replace(&k, it, &f)
		stored = err == nil
		return err
	})
	if !stored {
		version = 0
	}
	return version, stored, err
}

// Set stores the value under the bytes k, as Put does; expiry as in Item.
func (st *Stack) Set(ctx context.Context, k, value []byte, expiry uint64) error {
	_, _, err := st.Put(ctx, st.Key(k), &Item{Value: value, Expiry: expiry}, Anyhow)
	return err
}

// SetHash is Set with the application's own 64-bit hash as key. Hashes and keys
// never meet: SetHash does not touch what Set stored.
func (st *Stack) SetHash(ctx context.Context, hash uint64, value []byte, expiry uint64) error {
	var buf [8]byte
	_, _, err := st.Put(ctx, st.HashKey(hash, &buf), &Item{Value: value, Expiry: expiry}, Anyhow)
	return err
}

// Add adds delta to the counter under the key, 8 bytes little-endian, and returns
// the sum. Where there is no record, or an expired one, it makes it.Value's, which
// has to be a counter too, with the rest of it; a record that is there keeps its
// expiry and tag. A sum beyond 64 bits is ErrOverflow, a value that is no counter
// ErrNotCounter, and nothing is changed then. It waits as Put does.
func (st *Stack) Add(ctx context.Context, k Key, delta int64, it Item) (sum int64, err error) {
	if err := st.fits(&k, &it); err != nil {
		return 0, err
	}
	if len(it.Value) != 8 {
		return 0, fmt.Errorf("%w: %d bytes to begin with", ErrNotCounter, len(it.Value))
	}
	var buf [8]byte
	var version uint64
	col := st.columnOf(k.hash)
	err = st.update(ctx, col, func() error {
		f, err := col.find(&k)
		if err != nil {
			return err
		}
		if f.record.isAt(version) { // the second try, after a rebuild
			return nil
		}
		next := it
		if f.record.current() != Absent {
			c := f.record.header()
			if n := c.ValueLength.Load(); n != 8 {
				return fmt.Errorf("%w: %d bytes", ErrNotCounter, n)
			}
			packed := c.Expiry.Load()
			next = Item{Expiry: packed & layout.ExpiryMask, Stale: uint16(packed >> layout.ExpiryStaleShift), Tag: c.UserTag.Load()}
			if next.Value, err = f.record.valueOf(buf[:0], &k); err != nil {
				return err
			}
		}
		n := int64(binary.LittleEndian.Uint64(next.Value))
		if delta > 0 && n > math.MaxInt64-delta || delta < 0 && n < math.MinInt64-delta {
			return fmt.Errorf("%w: %d plus %d", ErrOverflow, n, delta)
		}
		sum = n + delta
		next.Value = binary.LittleEndian.AppendUint64(buf[:0], uint64(sum))
		version, err = col.replace(&k, &next, &f)
		return err
	})
	return sum, err
}

// Keep appends the value under the key to dst, if it has the length of the item's;
// otherwise it stores the item first. It waits as Put does.
func (st *Stack) Keep(ctx context.Context, dst []byte, k Key, it *Item) (value []byte, err error) {
	if err := st.fits(&k, it); err != nil {
		return dst, err
	}
	col := st.columnOf(k.hash)
	err = st.update(ctx, col, func() error {
		f, err := col.find(&k)
		if err != nil {
			return err
		}
		if f.record.current() != Absent && uint64(f.record.header().ValueLength.Load()) == uint64(len(it.Value)) {
			value, err = f.record.valueOf(dst, &k)
			return err
		}
		_, err = col.replace(&k, it, &f)
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
func (st *Stack) Touch(ctx context.Context, k Key, expiry uint64) (found bool, err error) {
	if len(k.bytes) > int(st.top.geo.MaxKey) {
		return false, st.usable()
	}
	col := st.columnOf(k.hash)
	err = st.update(ctx, col, func() error {
		if found { // the second try, after a rebuild, which made the order of stamps
			return nil
		}
		f, err := col.find(&k)
		if err != nil {
			return err
		}
		if found = f.record.current() != Absent; !found {
			return nil
		}
		sh, c := f.record.sh, f.record.header()
		c.Expiry.Store(c.Expiry.Load()&^layout.ExpiryMask | min(expiry, layout.ExpiryMask)) // pairs with the loads of readers, who see one or the other
		seen := c.Recency.Load()
		lru.Touch(c, seen, sh.now.Load(), 0, sh.raise)
		if lru.Due(seen, sh.head.Turn.Load()) {
			return sh.order.Promote(f.record.cell)
		}
		return nil
	})
	return found, err
}

// Remove removes the key, and a claim on it, and reports whether it was there.
// Once it returned nobody finds the key, until it is set again. It waits as Put
// does.
func (st *Stack) Remove(ctx context.Context, k Key) (found bool, err error) {
	if len(k.bytes) > int(st.top.geo.MaxKey) {
		return false, st.usable()
	}
	col := st.columnOf(k.hash)
	err = st.update(ctx, col, func() error {
		f, err := col.find(&k)
		if err == nil {
			err = f.endClaim(&k) // claim.pml BREAK_DELETE
		}
		if err != nil || f.record.cell == 0 {
			return err
		}
		sh := f.record.sh
		found = f.record.current() != Absent
		sh.head.Deletes.Add(1)
		shm.Increment(&sh.deletes)
		return f.record.release(k.hash)
	})
	return found, err
}

// Delete is Remove for plain bytes.
func (st *Stack) Delete(ctx context.Context, k []byte) (bool, error) {
	return st.Remove(ctx, st.Key(k))
}

// DeleteHash is Remove for a record that SetHash stored.
func (st *Stack) DeleteHash(ctx context.Context, hash uint64) (bool, error) {
	var buf [8]byte
	return st.Remove(ctx, st.HashKey(hash, &buf))
}

// fits returns an error for a record that the slab was not made for.
func (st *Stack) fits(k *Key, it *Item) error {
	if len(k.bytes) > int(st.top.geo.MaxKey) {
		return fmt.Errorf("%w: %d bytes, the slab's limit is %d", ErrKeyTooLong, len(k.bytes), st.top.geo.MaxKey)
	}
	if len(it.Value) > int(st.top.geo.MaxValue) {
		return fmt.Errorf("%w: %d bytes, the slab's limit is %d", ErrValueTooLong, len(it.Value), st.top.geo.MaxValue)
	}
	return nil
}

// current returns the version of the record, Absent if there is none or it has
// expired.
func (s spot) current() uint64 {
	if s.cell == 0 || s.sh.expired(s.header().Expiry.Load()) {
		return Absent
	}
	return s.header().Version.Load()
}

// isAt reports whether the record has the version, expired or not.
func (s spot) isAt(version uint64) bool {
	return s.cell != 0 && version != 0 && s.header().Version.Load() == version
}

// valueOf appends the value of k's record to dst, under the lock.
func (s spot) valueOf(dst []byte, k *Key) ([]byte, error) {
	_, n, _, ok := s.sh.lengths(s.header())
	if !ok {
		return dst, s.sh.brokenf("lengths of cell %d", s.cell)
	}
	value, ok := s.sh.appendBytes(dst, s.cell, s.header().Version.Load(), uint64(len(k.bytes)), n)
	if !ok {
		return dst, s.sh.brokenf("chain of cell %d", s.cell)
	}
	return value, nil
}

// release removes the record.
func (s spot) release(hash uint64) error { return s.sh.release(s.cell, hash, s.at) }

// endClaim takes back the claim on a key, if there is one.
func (f *found) endClaim(k *Key) error {
	claim := f.claim
	f.claim = spot{}
	if claim.cell == 0 {
		return nil
	}
	return claim.release(k.hash)
}

// replace writes the item in place of what was found, and ends the claim.
func (col *column) replace(k *Key, it *Item, f *found) (version uint64, err error) {
	// An older load must not take the value's place (claim.pml BREAK_SET). First, as
	// room for the record may be made of it; who dies here has only cost a loader its
	// claim.
	if err := f.endClaim(k); err != nil {
		return 0, err
	}
	version, err = col.write(k, it, f.record)
	if err == nil {
		shm.Increment(&col.top.sets)
	}
	return version, err
}

// write stores a record in tier 0 in place of old, if there is one, in whichever
// tier. PROTOCOL.md, "Set". A crash after any step leaves either the old value or the
// new one; the rebuild that follows keeps the higher version. The version is
// returned even with an error: the record may be visible.
func (col *column) write(k *Key, it *Item, old spot) (version uint64, err error) {
	return col.writeTo(0, k, it, col.top.now.Load(), old, false)
}

// writeTo is write for any tier, of a record that was used then.
func (col *column) writeTo(tier int, k *Key, it *Item, used uint64, old spot, allStay bool) (version uint64, err error) {
	sh := col.tiers[tier]
	need := sh.slab.geo.cellsFor(uint64(len(k.bytes)) + uint64(len(it.Value)))
	if err := col.makeRoom(tier, need, old, allStay); err != nil {
		return 0, err
	}
	record := sh.next(k, it, used)
	version = record.version
	if old.sh != sh {
		if err = sh.insert(&record, k.hash); err == nil && old.cell != 0 {
			err = old.release(k.hash) // the new one first (tiers.pml BREAK_PUBLISH_FIRST)
		}
	} else {
		var n uint32
		if n, err = sh.fill(&record); err == nil {
			old.at.store(k.tag()<<layout.SlotTagShift | uint64(n)) // the value is visible now
			err = sh.order.Replace(old.cell, n)
		}
		if err == nil {
			err = sh.reclaim(old.cell)
		}
		if err == nil {
			sh.written(&record)
		}
	}
	if err == nil {
		sh.head.Sets.Add(1)
	}
	return version, err
}

// next returns what a new record is filled with, of the column's next version.
func (sh *shard) next(k *Key, it *Item, used uint64) content {
	// A number that is garbage stays one that fill refuses: it must not wrap around.
	last := min(sh.lead.Sequence.Load(), layout.VersionLimit>>layout.VersionSequenceShift)
	return content{
		version: sh.version(last + 1), recency: lru.Recency(used, sh.head.Turn.Load()), expiry: it.expiry(),
		valueLength: uint32(len(it.Value)), keyFlags: k.word(), tag: it.Tag, bytes: [2][]byte{k.bytes, it.Value},
	}
}

// insert stores a record that is not in the shard yet, for which there is room.
func (sh *shard) insert(c *content, hash uint64) error {
	at, extra, end, err := sh.vacant(hash)
	if err != nil {
		return err
	}
	n, err := sh.fill(c)
	if err != nil {
		return err
	}
	if extra != 0 {
		// Linked while empty: a late reader may still be inside the bucket, and must
		// not find there what the next reader does not (overflow.pml BREAK_LINK_LAST).
		end.Link.Store(extra) // pairs with the walk in search
	}
	at.store(hash>>layout.SlotTagShift<<layout.SlotTagShift | uint64(n)) // the value is visible now
	if err := sh.order.Insert(n, hash); err != nil {
		return err
	}
	sh.written(c)
	return nil
}

// written counts a record that was stored.
func (sh *shard) written(c *content) {
	size := uint64(len(c.bytes[0]) + len(c.bytes[1]))
	sh.order.Written()
	sh.tally(1, sh.slab.geo.cellsFor(size), size)
}

// content is what a record's cells are filled with.
type content struct {
	version, recency, expiry   uint64
	valueLength, keyFlags, tag uint32
	bytes                      [2][]byte // key and value, however they are divided
}

// fill writes a record into free cells and returns its head, even and in no slot
// yet. Readers that still hold the cells from an earlier life see the odd version
// first (read.pml), which the atomic stores order before the bytes.
func (sh *shard) fill(record *content) (head uint32, err error) {
	version := record.version
	if sequence := version >> layout.VersionSequenceShift; sequence > layout.VersionLimit>>layout.VersionSequenceShift-1 {
		return 0, sh.brokenf("sequence number %d", sequence)
	} else if sequence > sh.lead.Sequence.Load() { // a move brings a number that was given
		sh.lead.Sequence.Store(sequence)
	}
	n, err := sh.pop()
	if err != nil {
		return 0, err
	}
	c, off := sh.cell(n), sh.cellOffset(n)
	c.Version.Store(version | layout.VersionPart)

	var header [headSize - 8]byte // what follows the version
	le := binary.LittleEndian
	le.PutUint64(header[0:], record.recency)
	le.PutUint64(header[16:], record.expiry)
	le.PutUint32(header[24:], record.valueLength)
	le.PutUint32(header[28:], record.keyFlags)
	le.PutUint32(header[36:], record.tag)
	sh.cells.Write(off+8, header[:])

	rest := record.bytes
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
			return 0, err
		}
		t := sh.tail(n)
		t.Version.Store(version | layout.VersionPart)
		link.Store(n)
		put(sh.cellOffset(n)+tailSize, sh.cellSize-tailSize)
		link = &t.Chain
	}
	c.Version.Store(version) // pairs with the loads of readers: the bytes are whole
	return n, nil
}
