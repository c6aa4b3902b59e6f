package slab

import (
	"context"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// clearStride is how many cells Clear looks at under one lock.
const clearStride = 1024

// Clear removes every record that was there before the call, of all namespaces;
// of what is set meanwhile some may stay. Who loads a value at the time of the call
// is not going to store it. It locks shard by shard for a thousand cells at a time,
// waiting until ctx ends.
func (s *Slab) Clear(ctx context.Context) error {
	for i := range s.shards {
		sh := &s.shards[i]
		// Claims first: what is filled before its claim is found goes with the rest.
		for _, mask := range []uint32{layout.FlagClaim, 0} {
			if err := s.clearShard(ctx, sh, mask); err != nil {
				return err
			}
		}
	}
	return nil
}

// clearShard removes what was there before the call and has all the flags.
func (s *Slab) clearShard(ctx context.Context, sh *shard, flags uint32) error {
	var last uint64 // the newest record that is to go
	err := s.update(ctx, sh, func() error { last = sh.version(sh.head.Sequence.Load()); return nil })
	for n := uint32(1); n <= s.geo.Cells && err == nil; n += clearStride {
		err = s.update(ctx, sh, func() error { return sh.clear(n, min(s.geo.Cells, n+clearStride-1), last, flags) })
	}
	return err
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
