package slab

import (
	"context"
	"errors"
)

// demoteShare is the part of a shard that Demote keeps free.
const demoteShare = 20

// Demote moves records of a tier down before setters have to do it one by one, in the
// order in which they make room: from each shard of which less than a twentieth is free,
// to the next tier that takes records, as long as there is room for the longest it may
// take. It begins with shard *from and leaves there where to go on, moves up to limit
// records, and locks a column for at most 64 at a time, waiting until ctx ends. About two
// Puts a record.
func (st *Stack) Demote(ctx context.Context, s *Slab, from *int, limit int) (moved int, err error) {
	tier, err := st.tierOf(s)
	if err != nil {
		return 0, err
	}
	for range st.columns {
		col := &st.columns[*from%len(st.columns)]
		*from = (*from + 1) % len(st.columns) // first, so that a lock that is never free holds nobody up twice
		for more := true; more && moved < limit; {
			if more, err = st.tight(col, tier); err != nil || !more {
				break
			}
			var n int
			err := st.update(ctx, col, func() error {
				n, err = col.demote(tier, min(perLock, limit-moved))
				return err
			})
			moved += n
			if err != nil {
				return moved, err
			}
			more = n == perLock
		}
		if err != nil || moved >= limit {
			return moved, err
		}
	}
	return moved, nil
}

// tight reports, without a lock, whether demote has anything to do.
func (st *Stack) tight(col *column, tier int) (yes bool, err error) {
	err = st.glimpse(func() { yes = col.tiers[tier].tight() && col.roomBelow(tier) })
	return yes, err
}

func (sh *shard) tight() bool {
	return uint64(sh.head.Used.Load()) > sh.usable()-sh.usable()/demoteShare
}

// roomBelow reports whether any record of a tier, however large, has room where it goes
// down. It is asked before the order is: Victim counts a look as made, and who looks
// again and again without moving anything makes all records alike.
func (col *column) roomBelow(tier int) (yes bool) {
	from := &col.tiers[tier].slab.geo
	for i := tier + 1; i < len(col.tiers); i++ {
		if !col.takes(i) {
			continue
		}
		sh := col.tiers[i]
		g := &sh.slab.geo
		if yes = uint64(sh.head.Used.Load())+uint64(g.Reserve) <= sh.usable(); !yes || g.MaxKey >= from.MaxKey && g.MaxValue >= from.MaxValue {
			return yes
		}
	}
	return yes // what is too large for all of them stays
}

// demote moves up to limit records down, under the lock.
func (col *column) demote(tier, limit int) (moved int, err error) {
	sh := col.tiers[tier]
	for ; moved < limit && sh.tight() && col.roomBelow(tier); moved++ {
		victim, err := sh.order.Victim(0)
		if victim == 0 || err != nil {
			return moved, err
		}
		from := spot{sh: sh, cell: victim}
		down := col.below(tier, victim)
		if down == 0 {
			return moved, nil
		}
		need, err := col.place(from, down)
		if err == nil {
			err = col.tiers[down].roomFor(need)
		}
		if err == nil {
			err = col.sink(sh, victim, down, spot{}, true)
		}
		if err != nil {
			if errors.Is(err, ErrFull) {
				err = nil // a setter decides
			}
			return moved, err
		}
	}
	return moved, nil
}
