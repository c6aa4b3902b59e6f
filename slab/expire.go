package slab

import (
	"context"
	"errors"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Sweep is how far somebody has come who looks at all cells a little at a time. The zero
// value is the beginning. In another stack it goes on at about the same place.
type Sweep struct {
	tier, column int
	cell         uint32 // the last one that was looked at
	missed       bool   // some column was busy, and passed over
}

// Expire removes what has expired and may not be served as stale any more, of the next
// cells of the sweep, and returns how many it removed. Done says that it has come to the
// end, and stands at the beginning again. It looks without a lock, some 60 ns a cell that
// was ever used, and locks a column for at most 64 removals, waiting until ctx ends
// (ErrBusy). After an error the next call looks at the same cells again; only past a busy
// column it goes on, as its holder may be stopped, and comes back to it before Done.
func (st *Stack) Expire(ctx context.Context, at *Sweep, cells int) (removed int, done bool, err error) {
	return st.sweep(ctx, at, cells, (*shard).overdue, func(col *column, c candidate) (bool, error) {
		r, err := col.again(c, sieve{byTag: true}, nil) // a use in between is none of an expired record
		if r.cell == 0 || err != nil || !r.sh.dead(r.header()) {
			return false, err
		}
		r.sh.head.Expired.Add(1)
		return true, r.release(r.hash)
	})
}

// EvictSweep is Evict of all that was last used before cutoff, of the next cells of the
// sweep; see Expire.
func (st *Stack) EvictSweep(ctx context.Context, at *Sweep, cells int, cutoff uint64) (removed int, done bool, err error) {
	v := st.before(cutoff)
	var out []Pair
	return st.sweep(ctx, at, cells, func(sh *shard, n uint32) (candidate, bool) { return sh.candidate(n, v) },
		func(col *column, c candidate) (bool, error) {
			out = out[:0]
			err := col.evictOne(c, v, false, &out)
			return len(out) > 0, err
		})
}

// dead reports whether a record has expired and may not be served as stale any more.
func (sh *shard) dead(c *layout.CellHeader) bool {
	expiry := c.Expiry.Load()
	return sh.expired(expiry) && !sh.servable(expiry)
}

// overdue returns what is in cell n if it has expired. Claims and ids never do.
func (sh *shard) overdue(n uint32) (c candidate, passes bool) {
	h := sh.cell(n)
	version := h.Version.Load()
	if !isLive(version) || !sh.dead(h) {
		return c, false
	}
	return candidate{version: version, cell: n}, true
}

// sweep calls remove, under the lock, for what passes of the next cells.
func (st *Stack) sweep(ctx context.Context, at *Sweep, cells int, passes func(*shard, uint32) (candidate, bool),
	remove func(*column, candidate) (bool, error),
) (removed int, done bool, err error) {
	for cells > 0 {
		if at.tier >= len(st.tiers) {
			done = !at.missed
			*at = Sweep{}
			return removed, done, nil
		}
		began := *at
		col := &st.columns[min(at.column, len(st.columns)-1)]
		var found []candidate
		looked, err := st.gather(col, at, cells, passes, &found)
		if err != nil {
			*at = began
			return removed, false, err
		}
		cells -= max(looked, 1) // an empty shard costs something too
		for len(found) > 0 {
			part := found[:min(perLock, len(found))]
			found = found[len(part):]
			n, err := st.each(ctx, col, part, remove)
			removed += n
			switch {
			case errors.Is(err, ErrBusy):
				at.missed = true
				return removed, false, err
			case err != nil:
				*at = began
				return removed, false, err
			}
		}
	}
	return removed, false, nil
}

// gather looks at up to cells cells of the shard at which the sweep stands, and moves it.
func (st *Stack) gather(col *column, at *Sweep, cells int, passes func(*shard, uint32) (candidate, bool), found *[]candidate) (looked int, err error) {
	err = st.glimpse(func() {
		sh := col.tiers[at.tier]
		top := min(sh.head.Bump.Load(), sh.count)
		tier, number := at.tier, sh.number
		for ; looked < cells && at.cell < top; looked++ {
			at.cell++
			if c, ok := passes(sh, at.cell); ok {
				c.tier, c.shard = uint8(tier), number
				*found = append(*found, c)
			}
		}
		if at.cell >= top {
			at.cell = 0
			if at.column++; at.column >= len(st.columns) {
				at.column, at.tier = 0, at.tier+1
			}
		}
	})
	return looked, err
}

// glimpse runs look, which takes no lock, guarded against faults.
func (st *Stack) glimpse(look func()) (err error) {
	defer st.leave(shm.Guard(), &err)
	if err := st.usable(); err != nil {
		return err
	}
	look()
	return nil
}
