package main

import (
	"context"
	"errors"
	"runtime"
	"time"
)

// moving measures how long it takes to move the oldest hundredth of the records to
// another tier, against plain stores, and what it does to a reader in another process.
type moving struct{}

func (moving) title() string    { return "move" }
func (moving) rivals() []string { return nil }

func (m moving) run(ctx context.Context, s *session, st *stage) (err error) {
	two, tiers, err := openTwo(ctx, st)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, two.close()) }()
	workers, err := two.workers(subject) // who look everything up: before it grows old
	if err != nil {
		return err
	}
	a, err := newArchivist(two, tiers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(a.mover.close(), err) }()

	set := measurement{op: "set", keys: "records"}
	rounds, err := s.compete(ctx, m.title(), st.Shape, []entrant{
		{subject, func(int, time.Duration) (chunk, error) {
			time.Sleep(2 * clockSlack)
			done, _, err := a.move(ctx)
			return done, errors.Join(err, a.restore(ctx))
		}},
		st.plays("set", subject, set),
	})
	if err != nil {
		return err
	}
	own, theirs := column(rounds, 0, chunk.nanosPerKey), column(rounds, 1, chunk.nanosPerKey)
	s.add(row{
		Measurement: m.title() + ", per record", Shape: st.Shape, Unit: "ns", Rival: "set", Target: atMost(3),
	}, own, theirs, quotients(own, theirs))
	mallocs := column(rounds, 0, chunk.mallocsPerKey)
	s.add(row{Measurement: m.title() + ", allocations", Shape: st.Shape, Unit: "per key"}, mallocs, nil, mallocs)

	_, err = disturbance{
		name: m.title(), reader: workers[0], p99: atMost(1.5),
		work:  func() (chunk, time.Duration, error) { return a.move(ctx) },
		after: func() error { return a.restore(ctx) },
	}.measure(ctx, s, two)
	return err
}

// openTwo makes a stage like st whose cache has a second tier, with ample room
// for what is moved at a time.
func openTwo(ctx context.Context, st *stage) (*stage, *stacked, error) {
	two := newStage(st.options, st.Domain+"-two")
	progress("fill", subject, "of two tiers with", st.Shape)
	c, err := openStacked(ctx, two.options, 2, 4*st.Shape.Entries/evictedShare+1000)
	if err != nil {
		return nil, nil, err
	}
	two.caches[subject] = c.stone
	if err := fill(subject, c, two.workload); err != nil {
		return nil, nil, errors.Join(err, two.close())
	}
	return two, c, nil
}

// archivist moves the oldest records of a cache down and stores them again.
type archivist struct {
	*evictor
	mover *mover
}

func newArchivist(st *stage, c *stacked) (*archivist, error) {
	m, err := newMover(c)
	return &archivist{newEvictor(st), m}, err
}

// move moves the oldest records down and returns how many, how long it took, and the
// CPU time that it took.
func (a *archivist) move(ctx context.Context) (chunk, time.Duration, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	cpu, err := onThread(func() error { return a.mover.move(ctx, 0, 1, a.limit) })
	done := chunk{Nanos: time.Since(start).Nanoseconds(), Keys: int64(a.limit)}
	runtime.ReadMemStats(&after)
	done.Mallocs = after.Mallocs - before.Mallocs
	return done, cpu, err
}

// restore makes the records that were moved the newest, in the first tier, so that the
// next move meets others.
func (a *archivist) restore(ctx context.Context) error {
	if _, _, err := a.evict(ctx); err != nil { // they are the oldest
		return err
	}
	if err := a.refill(ctx); err != nil {
		return err
	}
	left, err := a.mover.tiers[1].Slab.Stats() // what the reader has used meanwhile
	if err != nil || left.Records == 0 {
		return err
	}
	return a.mover.moveAll(ctx, 1, 0, int(left.Records))
}
