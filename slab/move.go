package slab

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/lru"
)

// A record that goes to another tier is copied there, version, last use and all, and
// then freed where it was. So it is in one of them at any moment, and who dies in
// between leaves it in both, of which the next rebuild keeps one. PROTOCOL.md, "Moves";
// model: tiers.pml.

// below returns the next tier below that takes a record of this one, or 0.
func (col *column) below(tier int, cell uint32) int {
	from := spot{sh: col.tiers[tier], cell: cell}
	for i := tier + 1; i < len(col.tiers); i++ {
		if _, err := col.place(from, i); err == nil {
			return i
		}
	}
	return 0
}

// place returns how many cells a record takes in a tier, or why it has no place there
// however much room there is: ErrTooLarge, or ErrFull as the tier takes no records.
func (col *column) place(from spot, tier int) (need uint64, err error) {
	g := &col.tiers[tier].slab.geo
	keyLen, valueLen, _, ok := from.sh.lengths(from.header())
	switch {
	case !ok:
		return 0, from.sh.brokenf("lengths of cell %d", from.cell)
	case keyLen > uint64(g.MaxKey) || valueLen > uint64(g.MaxValue):
		return 0, fmt.Errorf("%w: key of %d and value of %d bytes, the limits of tier %d are %d and %d", ErrTooLarge, keyLen, valueLen, tier, g.MaxKey, g.MaxValue)
	case !col.takes(tier):
		return 0, fmt.Errorf("%w: tier %d takes no more records", ErrFull, tier)
	}
	return g.cellsFor(keyLen + valueLen), nil
}

// roomFor returns ErrFull if as many cells are not to be had without making room.
func (sh *shard) roomFor(need uint64) error {
	if uint64(sh.head.Used.Load())+need > sh.usable() {
		return sh.full(need)
	}
	return nil
}

// sink moves the order's victim down, as makeRoom asks for; old stays.
func (col *column) sink(sh *shard, victim uint32, tier int, old spot, allStay bool) error {
	hash, err := sh.hashOf(victim)
	if err != nil {
		return err
	}
	if err := sh.order.Remember(victim, hash); err != nil {
		return err
	}
	at, err := sh.locate(hash, victim)
	if err != nil {
		return err
	}
	return col.displace(spot{sh, victim, at}, hash, tier, old, allStay)
}

// move moves a record, whose hash the caller knows, to another tier if there is room
// for it (ErrFull) and its limits allow it (ErrTooLarge).
func (col *column) move(from spot, hash uint64, tier int) error {
	need, err := col.place(from, tier)
	if err == nil {
		err = col.tiers[tier].roomFor(need)
	}
	if err != nil {
		return err
	}
	return col.carry(from, hash, tier)
}

// displace moves a record to another tier, where others but keep make room for it.
func (col *column) displace(from spot, hash uint64, tier int, keep spot, allStay bool) error {
	need, err := col.place(from, tier)
	if err == nil {
		err = col.makeRoom(tier, need, keep, allStay)
	}
	if err != nil {
		return err
	}
	return col.carry(from, hash, tier)
}

// carry moves a record to another tier, where there is room for it.
func (col *column) carry(from spot, hash uint64, tier int) error {
	to := col.tiers[tier]
	// A record that comes to a cell where it was before has moved up: a reader that was
	// held up there sees by this that it has been away.
	up := slices.Index(col.tiers, from.sh) > tier
	if up {
		col.countRise() // comeback.pml BREAK_COUNT
	}
	if err := from.copyTo(to, hash); err != nil {
		return err
	}
	from.sh.head.MovedOut.Add(1)
	to.head.MovedIn.Add(1)
	err := from.release(hash)
	if up { // still under the lock, so before anybody uses the cells
		col.countRise() // comeback.pml BREAK_AFTER
	}
	return err
}

// countRise counts a move up, twice for each, in the half of the epoch that hits
// compare.
func (col *column) countRise() {
	epoch := &col.top.head.Epoch
	e := epoch.Load()
	epoch.Store(e&^layout.EpochRebuildMask | (e+layout.EpochMove)&layout.EpochRebuildMask) // pairs with the loads in read
}

// copyTo stores the record in another tier, for which there is room.
func (s spot) copyTo(to *shard, hash uint64) error {
	c := s.header()
	keyLen, valueLen, _, ok := s.sh.lengths(c)
	if !ok { // they were all right before room was made
		return s.sh.brokenf("lengths of cell %d", s.cell)
	}
	version := c.Version.Load()
	both, ok := s.sh.appendBytes(to.scratch[:0], s.cell, version, 0, keyLen+valueLen)
	if !ok {
		return s.sh.brokenf("chain of cell %d", s.cell)
	}
	if cap(both) <= mostScratch {
		to.scratch = both
	}
	// Readers may stamp the record until it is gone from here: a use in these
	// nanoseconds is lost.
	return to.insert(&content{
		version: version, recency: lru.Recency(lru.Stamp(c.Recency.Load()), to.head.Turn.Load()), expiry: c.Expiry.Load(),
		valueLength: c.ValueLength.Load(), keyFlags: c.KeyFlags.Load(), tag: c.UserTag.Load(), bytes: [2][]byte{both, nil},
	}, hash)
}

