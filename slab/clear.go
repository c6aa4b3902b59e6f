package slab

import "context"

// clearStride is how many cells Clear looks at under one lock.
const clearStride = 1024

// Clear removes every record that was there before the call, of all namespaces,
// and claims too; of what is set meanwhile some may stay. It locks shard by shard
// for a thousand cells at a time, waiting until ctx ends.
func (s *Slab) Clear(ctx context.Context) error {
	for i := range s.shards {
		sh := &s.shards[i]
		var last uint64 // the newest record that is to go
		err := s.update(ctx, sh, func() error { last = sh.version(sh.head.Sequence.Load()); return nil })
		for n := uint32(1); n <= s.geo.Cells && err == nil; n += clearStride {
			err = s.update(ctx, sh, func() error { return sh.clear(n, min(s.geo.Cells, n+clearStride-1), last) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// clear removes the records in cells first to last that are not newer than newest.
func (sh *shard) clear(first, last uint32, newest uint64) error {
	for n := first; n <= last; n++ {
		if v := sh.cell(n).Version.Load(); !isLive(v) || v > newest {
			continue
		}
		sh.head.Cleared.Add(1)
		if err := sh.drop(n); err != nil {
			return err
		}
	}
	return nil
}
