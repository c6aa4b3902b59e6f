package replay

import (
	"context"
	"io"

	"github.com/zeebo/xxh3"

	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/trace"
)

// Survey is what a first reading of a trace finds.
type Survey struct {
	Format   trace.Format
	Requests uint64
	Unique   uint64 // keys, told apart by 64-bit hashes
	Longest  int    // key in bytes
}

// every is how many requests pass between two reports of progress.
const every = 1 << 16

// Look reads the input once. It takes memory for its unique keys' hashes.
func (in Input) Look(ctx context.Context, progress func(requests uint64)) (Survey, error) {
	s := in.open()
	defer s.close()
	var found Survey
	seen := map[uint64]struct{}{}
	for {
		key, err := s.next()
		if err == io.EOF {
			found.Format, found.Unique = s.Format, uint64(len(seen))
			return found, nil
		}
		if err != nil {
			return found, err
		}
		seen[xxh3.Hash(key)] = struct{}{}
		found.Longest = max(found.Longest, len(key))
		if found.Requests++; found.Requests%every == 0 {
			progress(found.Requests)
			if err := ctx.Err(); err != nil {
				return found, err
			}
		}
	}
}
