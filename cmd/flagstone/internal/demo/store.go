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

	mu   sync.Mutex // guards what follows
	ops  []operation
	busy int // lookups that gave up within their bound; they count as misses
}

// patience is how long a Set may wait: one that fails fails the demo.
const patience = 20 * time.Second

type operation struct {
	set        bool
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
	s.note(operation{false, s.shardOf(key), start, now()}, busy)
	return value, ok, err
}

func (s *shared) set(key string, value []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	start := now()
	err := s.cache.Set(ctx, []byte(key), value, flagstone.NoExpiry)
	s.note(operation{true, s.shardOf(key), start, now()}, false)
	return err
}

func (s *shared) note(op operation, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops = append(s.ops, op)
	if busy {
		s.busy++
	}
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

// waits are the longest operations of a worker, apart for those that ended before
// the kill and after it.
type waits struct {
	Before longest `json:"before_kill"`
	After  longest `json:"after_kill"`
	// FirstSet is the time from the kill to the end of the first Set in the
	// victim's shard that began after it; 0 if there was none.
	FirstSet time.Duration `json:"first_set_ns"`
}

// longest is the duration of the slowest single Get and Set.
type longest struct {
	Get time.Duration `json:"get_ns"`
	Set time.Duration `json:"set_ns"`
}

func (l longest) max(m longest) longest { return longest{max(l.Get, m.Get), max(l.Set, m.Set)} }

// waits sums up the operations, given when who was killed.
func (s *shared) waits(k killed) (w waits, busy int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range s.ops {
		l, took := &w.Before, time.Duration(op.end-op.start)
		if k.At != 0 && op.end > k.At {
			l = &w.After
		}
		if !op.set {
			l.Get = max(l.Get, took)
			continue
		}
		l.Set = max(l.Set, took)
		if wait := time.Duration(op.end - k.At); k.At != 0 && op.shard == k.Shard && op.start > k.At && (w.FirstSet == 0 || wait < w.FirstSet) {
			w.FirstSet = wait
		}
	}
	return w, s.busy
}

// now is the time in nanoseconds on a clock that all processes share.
func now() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail
	return t.Nano()
}
