package slab

import (
	"context"
	"fmt"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// clearStride is how many cells Clear looks at under one lock.
const clearStride = 1024

// Clear removes every record that was there before the call, of all namespaces;
// of what is set meanwhile some may stay. Who loads a value at the time of the call
// is not going to store it. It locks column by column for a thousand cells at a time,
// waiting until ctx ends. It is ErrBusy if records keep moving between tiers.
func (st *Stack) Clear(ctx context.Context) error {
	for i := range st.columns {
		col := &st.columns[i]
		// Claims first: what is filled before its claim is found goes with the rest.
		for _, mask := range []uint32{layout.FlagClaim, 0} {
			if err := st.clearColumn(ctx, col, mask); err != nil {
				return err
			}
		}
	}
	return nil
}

// clearColumn removes what was there before the call and has all the flags. What has
// moved to another tier meanwhile may have come past it: then it looks again.
func (st *Stack) clearColumn(ctx context.Context, col *column, flags uint32) error {
	var last, before, after uint64 // the newest record that is to go; moves
	err := st.update(ctx, col, func() error { last = col.top.version(col.top.head.Sequence.Load()); return nil })
	if err != nil {
		return err
	}
	for range patience {
		err = st.update(ctx, col, func() error { before = col.moves(); return nil })
		for _, sh := range col.tiers {
			for n := uint32(1); n <= sh.count && err == nil; n += clearStride {
				err = st.update(ctx, col, func() error {
					after = col.moves()
					return sh.clear(n, min(sh.count, n+clearStride-1), last, flags)
				})
			}
		}
		if err != nil || before == after {
			return err
		}
	}
	return fmt.Errorf("shard %d: %w: records keep moving", col.top.number, ErrBusy)
}

// clear removes the records in cells first to last that are not newer than newest
// and have all the flags; 0 asks for none.
func (sh *shard) clear(first, last uint32, newest uint64, flags uint32) error {
	for n := first; n <= last; n++ {
		c := sh.cell(n)
		v, has := c.Version.Load(), c.KeyFlags.Load()>>layout.KeyFlagsShift
		if !isLive(v) || v > newest || has&flags != flags {
			continue
		}
		sh.head.Cleared.Add(1)
		hash, err := sh.hashOf(n)
		if err == nil {
			err = sh.discard(n, hash)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
