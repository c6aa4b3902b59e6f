package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone/conformance/internal/report"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // failures that are not expected, or expected ones that passed
	exitUsage  = 2
	exitError  = 3
)

// app is one call of the command: its streams and flags.
type app struct {
	out, errs io.Writer

	testees []string
	mixes   []string
	suites  []string
	only    string
	seconds int
	kills   float64
	procs   int
	seed    uint64
	expect  string
	vectors string
	dir     string
	wait    time.Duration
	json    bool
	report  string

	running bool // the command line was understood
	bad     int  // results that fail the run
}

const about = `The conformance runner of the Flagstone protocol: it drives testees, programs
around an implementation that speak the line protocol of conformance/README.md.

Without a command, and as "run" without --testee, it builds the Go testee, and the C
testee where there are its source and a C compiler, and runs each with itself and both
mixed, in either order where the cases give them parts of their own.

Exit codes: 0 all passed; 1 cases failed that are not expected to, or passed that are
expected to fail; 2 wrong usage; 3 nothing could be run.`

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use: "conformance", Short: "Run the conformance suites", Long: about,
		SilenceErrors: true, SilenceUsage: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.run(cmd.Context()) },
	}
	run := &cobra.Command{
		Use: "run", Short: "Run suites with testees", Args: cobra.NoArgs,
		Example: "  conformance run --testee go=bin/testee --testee 'mine=./mine --verbose' --mix go,mine --suite peer,peers",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.run(cmd.Context()) },
	}
	list := &cobra.Command{
		Use: "list", Short: "List the cases, with level and clauses", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.list() },
	}
	flags := root.PersistentFlags()
	flags.StringArrayVar(&a.testees, "testee", nil, "a testee, as NAME=COMMAND LINE; its words are separated by spaces; may be repeated")
	flags.StringArrayVar(&a.mixes, "mix", nil, "names of testees that work on one domain, separated by commas; may be repeated (default: each with itself, and each two in either order)")
	flags.StringSliceVar(&a.suites, "suite", nil, "suites to run, of "+strings.Join(suiteNames(), ", ")+" (default: all)")
	flags.StringVar(&a.only, "case", "", "only cases whose SUITE/NAME matches this pattern, as in peer/claim*")
	flags.IntVar(&a.seconds, "seconds", 10, "how long the torture and fuzz suites go on with each mix")
	flags.Float64Var(&a.kills, "kills-per-second", 10, "kills of the torture suite")
	flags.IntVar(&a.procs, "procs", 8, "processes of the torture suite")
	flags.Uint64Var(&a.seed, "seed", 0, "of what is random (default: another one each time, and said)")
	flags.StringVar(&a.expect, "expect", "", "file with the failures that are expected: lines of SUITE/NAME[@MIX] and the reason")
	flags.StringVar(&a.vectors, "vectors", "", "directory of the vectors (default: spec/vectors of this tree)")
	flags.StringVar(&a.dir, "dir", suite.DefaultDir(), "directory in which domains are made")
	flags.DurationVar(&a.wait, "patience", suite.DefaultPatience, "how long what is to happen by itself may take")
	flags.BoolVar(&a.json, "json", false, "print JSON")
	flags.StringVar(&a.report, "report", "", "write a report in Markdown to this file")
	root.AddCommand(run, list)
	return root
}

// run runs what the flags say.
func (a *app) run(ctx context.Context) error {
	plan, err := a.plan()
	if err != nil {
		return err
	}
	a.running = true
	programs, err := a.programs()
	if err != nil {
		return err
	}
	if plan.Mixes, err = mixes(programs, a.mixes); err != nil {
		return err
	}
	p := newProgress(a.errs)
	plan.Started, plan.Note, plan.Done = p.started, p.note, p.done
	results, runErr := suite.Run(ctx, plan)
	p.end()
	if len(results) > 0 {
		if err := a.show(results); err != nil {
			return err
		}
	}
	if runErr != nil {
		a.bad = 0
	}
	return errors.Join(runErr, a.verdict(results, runErr))
}

