package main

import (
	"testing"
	"time"
)

func TestQuantile_HundredTimes_IsTheShare(t *testing.T) {
	var times []time.Duration
	for i := range 100 {
		times = append(times, time.Duration(i))
	}
	for q, want := range map[float64]float64{0: 0, 0.5: 50, 0.99: 99, 0.999: 99} {
		if got := quantile(times, q); got != want {
			t.Errorf("%v: %v, want %v", q, got, want)
		}
	}
}

func TestRunTimed_Command_EndsIt(t *testing.T) {
	o := testOptions(t)
	c, _ := newGoMap(t.Context(), o)
	p := newPlayer(c, nil, newWorkload(o.Shape, o.Seed, 0).keys("uniform"), false)
	until := make(chan command, 1)
	until <- command{Op: stop}
	done, err := p.runTimed(until)
	if err != nil || done.Latency.Lookups != batchSize || done.Latency.P50 > done.Latency.P999 {
		t.Fatal(done, err)
	}
	if len(until) != 0 {
		t.Error("the command is still there")
	}
}

func TestRunTimed_RoomUsedUp_WaitsForTheCommand(t *testing.T) {
	o := testOptions(t)
	c, _ := newGoMap(t.Context(), o)
	p := newPlayer(c, nil, newWorkload(o.Shape, o.Seed, 0).keys("uniform"), false)
	p.times = make([]time.Duration, 0, 3*batchSize+1)
	until := make(chan command) // has room for nothing, so it never looks as if one had come
	go func() { until <- command{Op: stop} }()
	done, err := p.runTimed(until)
	if err != nil || done.Latency.Lookups != 3*batchSize {
		t.Fatal(done, err)
	}
}
