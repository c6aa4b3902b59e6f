package slab

import (
	"context"
	"errors"
	"slices"
)

// Offered is a copy of a record that somebody may take over; Deliver removes the record
// afterwards.
type Offered struct {
	Pair
	at candidate
}

// mostOffered bounds the values of one Offer, in bytes, beyond the last of them.
const mostOffered = 4 << 20

// Offer copies up to limit records of one shard of a tier that were last used before
// cutoff, domain time in milliseconds, those unused for longest first, and leaves them
// where they are. What has expired, and the library's own records, it passes over. It
// looks at every cell of the shard without a lock and locks the column for at most 64
// copies at a time, waiting until ctx ends.
func (st *Stack) Offer(ctx context.Context, s *Slab, shard int, cutoff uint64, limit int) (out []Offered, err error) {
	tier, err := st.tierOf(s)
	if err != nil {
		return nil, err
	}
	v := sieve{cutoff: cutoff}
	col, sh := &st.columns[shard], &s.shards[shard]
	var old []candidate
	err = st.glimpse(func() {
		for n := uint32(1); n <= min(sh.head.Bump.Load(), sh.count); n++ {
			if c, ok := sh.candidate(n, v); ok && !c.inner && !sh.expired(sh.cell(n).Expiry.Load()) {
				c.tier = uint8(tier)
				old = append(old, c)
			}
		}
	})
	slices.SortFunc(old, older)
	old = old[:min(len(old), max(limit, 0))]
	size := 0
	for len(old) > 0 && err == nil && size < mostOffered {
		part := old[:min(perLock, len(old))]
		old = old[len(part):]
		err = st.update(ctx, col, func() error {
			for ; len(part) > 0 && size < mostOffered; part = part[1:] {
				pair, there, err := col.pair(part[0], v)
				if err != nil {
					return err
				}
				if there {
					size += len(pair.Value)
					out = append(out, Offered{pair, part[0]})
				}
			}
			return nil
		})
	}
	return out, err
}

// Deliver removes the records that Offer copied from a tier, except those that were used,
// changed, moved or removed since, and returns how many. They count as moved out. It
// locks as Evict does.
func (st *Stack) Deliver(ctx context.Context, s *Slab, offered []Offered) (removed int, err error) {
	tier, err := st.tierOf(s)
	if errors.Is(err, ErrNotInStack) { // retired: nothing of it is there
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	v := sieve{}
	for len(offered) > 0 {
		n := oneShard(len(offered), func(i int) uint32 { return offered[i].at.shard })
		part := offered[:n]
		offered = offered[n:]
		col := &st.columns[part[0].at.shard]
		err := st.update(ctx, col, func() error {
			for ; len(part) > 0; part = part[1:] {
				c := part[0].at
				c.tier = uint8(tier)
				r, err := col.again(c, v, nil)
				if err != nil {
					return err
				}
				// A use in the same millisecond is seen by nobody, a new expiry is.
				if r.cell == 0 || r.sh.lastUse(r.header()) != c.stamp || r.header().Expiry.Load() != part[0].expiry() {
					continue
				}
				r.sh.head.MovedOut.Add(1)
				removed++
				if err := r.release(r.hash); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}
