package slab

import (
	"errors"
	"fmt"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/lru"
)

// Everything here needs the lock.

// makeRoom sees to it that after a record of need cells has taken the place of old,
// if that is in the tier, as many cells are free there as the largest record takes.
// So a replacement always finds cells, and only a new or longer record makes others
// go: to the next tier that takes them, or, by the tier's policy and unless all are to
// stay, for good. Old itself never goes.
func (col *column) makeRoom(tier int, need uint64, old spot, allStay bool) error {
	sh := col.tiers[tier]
	g := &sh.slab.geo
	var had uint64
	var keep uint32
	if old.sh == sh {
		keep = old.cell
		had = sh.cellsOf(old.cell)
	}
	allStay = allStay || g.OnFull == Refuse
	for uint64(sh.head.Used.Load())+need-had > sh.usable() {
		if allStay && tier == len(col.tiers)-1 {
			return sh.full(need)
		}
		victim, err := sh.order.Victim(keep)
		if err != nil {
			return err
		}
		if victim == 0 {
			return sh.brokenf("%d cells in use and nothing to evict", sh.head.Used.Load())
		}
		down := col.below(tier, victim)
		if down != 0 {
			err = col.sink(sh, victim, down, old, allStay)
		}
		switch {
		case down != 0 && err == nil:
			continue
		case err != nil && !errors.Is(err, ErrFull):
			return err
		case allStay:
			return sh.full(need)
		}
		sh.countEviction(victim)
		if err := sh.drop(victim); err != nil {
			return err
		}
	}
	return nil
}

// full is the error of a shard that has no room for need cells.
func (sh *shard) full(need uint64) error {
	g := &sh.slab.geo
	return fmt.Errorf("%w: shard %d of %d: %d cells needed, %d of %d in use, %d kept for replacing",
		ErrFull, sh.number, g.Shards, need, sh.head.Used.Load(), g.Cells, g.Reserve)
}

// cellsOf returns how many cells a record takes.
func (sh *shard) cellsOf(n uint32) uint64 {
	keyLen, valueLen, _, _ := sh.lengths(sh.cell(n))
	return sh.slab.geo.cellsFor(keyLen + valueLen)
}

// countEviction notes that a record goes to make room, and how long it was unused.
func (sh *shard) countEviction(n uint32) {
	now, stamp := sh.now.Load(), uint64(0)
	if sh.isCell(n) {
		stamp = lru.Stamp(sh.cell(n).Recency.Load())
	}
	age := now - min(stamp, now)
	sh.head.EvictedFull.Add(1)
	sh.head.AgeSum.Add(age)
	sh.head.AgeLast.Store(max(age, 1))
}

// drop removes the order's victim, which is known by its cell only.
func (sh *shard) drop(n uint32) error {
	hash, err := sh.hashOf(n)
	if err != nil {
		return err
	}
	if err := sh.order.Remember(n, hash); err != nil {
		return err
	}
	return sh.discard(n, hash)
}

// discard removes a record that is known by its cell and its hash.
func (sh *shard) discard(n uint32, hash uint64) error {
	at, err := sh.locate(hash, n)
	if err != nil {
		return err
	}
	return sh.release(n, hash, at)
}

// hashOf computes the hash of the record in cell n from its key.
func (sh *shard) hashOf(n uint32) (uint64, error) {
	if !sh.isCell(n) {
		return 0, sh.brokenf("cell %d in the order", n)
	}
	c := sh.cell(n)
	version := c.Version.Load()
	keyLen, _, flags, ok := sh.lengths(c)
	if !isLive(version) || !ok {
		return 0, sh.brokenf("cell %d in the order, its version being %#x", n, version)
	}
	var buf [256]byte
	k, ok := sh.appendBytes(buf[:0], n, version, 0, keyLen)
	if !ok {
		return 0, sh.brokenf("chain of cell %d", n)
	}
	return sh.slab.rehash(k, flags), nil
}

// release removes a record: its version turns odd, which is the moment, then
// its slot is cleared and its cells are free.
func (sh *shard) release(n uint32, hash uint64, at place) error {
	if sh.lead != sh.head { // below tier 0: counted before it happens (tiers.pml BREAK_COUNT_LATE)
		sh.lead.Epoch.Add(layout.EpochRemoval) // pairs with the loads in read
	}
	c := sh.cell(n)
	version := c.Version.Load()
	c.Version.Store(version | layout.VersionFree) // pairs with the loads of readers
	at.store(0)
	if at.bucket != sh.bucketAt(sh.bucketOffset(hash)) {
		sh.trim(hash)
	}
	return sh.free(n)
}

// free takes a record that no slot names out of the order and gives its cells
// back.
func (sh *shard) free(n uint32) error {
	if err := sh.order.Remove(n); err != nil {
		return err
	}
	return sh.reclaim(n)
}

// reclaim gives the cells of a record back that neither slot nor order names: the
// head's version turns odd before any tail can be used again (read.pml BREAK_FREE).
func (sh *shard) reclaim(n uint32) error {
	c := sh.cell(n)
	version := c.Version.Load() &^ layout.VersionStateMask
	c.Version.Store(version | layout.VersionFree) // pairs with the loads of readers
	keyLen, valueLen, _, ok := sh.lengths(c)
	if !ok {
		return sh.brokenf("lengths of cell %d", n)
	}
	cells := sh.slab.geo.cellsFor(keyLen + valueLen)
	next := c.Chain.Load()
	sh.push(n)
	for range cells - 1 {
		if !sh.isCell(next) {
			return sh.brokenf("link to cell %d", next)
		}
		t := sh.tail(next)
		if v := t.Version.Load(); v != version|layout.VersionPart {
			return sh.brokenf("cell %d with version %#x in a chain of version %#x", next, v, version)
		}
		t.Version.Store(version | layout.VersionFree)
		n, next = next, t.Chain.Load()
		sh.push(n)
	}
	sh.tally(-1, -cells, -(keyLen + valueLen))
	return nil
}

// push puts a cell on the free list.
func (sh *shard) push(n uint32) {
	sh.cell(n).Chain.Store(sh.head.FreeHead.Load())
	sh.head.FreeHead.Store(n)
}

// pop takes a free cell, of the list or never used. It refuses one that is not
// marked as free.
func (sh *shard) pop() (uint32, error) {
	n := sh.head.FreeHead.Load()
	if n == 0 {
		n = sh.head.Bump.Load() + 1
		if !sh.isCell(n) || sh.cell(n).Version.Load() != 0 {
			return 0, sh.brokenf("cell %d is not fresh", n)
		}
		sh.head.Bump.Store(n)
		return n, nil
	}
	if !sh.isCell(n) || sh.cell(n).Version.Load()&layout.VersionStateMask != layout.VersionFree {
		return 0, sh.brokenf("cell %d on the free list", n)
	}
	sh.head.FreeHead.Store(sh.cell(n).Chain.Load())
	return n, nil
}

// tally adds to what the shard holds; negative amounts wrap around.
func (sh *shard) tally(records int32, cells, bytes uint64) {
	sh.head.Live.Add(uint32(records))
	sh.head.Used.Add(uint32(cells))
	sh.head.Bytes.Add(bytes)
}
