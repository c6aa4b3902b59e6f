package main

import (
	"context"
	"regexp"
)

// contest is something to measure on a stage.
type contest interface {
	title() string
	// rivals are the contestants that it needs beside the subject.
	rivals() []string
	run(ctx context.Context, s *session, st *stage) error
}

// act is what is measured with caches of one shape.
type act struct {
	shape
	contests []contest
}

// title is what -only is compared with.
func (a act) title(c contest) string { return c.title() + ", " + a.shape.String() }

// The background clock of a cache allocates now and then; an operation that
// allocates does so each time.
var none = atMost(0.001)

// basic is measured in shapes that have no targets of their own.
func basic(rivals ...string) []contest {
	var against []comparison
	for _, name := range rivals {
		against = append(against, comparison{name, nil})
	}
	return []contest{
		measurement{name: "get uniform", op: "get", keys: "uniform", against: against},
		measurement{name: "batch uniform", op: "batch", keys: "uniform", against: against},
		measurement{name: "set uniform", op: "set", keys: "records", against: against},
		memory(rivals),
	}
}

// full is measured in the shape that has most of the targets.
var full = []contest{
	measurement{name: "get uniform", op: "get", keys: "uniform", allocation: none, against: []comparison{
		{"map", atMost(1)}, {"otter", atMost(0.5)}, {"redis", atMost(1.0 / 50)},
	}},
	measurement{name: "get zipf", op: "get", keys: "zipf", against: []comparison{{"map", nil}, {"otter", nil}}},
	measurement{name: "get hot", op: "get", keys: "hot", against: []comparison{{"map", nil}, {"otter", nil}}},
	measurement{name: "get absent", op: "get", keys: "absent", misses: true, against: []comparison{{"map", nil}, {"otter", nil}}},
	measurement{name: "batch uniform", op: "batch", keys: "uniform", allocation: none, against: []comparison{
		{"map", atMost(0.3)}, {"otter", nil}, {"redis", atMost(1.0 / 100)},
	}},
	measurement{name: "batch zipf", op: "batch", keys: "zipf", against: []comparison{{"map", nil}, {"otter", nil}}},
	measurement{name: "set uniform", op: "set", keys: "records", allocation: none, against: []comparison{
		{"map", nil}, {"otter", atMost(1)}, {"otter, clone", nil},
	}},
	memory{"map", "otter"},
	eviction{},
	newslab{},
	moving{},
	takeover{},
	searching{},
	native{},
	scaling{"2 processes, get uniform", "get", "uniform", atLeast(0.93)},
	scaling{"2 processes, get zipf", "get", "zipf", atLeast(0.93)},
	scaling{"2 processes, set uniform", "set", "records", nil},
	scaling{"2 processes, mixed uniform", "mixed", "records", nil},
}

// large has values of which most of the time goes into copying, so that a rival
// which does not copy what it is given would take part in something else.
var large = append([]contest{
	measurement{name: "get uniform, copying", op: "get", keys: "uniform", allocation: none, against: []comparison{{"memmove", atMost(1 / 0.8)}}},
}, basic("map", "otter, clone")...)

var growths = []contest{
	growth{"get uniform", "get", "uniform", atMost(1.3)},
	growth{"batch uniform", "batch", "uniform", nil},
}

// program is everything that there is to measure, in the order in which it is.
func program(entries int) []act {
	return []act{
		{shape{entries, 64}, full},
		{shape{entries / 1000, 64}, basic("map", "otter")},
		{shape{entries * growthFactor, 64}, growths},
		{shape{entries, 16}, basic("map", "otter")},
		{shape{entries, 1 << 10}, basic("map", "otter, clone")},
		{shape{entries * 8192 / 1_000_000, 64 << 10}, large},
	}
}

// selected returns the acts with only the contests whose titles match.
func selected(acts []act, only *regexp.Regexp) (out []act) {
	for _, a := range acts {
		chosen := act{shape: a.shape}
		for _, c := range a.contests {
			if only.MatchString(a.title(c)) {
				chosen.contests = append(chosen.contests, c)
			}
		}
		if len(chosen.contests) > 0 {
			out = append(out, chosen)
		}
	}
	return out
}
