package demo

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// figures are all that the demo measured.
type figures struct {
	OK       bool          `json:"ok"`
	Failures []string      `json:"failures,omitempty"` // what did not hold
	GOROOT   string        `json:"goroot"`
	Seed     uint64        `json:"seed"`
	Workers  int           `json:"workers"`
	Packages int           `json:"packages"` // in the tree
	Roots    int           `json:"roots"`    // taken
	Distinct int           `json:"distinct"` // packages that these need
	Needs    int           `json:"needs"`    // summaries that each worker needs
	Budget   time.Duration `json:"budget_ns"`
	Expected time.Duration `json:"expected_ns"`
	Total    time.Duration `json:"total_ns"`
	Ways     []*outcome    `json:"ways"`
	Kill     story         `json:"kill"`
	Sample   sample        `json:"sample"`
	Problems []string      `json:"check_problems,omitempty"`
	Cache    slabFigures   `json:"cache"`
	Growth   growth        `json:"growth"` // the second act
	all      catalogue
	began    time.Time
}

// story is the kill and what came of it.
type story struct {
	Death       *death `json:"death"`
	Replacement int    `json:"replacement_pid"`
	Survivors   waits  `json:"survivors"`
	Steals      uint64 `json:"steals"`
	Rebuilds    uint64 `json:"rebuilds"`
	Dropped     uint64 `json:"dropped"`
}

type slabFigures struct {
	FileSize uint64 `json:"file_size"`
	Shards   uint32 `json:"shards"`
	Records  uint64 `json:"records"`
	Bytes    uint64 `json:"bytes"`
	Sets     uint64 `json:"sets"`
	Evicted  uint64 `json:"evicted"`
}

// longestWait is how long an operation of a survivor may take.
const longestWait = time.Second

// failures returns what did not hold, nothing if the demo succeeded.
func (f *figures) failures() (out []string) {
	must := func(held bool, format string, args ...any) {
		if !held {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	must(len(f.Ways) == 3, "%d of 3 ways were done", len(f.Ways))
	for _, o := range f.Ways {
		must(o.equal(f.Ways[0]), "the results of %q differ from those of %q", o.Way, f.Ways[0].Way)
		for slot, d := range o.digests {
			must(len(d) == f.Roots, "%s: worker %d did %d of %d roots", o.Way, slot, len(d), f.Roots)
		}
	}
	if len(f.Ways) == 3 {
		maps, shared := f.Ways[1], f.Ways[2]
		must(shared.Computations < maps.Computations, "%d computations with Flagstone, %d with private maps", shared.Computations, maps.Computations)
	}
	must(f.Kill.Death != nil, "no worker was killed")
	must(f.Kill.Replacement != 0, "no worker took the victim's place")
	must(f.Kill.Steals >= 1, "no survivor took the dead worker's lock")
	w := f.Kill.Survivors
	must(w.FirstSet > 0, "no survivor stored anything in the victim's shard after the kill")
	for _, wait := range []struct {
		what string
		took time.Duration
	}{{"Get", w.Before.add(w.After).Get}, {"Set", w.Before.add(w.After).Set}, {"first Set", w.FirstSet}} {
		must(wait.took < longestWait, "a survivor's %s took %v, the bound is %v", wait.what, wait.took, longestWait)
	}
	must(f.Sample.Values == min(f.Sample.Of, sampleSize) && f.Sample.Values > 0, "%d of %d values were compared", f.Sample.Values, f.Sample.Of)
	must(len(f.Sample.Different) == 0, "values differ from what was computed again: %q", f.Sample.Different)
	must(len(f.Problems) == 0, "the cache is not sound: %q", f.Problems)
	f.Growth.failures(must)
	return out
}

// print writes the table and the story of the kill.
func (f *figures) print(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	row := func(name string, cell func(o *outcome) string) {
		fmt.Fprintf(t, "%s\t", name)
		for _, o := range f.Ways {
			fmt.Fprintf(t, "%s\t", cell(o))
		}
		fmt.Fprintln(t)
	}
	number := func(n int) string { return fmt.Sprint(n) }
	row("", func(o *outcome) string { return string(o.Way) })
	row("wall time", func(o *outcome) string { return seconds(o.Wall) })
	row("CPU time", func(o *outcome) string { return seconds(o.CPU) })
	row("summaries needed", func(o *outcome) string { return number(o.Needs) })
	row("computations", func(o *outcome) string { return number(o.Computations) })
	row("duplicates", func(o *outcome) string { return number(o.Duplicates) })
	row("largest process", func(o *outcome) string { return fmt.Sprintf("%d MiB", o.PeakRSS>>20) })
	row("results", func(o *outcome) string {
		if o.equal(f.Ways[0]) {
			return "equal"
		}
		return "DIFFERENT"
	})
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	if d := f.Kill.Death; d != nil {
		w := f.Kill.Survivors
		fmt.Fprintf(out, "Worker %d (pid %d) was killed while it held the lock of shard %d inside Set, after %v and %d stops; pid %d did the rest of its work.\n",
			victim, d.Pid, d.Shard, round(d.Hunt), d.Attempts, f.Kill.Replacement)
		fmt.Fprintf(out, "The first Set that a survivor began in that shard afterwards was done %v after the kill: %d lock taken from the dead, %d shard rebuilt, %d records dropped.\n",
			round(w.FirstSet), f.Kill.Steals, f.Kill.Rebuilds, f.Kill.Dropped)
		fmt.Fprintf(out, "Longest wait of the survivors: Get %v, Set %v after the kill; Get %v, Set %v before. %d lookups said ErrBusy and were computed.\n",
			round(w.After.Get), round(w.After.Set), round(w.Before.Get), round(w.Before.Set), w.Before.Busy+w.After.Busy)
	}
	fmt.Fprintf(out, "%d of %d values (%d summaries, %d source texts) were computed again: %d differ. The cache has %d problems.\n",
		f.Sample.Values, f.Sample.Of, f.Sample.Summaries, f.Sample.Texts, len(f.Sample.Different), len(f.Problems))
	fmt.Fprintf(out, "%d workers, %d root packages that need %d; %d packages in %s; seed %d; %s with the second act.\n",
		f.Workers, f.Roots, f.Distinct, f.Packages, f.GOROOT, f.Seed, seconds(f.Total))
	if err := f.Growth.print(out); err != nil {
		return err
	}
	for _, failure := range f.Failures {
		fmt.Fprintf(out, "FAILED: %s\n", failure)
	}
	return nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// round keeps three digits or so.
func round(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
