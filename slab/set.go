package slab

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/lru"
)

// Set stores the value under the key, in place of any earlier one. Expiry is wall
// time in milliseconds since 1970; 0 is never. The value is visible to everybody
// from one store on, and there when Set returned, whoever dies. If the key's
// shard is full, others make room by the slab's order, or Set returns ErrFull.
// It waits for the shard's lock until ctx ends (ErrBusy): that of a dead owner a
// few milliseconds and a rebuild, that of a stopped one as long as it is stopped.
func (s *Slab) Set(ctx context.Context, k, value []byte, expiry uint64) error {
	return s.set(ctx, s.keyOf(k), value, expiry)
}

// SetHash is Set with the application's own 64-bit hash as key. Hashes and keys
// never meet: SetHash does not touch what Set stored.
func (s *Slab) SetHash(ctx context.Context, hash uint64, value []byte, expiry uint64) error {
	var buf [8]byte
	return s.set(ctx, s.hashKey(hash, &buf), value, expiry)
}

func (s *Slab) set(ctx context.Context, k key, value []byte, expiry uint64) error {
	if len(k.bytes) > int(s.geo.MaxKey) {
		return fmt.Errorf("%w: %d bytes, the slab's limit is %d", ErrKeyTooLong, len(k.bytes), s.geo.MaxKey)
	}
	if len(value) > int(s.geo.MaxValue) {
		return fmt.Errorf("%w: %d bytes, the slab's limit is %d", ErrValueTooLong, len(value), s.geo.MaxValue)
	}
	sh := s.shardOf(k.hash)
	return s.update(ctx, sh, func() error { return sh.write(&k, value, min(expiry, layout.ExpiryMask)) })
}

// Delete removes the key and reports whether it was there. Once it returned
// nobody finds the key, until it is set again. It waits as Set does.
func (s *Slab) Delete(ctx context.Context, k []byte) (bool, error) {
	return s.remove(ctx, s.keyOf(k))
}

// DeleteHash is Delete for a record that SetHash stored.
func (s *Slab) DeleteHash(ctx context.Context, hash uint64) (bool, error) {
	var buf [8]byte
	return s.remove(ctx, s.hashKey(hash, &buf))
}

func (s *Slab) remove(ctx context.Context, k key) (found bool, err error) {
	if len(k.bytes) > int(s.geo.MaxKey) {
		return false, s.usable()
	}
	sh := s.shardOf(k.hash)
	err = s.update(ctx, sh, func() error {
		n, at, err := sh.find(&k)
		if err != nil || n == 0 {
			return err
		}
		expiry := sh.cell(n).Expiry.Load() & layout.ExpiryMask
		found = expiry == 0 || expiry > s.domain.Wall.Load()
		sh.head.Deletes.Add(1)
		return sh.release(n, k.hash, at)
	})
	return found, err
}

// write is Set under the lock. PROTOCOL.md, "Set". A crash after any step leaves
// either the old value or the new one; the rebuild that follows keeps the higher
// version.
func (sh *shard) write(k *key, value []byte, expiry uint64) error {
	old, at, err := sh.find(k)
	if err != nil {
		return err
	}
	need := sh.slab.geo.cellsFor(uint64(len(k.bytes)) + uint64(len(value)))
	if err := sh.makeRoom(need, old); err != nil {
		return err
	}
	var extra uint64
	var end *layout.Bucket
	if old == 0 {
		if at, extra, end, err = sh.vacant(k.hash); err != nil {
			return err
		}
	}
	n, err := sh.fill(k, value, expiry)
	if err != nil {
		return err
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
		return err
	}
	sh.order.Written()
	sh.tally(1, need, uint64(len(k.bytes)+len(value)))
	sh.head.Sets.Add(1)
	return nil
}

// fill writes the record into free cells and returns its head, even and in no
// slot yet. Readers that still hold the cells from an earlier life see the odd
// version first (read.pml), which the atomic stores order before the bytes.
func (sh *shard) fill(k *key, value []byte, expiry uint64) (uint32, error) {
	sequence := sh.head.Sequence.Load() + 1
	version := sh.version(sequence)
	if sequence > layout.VersionLimit>>layout.VersionSequenceShift-1 {
		return 0, sh.brokenf("sequence number %d", sequence)
	}
	sh.head.Sequence.Store(sequence)
	n, err := sh.pop()
	if err != nil {
		return 0, err
	}
	c, off := sh.cell(n), sh.cellOffset(n)
	c.Version.Store(version | layout.VersionPart)

	var header [headSize - 8]byte // what follows the version
	le := binary.LittleEndian
	le.PutUint64(header[0:], lru.Recency(sh.slab.domain.Now.Load(), sh.head.Turn.Load()))
	le.PutUint64(header[16:], expiry)
	le.PutUint32(header[24:], uint32(len(value)))
	le.PutUint32(header[28:], k.word())
	sh.cells.Write(off+8, header[:])

	rest := [2][]byte{k.bytes, value}
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
