package main

import (
	"context"
	"runtime"
	"time"
)

// disturbance is work of which it is measured what it does to a reader in another
// process: against the reader's latencies while as much CPU time is spent on nothing.
type disturbance struct {
	name   string
	reader *worker
	work   func() (done chunk, cpu time.Duration, err error)
	after  func() error // undoes the work, with nobody looking
	p99    *target      // of the reader's ratio
}

// measure lets work and burner compete, and reports the latencies beside them.
func (w disturbance) measure(ctx context.Context, s *session, st *stage) ([]round, error) {
	spent := s.Chunk // CPU time of the newest work
	work := func(int, time.Duration) (chunk, error) {
		// What was used just now is never taken for old: let it grow old enough.
		time.Sleep(2 * clockSlack)
		var done chunk
		latencies, err := w.reader.beside(func() (err error) {
			done, spent, err = w.work()
			return err
		})
		if err != nil {
			return chunk{}, err
		}
		done.Latency = latencies
		return done, w.after()
	}
	burn := func(int, time.Duration) (chunk, error) {
		time.Sleep(2 * clockSlack)
		start := time.Now()
		latencies, err := w.reader.beside(func() error { burnCPU(spent); return nil })
		return chunk{Nanos: time.Since(start).Nanoseconds(), Latency: latencies}, err
	}
	rounds, err := s.compete(ctx, w.name, st.Shape, []entrant{{subject, work}, {"burner", burn}})
	if err != nil {
		return nil, err
	}
	for _, q := range []struct {
		name   string
		of     func(chunk) float64
		target *target
	}{
		{"p50", func(c chunk) float64 { return c.Latency.P50 }, nil},
		{"p99", func(c chunk) float64 { return c.Latency.P99 }, w.p99},
		{"p99.9", func(c chunk) float64 { return c.Latency.P999 }, nil},
	} {
		own, theirs := column(rounds, 0, q.of), column(rounds, 1, q.of)
		s.add(row{
			Measurement: w.name + ", readers' " + q.name, Shape: st.Shape, Unit: "ns", Rival: "burner", Target: q.target,
		}, own, theirs, quotients(own, theirs))
	}
	return rounds, nil
}

// onThread runs f on a thread of its own and returns the CPU time that it took.
func onThread(f func() error) (time.Duration, error) {
	runtime.LockOSThread() // whose clock is read
	defer runtime.UnlockOSThread()
	before := threadTime()
	err := f()
	return threadTime() - before, err
}
