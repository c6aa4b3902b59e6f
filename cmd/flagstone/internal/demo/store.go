package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
)

// store is where a worker looks before it computes.
type store interface {
	get(key string) (value []byte, ok bool, err error)
	set(key string, value []byte) error
}

// nothing is the store of the way without a cache.
type nothing struct{}

func (nothing) get(string) ([]byte, bool, error) { return nil, false, nil }
func (nothing) set(string, []byte) error         { return nil }

// private is a map of the process's own.
type private map[string][]byte

func (m private) get(key string) ([]byte, bool, error) { v, ok := m[key]; return v, ok, nil }
func (m private) set(key string, value []byte) error   { m[key] = value; return nil }

// shared is a Flagstone cache. It notes what each operation took. Its methods may
// be called concurrently.
type shared struct {
	cache  *flagstone.Cache
	shards int

	mu  sync.Mutex // guards ops
	ops []operation
}

// patience is how long a Set may wait: one that fails fails the demo.
const patience = 20 * time.Second

type operation struct {
	set        bool
	busy       bool // a lookup that gave up within its bound; it counts as a miss
	shard      int
	start, end int64 // see now
}

func (s *shared) get(key string) (value []byte, ok bool, err error) {
	start := now()
	value, ok, err = s.cache.Get(nil, []byte(key))
	busy := errors.Is(err, flagstone.ErrBusy)
	if busy {
		err = nil
	}
	s.note(operation{busy: busy, shard: s.shardOf(key), start: start, end: now()})
	return value, ok, err
}

func (s *shared) set(key string, value []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	start := now()
	err := s.cache.Set(ctx, []byte(key), value, flagstone.NoExpiry)
	s.note(operation{set: true, shard: s.shardOf(key), start: start, end: now()})
	return err
}

func (s *shared) note(op operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops = append(s.ops, op)
}

func (s *shared) shardOf(key string) int {
	return int(s.cache.HashOf([]byte(key)) & uint64(s.shards-1))
}

// keyIn returns a key with the prefix that belongs to the shard.
func (s *shared) keyIn(shard int, prefix string) string {
	for n := 0; ; n++ {
		if key := fmt.Sprint(prefix, n); s.shardOf(key) == shard {
			return key
		}
	}
}

// waits are the slowest operations of a worker, apart for those that ended before
// the kill and after it.
type waits struct {
	Before worst `json:"before_kill"`
	After  worst `json:"after_kill"`
	// FirstSet is the time from the kill to the end of the first Set in the
	// victim's shard that began after it; 0 if there was none.
	FirstSet time.Duration `json:"first_set_ns"`
}

// worst is the duration of the slowest single Get and Set, and how many lookups
// gave up.
type worst struct {
	Get  time.Duration `json:"get_ns"`
	Set  time.Duration `json:"set_ns"`
	Busy int           `json:"busy_gets"`
}

func (w worst) add(v worst) worst {
	return worst{max(w.Get, v.Get), max(w.Set, v.Set), w.Busy + v.Busy}
}

// waits sums up the operations, given when who was killed.
func (s *shared) waits(k killed) (w waits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range s.ops {
		part, took := &w.Before, time.Duration(op.end-op.start)
		if k.At != 0 && op.end > k.At {
			part = &w.After
		}
		if op.busy {
			part.Busy++
		}
		if !op.set {
			part.Get = max(part.Get, took)
			continue
		}
		part.Set = max(part.Set, took)
		if wait := time.Duration(op.end - k.At); k.At != 0 && op.shard == k.Shard && op.start > k.At && (w.FirstSet == 0 || wait < w.FirstSet) {
			w.FirstSet = wait
		}
	}
	return w
}

// now is the time in nanoseconds on a clock that all processes share.
func now() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail
	return t.Nano()
}
