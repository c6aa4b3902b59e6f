//go:build linux

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/hostile"
	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/torture"
)

func TestTorture_FiveSeconds_NothingIsLost(t *testing.T) {
	b := newBench(t)
	var r torture.Report
	b.run("torture", "--seconds", "5", "--procs", "4", "--kills-per-second", "20", "--json").exits(exitOK).warns("seed ").decode(&r)
	t.Logf("seed %d: %d operations, %d kills, %d stops, %d execs, %d steals", r.Seed, r.Total, r.Kills, r.Stops, r.Execs, r.Steals)
	if r.Total == 0 || r.Kills == 0 || r.Stops == 0 || r.Processes < 4+r.Kills/2 || r.Violations != 0 {
		t.Errorf("%+v", r)
	}
	if left, err := os.ReadDir(b.dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A torture that finds nothing proves nothing: workers that lie are found.
func TestTorture_WorkersLie_Found(t *testing.T) {
	for lie, words := range map[string][]string{"forget": {"older", "missing"}, "tear": {"torn"}} {
		t.Run(lie, func(t *testing.T) {
			b := newBench(t)
			var r torture.Report
			o := b.run("torture", "--seconds", "30", "--procs", "3", "--kills-per-second", "2", "--sabotage", lie, "--json").exits(exitNegative).warns("violations", r.Name)
			o.decode(&r)
			found := false
			for _, v := range r.First {
				for _, word := range words {
					found = found || strings.HasPrefix(strings.TrimPrefix(v.What, "in the end: "), word) && v.Key != ""
				}
			}
			if r.Violations == 0 || !found {
				t.Errorf("seed %d: %d violations: %+v", r.Seed, r.Violations, r.First)
			}
			if text, err := os.ReadFile(r.Kept + "/journal-1.txt"); err != nil || len(text) == 0 {
				t.Errorf("no journal is kept: %v", err)
			}
			b.run("check", r.Name).exits(exitOK) // the cache itself did nothing wrong
		})
	}
}

func TestTorture_Flags_Refused(t *testing.T) {
	b := newBench(t)
	for _, flags := range [][]string{{"--procs", "0"}, {"--procs", "65"}, {"--seconds", "0"}, {"--kills-per-second", "-1"}, {"--sabotage", "all"}} {
		b.run(append([]string{"torture"}, flags...)...).exits(exitUsage)
		b.run(append([]string{"torture", "--hostile"}, flags...)...).exits(exitUsage)
	}
}

func TestTorture_Hostile_NobodyPanicsAndRepaired(t *testing.T) {
	b := newBench(t)
	var r hostile.Report
	b.run("torture", "--hostile", "--procs", "2", "--seconds", "2", "--json").exits(exitOK).warns("seed ").decode(&r)
	if r.Operations == 0 || r.Writes == 0 || len(r.Violations) > 0 || len(r.Remaining) > 0 {
		t.Fatalf("%+v", r)
	}
}
