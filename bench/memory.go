package main

import "context"

// memory compares with rivals what an entry takes, all in all: of the domain's
// files, to their full size, and of the heap once a rival is full.
type memory []string

func (memory) title() string      { return "memory per entry" }
func (m memory) rivals() []string { return m }

func (m memory) run(_ context.Context, s *session, st *stage) error {
	own := []float64{st.size[subject]}
	for _, rival := range m {
		theirs := []float64{max(st.size[rival], 1)} // less than nothing is possible in a trial with little
		s.add(row{Measurement: m.title(), Shape: st.Shape, Unit: "bytes", Rival: rival}, own, theirs, quotients(own, theirs))
	}
	return nil
}
