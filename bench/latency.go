package main

import (
	"slices"
	"time"
)

// latency has quantiles of the times of single lookups, in nanoseconds.
type latency struct {
	P50     float64 `json:"p50_ns"`
	P99     float64 `json:"p99_ns"`
	P999    float64 `json:"p999_ns"`
	Lookups int     `json:"lookups"`
}

// mostTimes is of how many lookups the times are kept, half a second's or so.
const mostTimes = 1 << 20

// runTimed looks up one key at a time and takes the time of each, clock included,
// until a command comes or it has enough. A miss is no error: what is read may be
// evicted at this moment.
func (p *player) runTimed(until <-chan command) (chunk, error) {
	if p.times == nil {
		p.times = make([]time.Duration, 0, mostTimes)
	}
	start := time.Now()
	times, err := p.timeEach(p.times[:0], start, until)
	elapsed := time.Since(start)
	<-until
	if err != nil {
		return chunk{}, err
	}
	l := latencyOf(times)
	return chunk{Nanos: elapsed.Nanoseconds(), Keys: int64(len(times)), Latency: &l}, nil
}

// latencyOf sorts the times and takes their quantiles.
func latencyOf(times []time.Duration) latency {
	slices.Sort(times)
	return latency{P50: quantile(times, 0.5), P99: quantile(times, 0.99), P999: quantile(times, 0.999), Lookups: len(times)}
}

// timeEach appends the times to what has room for them.
func (p *player) timeEach(times []time.Duration, last time.Time, until <-chan command) ([]time.Duration, error) {
	for len(times) <= cap(times)-batchSize {
		part := p.next(batchSize)
		for i := range part.len() {
			if _, err := p.cache.get(part.part(i, 1), p.dst); err != nil {
				return nil, err
			}
			now := time.Now()
			times, last = append(times, now.Sub(last)), now
		}
		if len(until) > 0 {
			break
		}
	}
	return times, nil
}

// quantile returns the value of sorted that a share q of them does not exceed.
func quantile(sorted []time.Duration, q float64) float64 {
	return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)])
}
