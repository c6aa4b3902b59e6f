package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
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

// The background clock of a cache allocates now and then; an operation that
// allocates does so each time.
var none = atMost(0.001)

var measurements = []measurement{
	{name: "get uniform", op: "get", keys: "uniform", allocation: none, against: []comparison{
		{"map", atMost(1.3)}, {"otter", atMost(0.6)}, {"redis", atMost(1.0 / 50)},
	}},
	{name: "get zipf", op: "get", keys: "zipf", against: []comparison{{"map", nil}, {"otter", nil}}},
	{name: "get hot", op: "get", keys: "hot", against: []comparison{{"map", nil}, {"otter", nil}}},
	{name: "get absent", op: "get", keys: "absent", misses: true, against: []comparison{{"map", nil}, {"otter", nil}}},
	{name: "batch uniform", op: "batch", keys: "uniform", allocation: none, against: []comparison{
		{"map", atMost(0.4)}, {"otter", nil}, {"redis", nil},
	}},
	{name: "batch zipf", op: "batch", keys: "zipf", against: []comparison{{"map", nil}, {"otter", nil}}},
	{name: "set uniform", op: "set", keys: "records", allocation: none, against: []comparison{
		{"map", nil}, {"otter", atMost(1)}, {"otter, clone", nil},
	}},
}

// scaling compares what a second process adds.
type scaling struct {
	name   string
	op     string
	keys   string
	target *target
}

var scalings = []scaling{
	{"2 processes, get uniform", "get", "uniform", atLeast(0.93)},
	{"2 processes, get zipf", "get", "zipf", atLeast(0.93)},
	{"2 processes, set uniform", "set", "records", nil},
}

// row is one line of the report.
type row struct {
	Measurement string   `json:"measurement"`
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
	Entrants    []string `json:"entrants"`
	Rounds      []round  `json:"rounds"`
}

// session is one run of the benchmark.
type session struct {
	options
	workload *workload
	caches   map[string]cache
	rand     *rand.Rand
	report   *report
}

// selected returns the measurements and scalings whose names match.
func selected(only *regexp.Regexp) (ms []measurement, ss []scaling) {
	for _, m := range measurements {
		if only.MatchString(m.name) {
			ms = append(ms, m)
		}
	}
	for _, s := range scalings {
		if only.MatchString(s.name) {
			ss = append(ss, s)
		}
	}
	return ms, ss
}

// measure runs one measurement and reports it.
func (s *session) measure(ctx context.Context, m measurement) error {
	names := []string{subject}
	var against []comparison
	for _, c := range m.against {
		if s.caches[c.rival] != nil {
			names, against = append(names, c.rival), append(against, c)
		}
	}
	var entrants []entrant
	for _, name := range names {
		p := newPlayer(s.caches[name], ops[m.op], s.workload.keys(m.keys), m.misses)
		entrants = append(entrants, entrant{name, func(_ int, d time.Duration) (chunk, error) { return p.run(d) }})
	}
	runtime.GC()
	rounds, err := compete(ctx, s.rand, s.Pairs, s.Chunk, entrants)
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	s.report.Raw = append(s.report.Raw, raw{m.name, names, rounds})
	own := column(rounds, 0, chunk.nanosPerKey)
	for i, c := range against {
		theirs := column(rounds, i+1, chunk.nanosPerKey)
		s.add(row{Measurement: m.name, Unit: "ns", Rival: c.rival, Target: c.target}, own, theirs, quotients(own, theirs))
	}
	if m.allocation != nil {
		mallocs := column(rounds, 0, chunk.mallocsPerKey)
		s.add(row{Measurement: m.name + ", allocations", Unit: "per key", Target: m.allocation}, mallocs, nil, mallocs)
	}
	return nil
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
