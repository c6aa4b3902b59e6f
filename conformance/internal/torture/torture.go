// Package torture has testees work on one domain with values that verify themselves,
// while it kills and stops them at random, and judges what they answer.
//
// The runner is the journal: it has sent each command and read each answer, so when a
// process is killed it knows what was acknowledged, and what was under way. The parts:
// a slot (slot.go) starts one process after the other, sends it bursts of commands and
// takes the answers; a life (life.go, values.go, shared.go, meddling.go, scan.go) makes
// the commands of one process; what is known of a key is its subject (keys.go), judged
// as a register, a counter, a chain of swaps or by its claims (register.go, counter.go,
// chain.go, claims.go, prefix.go); disturb.go kills and stops; verdict.go is the end.
package torture

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// Options are what a run is made with.
type Options struct {
	Dir      string // where the domain is made
	Programs []testee.Program
	Procs    int // processes at a time, of the programs by turns
	Time     time.Duration
	Kills    float64 // per second
	Seed     uint64
	Progress func(format string, args ...any)
}

// Report is what came of it.
type Report struct {
	Order      string // of the primary slab
	Seconds    float64
	Processes  uint64            // started
	Commands   map[string]uint64 // answered
	Refused    map[string]uint64 // answered with an error, by command and error
	Kills      uint64
	Crashes    uint64 // by which processes were to kill themselves
	Stops      uint64
	Longest    Wait // of the commands that were told how long to wait
	Stood      Wait // the same while a process stood still
	Violations []Violation
}

// Wait is how long a command took.
type Wait struct {
	Command     string
	Given, Took time.Duration
}

// Violation is something that must not be.
type Violation struct {
	At      time.Duration
	Slot    int
	Program string
	Life    uint64
	Place   string
	Command string
	Answer  string
	What    string
	Key     string
	Trace   []string // the last operations on the key
}

// Run tortures a domain and judges what is left. An error says that it could not be
// done.
func Run(ctx context.Context, o Options) (Report, error) {
	c := newCrew(ctx, o)
	err := c.run()
	c.report.Order = c.order
	return c.report, err
}

func (w Wait) String() string {
	if w.Command == "" {
		return "none"
	}
	return fmt.Sprintf("%s with wait=%d took %v", w.Command, w.Given.Milliseconds(), w.Took.Round(time.Millisecond))
}

func (v *Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "after %v, slot %d (%s), life %d, %s: %s: %s", v.At.Round(time.Microsecond), v.Slot, v.Program, v.Life, v.Place, v.Command, v.What)
	if v.Answer != "" {
		fmt.Fprintf(&b, "\n  it answered %s", v.Answer)
	}
	if v.Key != "" {
		fmt.Fprintf(&b, "\n  the last operations on %s:", v.Key)
	}
	for _, line := range v.Trace {
		fmt.Fprintf(&b, "\n  %s", line)
	}
	return b.String()
}

// lines are the report as people read it.
func (r *Report) lines() []string {
	var sum uint64
	list := func(m map[string]uint64) string {
		var b []string
		for _, k := range sorted(m) {
			b = append(b, fmt.Sprintf("%s %d", k, m[k]))
		}
		return strings.Join(b, ", ")
	}
	for _, n := range r.Commands {
		sum += n
	}
	return []string{
		fmt.Sprintf("%d commands in %.1f s, %.0f a second, by %d processes; order %s", sum, r.Seconds, float64(sum)/r.Seconds, r.Processes, r.Order),
		fmt.Sprintf("%d kills, %d processes told to crash, %d stops", r.Kills, r.Crashes, r.Stops),
		"longest wait: " + r.Longest.String(),
		"longest wait while a process stood still: " + r.Stood.String(),
		"commands: " + list(r.Commands),
		"refused: " + list(r.Refused),
	}
}