// verdict is an error if results fail the run.
func (a *app) verdict(results []suite.Result, runErr error) error {
	if runErr != nil {
		return nil
	}
	for i := range results {
		if results[i].Bad() {
			a.bad++
		}
	}
	if a.bad > 0 {
		return errors.New("not all is as expected")
	}
	return nil
}

// plan is what the flags say, but for the testees.
func (a *app) plan() (p suite.Plan, err error) {
	if p.Suites, err = chosen(a.suites); err != nil {
		return p, err
	}
	if a.only != "" {
		if _, err := path.Match(a.only, ""); err != nil {
			return p, fmt.Errorf("--case %q: %w", a.only, err)
		}
		p.Only = func(id string) bool { match, _ := path.Match(a.only, id); return match }
	}
	if a.seed == 0 {
		a.seed = rand.Uint64()>>1 + 1
	}
	if a.expect != "" {
		f, err := os.Open(a.expect)
		if err != nil {
			return p, err
		}
		defer func() { _ = f.Close() }()
		if p.Expect, err = suite.ReadExpectations(f); err != nil {
			return p, fmt.Errorf("%s: %w", a.expect, err)
		}
	}
	p.Options = suite.Options{Seed: a.seed, Seconds: a.seconds, Kills: a.kills, Procs: a.procs, Vectors: a.vectors, Dir: a.dir, Patience: a.wait}
	if p.Options.Vectors == "" {
		p.Options.Vectors = vectorsDir()
	}
	return p, nil
}

// programs returns the testees, which are built if none were given.
func (a *app) programs() ([]testee.Program, error) {
	if len(a.testees) == 0 {
		return build(a.errs)
	}
	var programs []testee.Program
	for _, s := range a.testees {
		name, line, found := strings.Cut(s, "=")
		words := strings.Fields(line)
		if !found || len(words) == 0 || name == "" || strings.ContainsAny(name, ",@ ") {
			return nil, fmt.Errorf("--testee %q: it is NAME=COMMAND LINE", s)
		}
		if slices.ContainsFunc(programs, func(p testee.Program) bool { return p.Name == name }) {
			return nil, fmt.Errorf("--testee %q: there are two of that name", s)
		}
		programs = append(programs, testee.Program{Name: name, Words: words})
	}
	return programs, nil
}

// mixes returns the mixes of those names, and by default each program with itself and
// each two in either order.
func mixes(programs []testee.Program, names []string) ([]suite.Mix, error) {
	var all []suite.Mix
	if len(names) == 0 {
		for i := range programs {
			all = append(all, suite.Mix{programs[i], programs[i]})
		}
		for i := range programs {
			for j := i + 1; j < len(programs); j++ {
				all = append(all, suite.Mix{programs[i], programs[j]}, suite.Mix{programs[j], programs[i]})
			}
		}
		return all, nil
	}
	for _, s := range names {
		var mix suite.Mix
		for _, name := range strings.Split(s, ",") {
			i := slices.IndexFunc(programs, func(p testee.Program) bool { return p.Name == name })
			if i < 0 {
				return nil, fmt.Errorf("--mix %q: there is no testee %q", s, name)
			}
			mix = append(mix, programs[i])
		}
		all = append(all, mix)
	}
	return all, nil
}

// show prints the results, and writes the report.
func (a *app) show(results []suite.Result) error {
	if a.report != "" {
		if err := os.WriteFile(a.report, report.Markdown(results), 0o644); err != nil {
			return err
		}
	}
	if a.json {
		return report.JSON(a.out, a.seed, results)
	}
	return report.Text(a.out, a.seed, results)
}

// list prints the cases.
func (a *app) list() error {
	p, err := a.plan()
	if err != nil {
		return err
	}
	a.running = true
	return report.Cases(a.out, a.json, p)
}
