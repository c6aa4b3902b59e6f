package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
)

// eviction measures what evicting one record of a hundred by age does to a reader
// in another process: against its latencies while that work, as much CPU time,
// is done on nothing.
type eviction struct{}

func (eviction) title() string    { return "evict" }
func (eviction) rivals() []string { return nil }

func (e eviction) run(ctx context.Context, s *session, st *stage) error {
	workers, err := st.workers(subject)
	if err != nil {
		return err
	}
	owner := newEvictor(st)
	rounds, err := disturbance{
		name: e.title(), reader: workers[0],
		work:  func() (chunk, time.Duration, error) { return owner.evict(ctx) },
		after: func() error { return owner.refill(ctx) },
	}.measure(ctx, s, st)
	if err != nil {
		return err
	}
	nanos := column(rounds, 0, chunk.nanosPerKey)
	s.add(row{Measurement: "evict, per record", Shape: st.Shape, Unit: "ns"}, nanos, nil, nanos)
	return nil
}

// clockSlack is within how much of its limit an eviction by age spares a record.
const clockSlack = 30 * time.Millisecond

// evictor evicts the oldest records of a cache and stores them again.
type evictor struct {
	cache   *flagstone.Cache
	size    int
	limit   int
	ids     map[uint64]uint32 // by hash
	evicted []uint32
}

// newEvictor returns one when what the cache was filled with has grown old enough.
func newEvictor(st *stage) *evictor {
	c := st.caches[subject].(*stone).cache
	e := &evictor{
		cache: c, size: st.Shape.Value, limit: st.Shape.Entries / evictedShare,
		ids: make(map[uint64]uint32, st.Shape.Entries),
	}
	keys := st.workload.order(forOrder)
	for s := newStream(keys, e.size); s.len() > 0; s = s.part(1, s.len()) {
		e.ids[c.HashOf(s.key(0))] = uint32(idOf(s.key(0)))
	}
	time.Sleep(st.Precision + 2*clockSlack)
	return e
}

// evict removes the oldest records and returns how many, how long it took, and the
// CPU time that it took.
func (e *evictor) evict(ctx context.Context) (done chunk, cpu time.Duration, err error) {
	start := time.Now()
	var hashes []uint64
	cpu, err = onThread(func() error {
		hashes, err = e.cache.Evict(ctx, 0, e.limit)
		return err
	})
	done = chunk{Nanos: time.Since(start).Nanoseconds(), Keys: int64(len(hashes))}
	e.evicted = e.evicted[:0]
	for _, h := range hashes {
		e.evicted = append(e.evicted, e.ids[h])
	}
	if err == nil && len(hashes) != e.limit {
		err = fmt.Errorf("%d records evicted, want %d", len(hashes), e.limit)
	}
	return done, cpu, err
}

// refill stores what was evicted, so that every eviction meets a full cache.
func (e *evictor) refill(ctx context.Context) error {
	s := newRecords(e.evicted, e.size)
	for i := range s.len() {
		if err := e.cache.Set(ctx, s.key(i), s.value(i), flagstone.NoExpiry); err != nil {
			return fmt.Errorf("refill: %w", err)
		}
	}
	return nil
}

// burnCPU computes for so much CPU time, in registers.
func burnCPU(d time.Duration) uint64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	x := uint64(1)
	for start := threadTime(); threadTime()-start < d; {
		for range 1 << 12 {
			x = mix(x)
		}
	}
	return x
}

// threadTime returns the CPU time of the calling thread.
func threadTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil { // on no Linux that Go runs on
		return time.Duration(time.Now().UnixNano())
	}
	return time.Duration(t.Nano())
}
