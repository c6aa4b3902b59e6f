package main

import (
	"context"
	"math/rand/v2"
	"runtime"
	"time"
)

// subject is the contestant whose ratios to the others are reported.
const subject = "flagstone"

// comparison is a rival, and what the ratio of times to it is to be, if anything.
type comparison struct {
	rival  string
	target *target
}

// measurement is an operation on a stream.
type measurement struct {
	name       string
	op         string
	keys       string
	misses     bool
	allocation *target // of the subject, per key
	against    []comparison
}

// row is one line of the report.
type row struct {
	Measurement string   `json:"measurement"`
	Shape       shape    `json:"cache"`
	Unit        string   `json:"unit"`
	Flagstone   float64  `json:"flagstone"` // median
	Rival       string   `json:"rival,omitempty"`
	RivalMedian float64  `json:"rival_median,omitempty"`
	Ratio       float64  `json:"ratio"`    // median of the rounds' ratios
	Interval    interval `json:"interval"` // of Ratio
	Target      *target  `json:"target,omitempty"`
	Verdict     string   `json:"verdict,omitempty"`
}

// raw is what was measured.
type raw struct {
	Measurement string   `json:"measurement"`
	Shape       shape    `json:"cache"`
	Entrants    []string `json:"entrants"`
	Rounds      []round  `json:"rounds"`
}

// session is one run of the benchmark.
type session struct {
	options
	rand    *rand.Rand
	report  *report
	missing []string // contestants that this machine does not have
}

func (m measurement) title() string { return m.name }

func (m measurement) rivals() (names []string) {
	for _, c := range m.against {
		names = append(names, c.rival)
	}
	return names
}

// run runs one measurement and reports it.
func (m measurement) run(ctx context.Context, s *session, st *stage) error {
	entrants := []entrant{st.plays(subject, subject, m)}
	var against []comparison
	for _, c := range m.against {
		if st.caches[c.rival] != nil {
			entrants, against = append(entrants, st.plays(c.rival, c.rival, m)), append(against, c)
		}
	}
	rounds, err := s.compete(ctx, m.name, st.Shape, entrants)
	if err != nil {
		return err
	}
	own := column(rounds, 0, chunk.nanosPerKey)
	for i, c := range against {
		theirs := column(rounds, i+1, chunk.nanosPerKey)
		s.add(row{Measurement: m.name, Shape: st.Shape, Unit: "ns", Rival: c.rival, Target: c.target}, own, theirs, quotients(own, theirs))
	}
	if m.allocation != nil {
		mallocs := column(rounds, 0, chunk.mallocsPerKey)
		s.add(row{Measurement: m.name + ", allocations", Shape: st.Shape, Unit: "per key", Target: m.allocation}, mallocs, nil, mallocs)
	}
	return nil
}

// plays returns a contestant of the stage as an entrant of that name.
func (st *stage) plays(name, contestant string, m measurement) entrant {
	p := newPlayer(st.caches[contestant], ops[m.op], st.workload.keys(m.keys), m.misses)
	return entrant{name, func(_ int, d time.Duration) (chunk, error) { return p.run(d) }}
}

// compete lets the entrants run and keeps what they did.
func (s *session) compete(ctx context.Context, name string, sh shape, entrants []entrant) ([]round, error) {
	runtime.GC()
	rounds, err := compete(ctx, s.rand, s.Pairs, s.Chunk, entrants)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entrants {
		names = append(names, e.name)
	}
	s.report.Raw = append(s.report.Raw, raw{name, sh, names, rounds})
	return rounds, nil
}

// add completes a row with the figures of all rounds.
func (s *session) add(r row, own, theirs, ratios []float64) {
	r.Flagstone, r.Ratio, r.Interval = median(own), median(ratios), bootstrap(s.rand, ratios)
	if theirs != nil {
		r.RivalMedian = median(theirs)
	}
	r.Verdict = r.Target.verdict(r.Interval)
	s.report.Rows = append(s.report.Rows, r)
}

// column returns one figure of one entrant, round by round.
func column(rounds []round, entrant int, figure func(chunk) float64) []float64 {
	out := make([]float64, len(rounds))
	for i, r := range rounds {
		out[i] = figure(r.Chunks[entrant])
	}
	return out
}

func quotients(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] / b[i]
	}
	return out
}