// mostScratch bounds what a shard keeps for the next move, in bytes.
const mostScratch = 1 << 16

// tierOf returns which tier of the stack the slab is (ErrNotInStack).
func (st *Stack) tierOf(s *Slab) (int, error) {
	for i := range st.tiers {
		if st.tiers[i].Slab == s {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: %s", ErrNotInStack, s.seg.Name())
}

// Move moves up to limit records of one tier, those unused since cutoff, domain time
// in milliseconds, to another one, oldest first, and returns how many. A record is
// found in one of them at any moment, and keeps version, last use and all. Where the
// target is full the record stays, and the error is ErrFull, or ErrTooLarge where its
// limits are smaller; others have been moved nevertheless. It locks as Evict does.
// About a Put a record, beside the look at all.
func (st *Stack) Move(ctx context.Context, from, to *Slab, cutoff uint64, limit int) (moved int, err error) {
	source, err := st.tierOf(from)
	if err != nil {
		return 0, err
	}
	target, err := st.tierOf(to)
	if err != nil {
		return 0, err
	}
	if source == target {
		return 0, fmt.Errorf("%w: from tier %d to itself", ErrOptions, source)
	}
	v := st.before(cutoff)
	v.only = from
	var stayed error
	var room [128]byte
	moved, err = st.sift(ctx, v, limit, func(col *column, c candidate) (bool, error) {
		r, err := col.again(c, v, room[:0])
		if r.cell == 0 || err != nil {
			return false, err
		}
		err = col.move(r.spot, r.hash, target)
		if errors.Is(err, ErrFull) || errors.Is(err, ErrTooLarge) {
			stayed, err = err, nil
			return false, nil
		}
		return err == nil, err
	})
	return moved, errors.Join(err, stayed)
}

// Empty moves every record out of a tier that takes no more of them: to the first
// other tier that has room. It returns how many it moved, and whether every shard was
// found empty under its lock: then the slab can be retired, if it has been draining
// since before the call. What was last used before giveUp, domain time in
// milliseconds, is evicted where there is no room; other records stay then, and the
// error is ErrFull, or ErrTooLarge where the limits of the others are smaller. It
// locks a column for at most 64 records at a time, waiting until ctx ends.
func (st *Stack) Empty(ctx context.Context, s *Slab, giveUp uint64) (moved int, empty bool, err error) {
	tier, err := st.tierOf(s)
	if err != nil {
		return 0, false, err
	}
	empty = true
	var stayed error
	for i := range st.columns {
		col := &st.columns[i]
		sh := col.tiers[tier]
		for next, done := uint32(1), false; !done; {
			err := st.update(ctx, col, func() (err error) {
				next, err = col.emptySome(tier, next, giveUp, &moved)
				if errors.Is(err, ErrFull) || errors.Is(err, ErrTooLarge) {
					stayed, err = err, nil
					next++
				}
				live := sh.head.Live.Load()
				done = live == 0 || next > min(sh.head.Bump.Load(), sh.count)
				empty = empty && (!done || live == 0)
				return err
			})
			if err != nil {
				return moved, false, err
			}
		}
	}
	return moved, empty, stayed
}

// emptyStride is how many cells Empty looks at under one lock.
const emptyStride = 4096

// emptySome moves up to perLock of the records in cells from next on elsewhere, and
// returns the cell to go on with; with an error the cell of the record that stays.
func (col *column) emptySome(tier int, next uint32, giveUp uint64, moved *int) (uint32, error) {
	sh := col.tiers[tier]
	end := min(uint64(sh.head.Bump.Load()), uint64(sh.count), uint64(next)+emptyStride-1)
	for left := perLock; uint64(next) <= end && left > 0; next++ {
		c := sh.cell(next)
		if !isLive(c.Version.Load()) {
			continue
		}
		left--
		hash, err := sh.hashOf(next)
		if err != nil {
			return next, err
		}
		at, err := sh.locate(hash, next)
		if err != nil {
			return next, err
		}
		from := spot{sh, next, at}
		if sh.dead(c) {
			sh.head.Expired.Add(1)
			err = from.release(hash)
		} else if err = col.elsewhere(from, hash, tier); err == nil {
			*moved++
		} else if (errors.Is(err, ErrFull) || errors.Is(err, ErrTooLarge)) && sh.lastUse(c) < giveUp {
			sh.countEviction(next)
			err = from.release(hash)
		}
		if err != nil {
			return next, err
		}
	}
	return next, nil
}

// elsewhere moves a record out of a tier: to the first one that has room for it. It is
// ErrTooLarge if it would fit no other one that takes records, else ErrFull.
func (col *column) elsewhere(from spot, hash uint64, tier int) error {
	why := fmt.Errorf("%w: no other tier takes records", ErrFull)
	fits := false
	for i := range col.tiers {
		if i == tier || !col.takes(i) {
			continue
		}
		switch err := col.move(from, hash, i); {
		case errors.Is(err, ErrFull):
			why, fits = err, true
		case !errors.Is(err, ErrTooLarge):
			return err
		case !fits:
			why = err
		}
	}
	return why
}
