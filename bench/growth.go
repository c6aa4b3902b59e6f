package main

import (
	"context"
	"errors"
	"fmt"
)

// growthFactor is how many times larger the larger cache is.
const growthFactor = 10

// growth compares caches with themselves: the stage's with others that have one
// entry of ten.
type growth struct {
	name   string
	op     string
	keys   string
	target *target // of the subject's time in the larger cache to that in the smaller
}

func (g growth) title() string  { return g.name }
func (growth) rivals() []string { return []string{"map"} }

func (g growth) run(ctx context.Context, s *session, large *stage) (err error) {
	sh := large.Shape
	sh.Entries /= growthFactor
	little, err := s.open(ctx, sh, subject, "map")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, little.close()) }()
	m := measurement{op: g.op, keys: g.keys}
	var entrants []entrant
	for _, name := range []string{subject, "map"} {
		entrants = append(entrants, large.plays(name, name, m), little.plays(fmt.Sprint(name, ", ", sh), name, m))
	}
	rounds, err := s.compete(ctx, g.name, large.Shape, entrants)
	if err != nil {
		return err
	}
	var times [4][]float64
	for i := range times {
		times[i] = column(rounds, i, chunk.nanosPerKey)
	}
	own, theirs := quotients(times[0], times[1]), quotients(times[2], times[3])
	s.add(row{Measurement: g.name, Shape: large.Shape, Unit: "ns", Rival: "map"}, times[0], times[2], quotients(times[0], times[2]))
	s.add(row{Measurement: g.name, Shape: large.Shape, Unit: "ns", Rival: entrants[1].name, Target: g.target}, times[0], times[1], own)
	s.add(row{Measurement: g.name + ", growth", Shape: large.Shape, Unit: "x", Rival: "map"}, own, theirs, quotients(own, theirs))
	return nil
}
