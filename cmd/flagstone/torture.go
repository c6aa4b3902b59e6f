package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/hostile"
	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/torture"
)

// tortureFlags are the options of torture.
type tortureFlags struct {
	procs    int
	seconds  float64
	kills    float64
	seed     uint64
	sabotage string
	hostile  bool
}

func (a *app) tortureCommand() *cobra.Command {
	var f tortureFlags
	cmd := &cobra.Command{
		Use: "torture", Short: "Kill, stop and exec processes at random while they use a cache; exit 1 if anything is lost or wrong", Args: cobra.NoArgs,
		Long: `Processes work on a cache of their own in --dir: they read, write, delete, increment,
compare and swap, load, scan, touch, open and close; one of eight adds and drains
slabs, moves and evicts records, and is the steward now and then. Meanwhile they are
killed with SIGKILL, stopped for 10 ms to 2 s and continued, fork and exec children,
and exec themselves, at random. Who died is replaced.

Values verify themselves: each says its key, its writer and its number, and has a
checksum. What a process was told that is done it notes in shared memory, which
outlasts it; so everybody knows, before each lookup, what must be found at least:

  nothing torn, no value of another key, nothing that was never written
  nothing older than what was acknowledged, or seen by anybody, before
  nothing missing that was not deleted, except what is there to be evicted
  counters between the increments acknowledged and those tried
  no two swaps of the same value
  no value computed twice at a time by living processes
  no error but those that may occur: ErrBusy for one, only past the deadline, and only
  while somebody was stopped who may have held the lock, or within a short one
  nobody past the deadline by a second

and in the end the cache is checked, and every key looked up.

What an operation has waited is its time less that for which its own process was held
up, stopped or kept from the processors. That is measured as how late a goroutine is
that only sleeps, by 30 ms or more, and as the time for which the operation's thread was
ready to run and did not, as /proc says. The longest wait during which a process was
stopped that held a lock, or was where it may hold one, is reported apart.

With --hostile nobody is killed. Instead one more process writes random and plausible
wrong numbers into all mapped segments, control segment and slabs, while the others do
everything there is to do: then answers may be wrong, but nobody panics, faults, hangs,
waits past a bound or returns an error that is not documented; and afterwards what
` + "`flagstone check --repair`" + ` does brings the cache back.

The seed decides what each process does and when who is killed, not how they meet.
The run ends at the first violation; then the exit code is 1, and cache and journals
are kept.`,
		Example: `  flagstone torture
  flagstone torture --seconds 600 --procs 8 --kills-per-second 20
  flagstone torture --seed 12345 --json
  flagstone torture --hostile --procs 3 --seconds 20`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("seed") {
				f.seed = rand.Uint64()
			}
			fmt.Fprintf(a.errs, "seed %d\n", f.seed)
			if f.hostile {
				return a.hostile(cmd.Context(), f, self)
			}
			return a.torture(cmd.Context(), f, self)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&f.procs, "procs", 8, fmt.Sprintf("processes, 1 to %d", torture.MaxProcs))
	flags.Float64Var(&f.seconds, "seconds", 30, "how long")
	flags.Float64Var(&f.kills, "kills-per-second", 20, "SIGKILLs, of all processes together")
	flags.Uint64Var(&f.seed, "seed", 0, "of everything that is random (default: a random one, which is printed)")
	flags.BoolVar(&f.hostile, "hostile", false, "overwrite the segments instead of killing")
	flags.StringVar(&f.sabotage, "sabotage", "", "forget or tear: workers lie now and then")
	if err := flags.MarkHidden("sabotage"); err != nil {
		panic(err) // no such flag
	}
	cmd.AddCommand(&cobra.Command{
		Use: tortureProcess, Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return torture.Process(args[0]) },
	})
	cmd.AddCommand(&cobra.Command{
		Use: hostileProcess, Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return hostile.Process(args[0]) },
	})
	return cmd
}

// hostile is torture by wrong numbers. Self is the program that it starts.
func (a *app) hostile(ctx context.Context, f tortureFlags, self string) error {
	r, err := hostile.Run(ctx, hostile.Options{
		Dir: a.dir, Procs: f.procs, Time: f.time(), Seed: f.seed,
		Command: []string{self, "torture", hostileProcess},
	})
	if err != nil {
		return err
	}
	if err := a.show(r, func(w io.Writer) {
		fmt.Fprintf(w, "seed\t%d\nseconds\t%.1f\nprocesses\t%d and the vandal\noperations\t%d\nwrong numbers\t%d\n", r.Seed, r.Seconds, r.Processes-1, r.Operations, r.Writes)
		fmt.Fprintf(w, "problems\t%d found afterwards, %d left by the repair\nviolations\t%d\n", r.Problems, len(r.Remaining), len(r.Violations))
		for _, text := range append(r.Violations, r.Remaining...) {
			fmt.Fprintf(w, "\n%s\n", text)
		}
	}); err != nil || !r.Kept {
		return err
	}
	return negative(fmt.Sprintf("%d violations, %d problems remain; the cache is kept: `flagstone --dir %s check %s`, and when you are done: `flagstone --dir %[3]s destroy %[4]s`",
		len(r.Violations), len(r.Remaining), a.dir, r.Name))
}

