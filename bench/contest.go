package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"
)

// window is how many keys are looked up between two looks at the clock.
const window = 256

// chunk is what one contestant did in one short stretch of time.
type chunk struct {
	Nanos   int64  `json:"ns"`
	Keys    int64  `json:"keys"`
	Mallocs uint64 `json:"mallocs"`             // of the whole process
	Making  int64  `json:"making_ns,omitempty"` // of a slab, before
	// Of single lookups, where they were timed.
	Latency *latency `json:"latency,omitempty"`
	Sights  *sights  `json:"sights,omitempty"` // of a takeover
}

func (c chunk) nanosPerKey() float64   { return float64(c.Nanos) / float64(c.Keys) }
func (c chunk) keysPerMicro() float64  { return 1e3 / c.nanosPerKey() }
func (c chunk) mallocsPerKey() float64 { return float64(c.Mallocs) / float64(c.Keys) }

// entrant is one side of a contest.
type entrant struct {
	name string
	run  func(round int, d time.Duration) (chunk, error)
}

// round has one chunk of each entrant, and the order in which they ran.
type round struct {
	Order  []int   `json:"order"`
	Chunks []chunk `json:"chunks"`
}

// compete lets all entrants run for d, one after the other, in an order drawn anew
// for each round: whatever the machine does to one it does to all. A first
// round warms up and is not counted.
func compete(ctx context.Context, r *rand.Rand, rounds int, d time.Duration, entrants []entrant) ([]round, error) {
	var done []round
	for n := range rounds + 1 {
		this := round{Order: r.Perm(len(entrants)), Chunks: make([]chunk, len(entrants))}
		for _, i := range this.Order {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			var err error
			if this.Chunks[i], err = entrants[i].run(n, d); err != nil {
				return nil, fmt.Errorf("%s: %w", entrants[i].name, err)
			}
		}
		done = append(done, this)
	}
	return done[1:], nil
}

// player runs one operation of one contestant over a stream, again and again.
type player struct {
	cache  cache
	op     op
	keys   stream
	misses bool // none of the keys is there
	at     int
	dst    []byte
	times  []time.Duration // room for runTimed
}

func newPlayer(c cache, o op, keys stream, misses bool) *player {
	return &player{cache: c, op: o, keys: keys, misses: misses, dst: make([]byte, batchSize*keys.size)}
}

// next returns up to n of the keys, the first ones again after the last.
func (p *player) next(n int) stream {
	part := p.keys.part(p.at, n)
	if p.at += n; p.at >= p.keys.len() {
		p.at = 0
	}
	return part
}

// garbageLimit is how much a chunk may allocate before its garbage is collected.
const garbageLimit = 1 << 20

// run lasts for d. What the contestant left to do in the background, and its
// garbage, are done with before anybody else's clock runs.
func (p *player) run(d time.Duration) (chunk, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var keys, found int
	var elapsed time.Duration
	for start := time.Now(); elapsed < d; elapsed = time.Since(start) {
		part := p.next(window)
		n, err := p.op(p.cache, part, p.dst)
		if err != nil {
			return chunk{}, err
		}
		keys += part.len()
		found += n
	}
	runtime.ReadMemStats(&after)
	if p.misses {
		found = keys - found
	}
	if found != keys {
		return chunk{}, fmt.Errorf("%d of %d keys answered wrongly", keys-found, keys)
	}
	p.cache.settle()
	if after.TotalAlloc-before.TotalAlloc > garbageLimit {
		runtime.GC()
	}
	return chunk{Nanos: elapsed.Nanoseconds(), Keys: int64(keys), Mallocs: after.Mallocs - before.Mallocs}, nil
}
