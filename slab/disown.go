package slab

import "github.com/flagstone-shm/flagstone/internal/shm"

// Disown takes this handle's token out of the lock words of columns that no goroutine
// of it holds or is about to take: somebody's error wrote it there, and others wait.
// The column is rebuilt by whoever locks it next. It never waits; a load per shard.
func (s *Slab) Disown() (n int, err error) {
	defer s.leave(shm.Guard(), &err)
	for i := range s.shards {
		disowned, err := s.shards[i].mutex.Disown()
		if err != nil {
			return n, err
		}
		if disowned {
			n++
		}
	}
	return n, nil
}
