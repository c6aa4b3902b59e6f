package torture

import (
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// Suite returns the suite.
func Suite() suite.Suite {
	return suite.Suite{
		Name:  "torture",
		About: "processes of the mix on one domain, killed and stopped at random",
		Cases: func(suite.Options) ([]suite.Case, error) {
			return []suite.Case{{
				Name: "kills", Level: suite.Full, Run: run,
				Clauses: []string{"2 Assumptions and guarantees", "12 Locks", "13 Lookup", "14 Writing", "15 Claims", "16 Cutoff eviction", "17 Rebuild", "20 Tiers"},
			}}, nil
		},
	}
}

// run is the one case.
func run(t *suite.T) {
	o := t.Options
	r, err := Run(t.Context(), Options{
		Dir: t.Dir(), Programs: t.Mix, Procs: o.Procs, Time: time.Duration(o.Seconds) * time.Second, Kills: o.Kills, Seed: o.Seed,
		Progress: t.Notef,
	})
	for _, line := range r.lines() {
		t.Logf("%s", line)
	}
	for _, v := range r.Violations {
		t.Errorf("%s", v.String())
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
}
