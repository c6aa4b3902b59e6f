package torture

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// tortured returns the report of a run with a fake domain.
func tortured(t *testing.T, f *fake, kills float64, span time.Duration) Report {
	t.Helper()
	c := newCrew(t.Context(), Options{
		Dir: "/nowhere", Programs: []testee.Program{{Name: "fake"}}, Procs: 3, Time: span, Kills: kills, Seed: 1,
		Progress: func(string, ...any) {},
	})
	c.start = f.start
	if err := c.run(); err != nil {
		t.Fatal(err)
	}
	return c.report
}

func TestTorture_NothingWrong_NoViolations(t *testing.T) {
	r := tortured(t, newFake("", 1), 20, 2*time.Second)
	for _, v := range r.Violations {
		t.Error(v.String())
	}
	for _, command := range []string{"get", "batch", "set", "add", "replace", "cas", "del", "incr", "touch", "claim", "fill", "release", "fail", "evicttag", "clearns", "scan", "lock", "check"} {
		if r.Commands[command] == 0 {
			t.Errorf("no %s was answered", command)
		}
	}
	if r.Kills == 0 || r.Crashes == 0 || r.Stops == 0 {
		t.Errorf("%d kills, %d crashes, %d stops", r.Kills, r.Crashes, r.Stops)
	}
}

// Whatever a testee does wrong now and then is found, and called what it is.
func TestTorture_Sabotage_FoundOut(t *testing.T) {
	for _, s := range []struct {
		how   string
		every int
		told  string // in one of the violations
	}{
		{"forget", 20, "older: "},
		{"forget", 20, "missing: what was written last was not removed"},
		{"old", 20, "older: "},
		{"tear", 20, "torn: "},
		{"undelete", 5, "older: "},
		{"expired", 1, "expired: "},
		{"increment", 20, "two increments were answered with the sum"},
		{"cas", 5, "two swaps of one value"},
		{"claim", 5, "claimed twice"},
		{"held", 20, "nobody can hold a claim"},
		{"fill", 3, "was accepted, though"},
		{"lose", 10, "though nothing ended it"},
		{"mutex", 2, "though life"},
		{"overlook", 50, "missing"},
		{"repeat", 50, "comes twice"},
		{"unsound", 1, "not sound"},
		{"slow", 1, "having been given"},
		{"end", 100, "ended by itself"},
		{"disagree", 1, "says otherwise than slot 0"},
	} {
		t.Run(s.how, func(t *testing.T) {
			t.Parallel()
			var all strings.Builder
			for span := 500 * time.Millisecond; !strings.Contains(all.String(), s.told); span *= 2 {
				if span > 10*time.Second {
					t.Fatalf("no violation says %q: %s", s.told, all.String())
				}
				for _, v := range tortured(t, newFake(s.how, s.every), 0, span).Violations {
					all.WriteString(v.String())
				}
			}
		})
	}
}

func TestTorture_Interrupted_Ends(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := newCrew(ctx, Options{Dir: "/nowhere", Programs: []testee.Program{{Name: "fake"}}, Procs: 2, Time: time.Hour, Progress: t.Logf})
	c.start = newFake("", 1).start
	if err := c.run(); err == nil {
		t.Error("no error")
	}
}