// hostileProcess is what torture --hostile starts its processes as.
const hostileProcess = "hostile-process"

// tortureProcess is what torture starts its processes as.
const tortureProcess = "process"

func (f tortureFlags) check() error {
	switch {
	case f.procs < 1 || f.procs > torture.MaxProcs:
		return usage{fmt.Errorf("--procs %d: need 1 to %d", f.procs, torture.MaxProcs)}
	case !(f.seconds > 0 && f.seconds < 1e6):
		return usage{fmt.Errorf("--seconds %v: need more than 0", f.seconds)}
	case !(f.kills >= 0 && f.kills <= 1000):
		return usage{fmt.Errorf("--kills-per-second %v: need 0 to 1000", f.kills)}
	case !slices.Contains([]string{"", "forget", "tear"}, f.sabotage):
		return usage{fmt.Errorf("--sabotage %q: need forget or tear", f.sabotage)}
	}
	return nil
}

func (f tortureFlags) time() time.Duration { return time.Duration(f.seconds * float64(time.Second)) }

// torture is torture by kills.
func (a *app) torture(ctx context.Context, f tortureFlags, self string) error {
	show := newProgress(a.errs, false)
	defer show.end()
	r, err := torture.Run(ctx, torture.Options{
		Dir: a.dir, Procs: f.procs, Time: f.time(), Kills: f.kills, Seed: f.seed,
		Command: []string{self, "torture", tortureProcess}, Sabotage: f.sabotage,
		Progress: func(elapsed time.Duration, ops, kills uint64) {
			show.update("%3.0f s: %d operations, %d kills", elapsed.Seconds(), ops, kills)
		},
	})
	show.end()
	if err != nil {
		return err
	}
	if err := a.show(r, func(w io.Writer) { a.showTorture(w, r) }); err != nil || r.Violations == 0 {
		return err
	}
	return negative(fmt.Sprintf("%d violations; journals and what the processes said are in %s: `flagstone --dir %s check %s` looks at the cache, --seed %d makes the same choices again; when you are done: `flagstone --dir %[3]s destroy %[4]s`, and remove the journals",
		r.Violations, r.Kept, a.dir, r.Name, r.Seed))
}

func (a *app) showTorture(w io.Writer, r torture.Report) {
	wait := func(t torture.Wait) string {
		if t.Time == 0 {
			return "none"
		}
		return fmt.Sprintf("%v, %s", t.Time.Round(time.Millisecond/10), t.Operation)
	}
	fmt.Fprintf(w, "seed\t%d\n", r.Seed)
	fmt.Fprintf(w, "seconds\t%.1f\n", r.Seconds)
	fmt.Fprintf(w, "processes\t%d at a time, %d started\n", r.Procs, r.Processes)
	fmt.Fprintf(w, "operations\t%d\n", r.Total)
	for _, name := range slices.Sorted(maps.Keys(r.Operations)) {
		if n := r.Operations[name]; n > 0 {
			fmt.Fprintf(w, "  %s\t%d\n", name, n)
		}
	}
	fmt.Fprintf(w, "  busy, refused\t%d, %d\n", r.Busy, r.Refused)
	fmt.Fprintf(w, "kills\t%d\n", r.Kills)
	fmt.Fprintf(w, "stops\t%d, %d of who may have held a lock\n", r.Stops, r.Holders)
	fmt.Fprintf(w, "execs\t%d in place, %d of children\n", r.Execs, r.Children)
	fmt.Fprintf(w, "steals, rebuilds\t%d, %d; %d damaged records given up\n", r.Steals, r.Rebuilds, r.Dropped)
	fmt.Fprintf(w, "longest wait\t%s\n", wait(r.Longest))
	fmt.Fprintf(w, "  a holder stopped\t%s\n", wait(r.Stopped))
	fmt.Fprintf(w, "  past its deadline\t%s\n", wait(r.Overdue))
	fmt.Fprintf(w, "violations\t%d\n", r.Violations)
	for _, v := range r.First {
		fmt.Fprintf(w, "\n%.3f s, slot %d, life %s, %s %s: %s\n", v.At, v.Slot, v.Life, v.Op, v.Key, plainText(v.What))
		for _, line := range v.Trace {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
}

// plainText keeps a description from spoiling the table's columns.
func plainText(s string) string { return strings.NewReplacer("\t", " ", "\n", " ").Replace(s) }
