package suite

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// Status is what came of a case.
type Status int

// What can come of a case.
const (
	Passed Status = iota + 1
	Failed
	NotOffered
)

var statusNames = []string{Passed: "passed", Failed: "failed", NotOffered: "not offered"}

func (s Status) String() string { return statusNames[s] }

// MarshalText is the status' name.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Result is what came of a case with a mix.
type Result struct {
	Suite    string        `json:"suite"`
	Case     string        `json:"case"`
	Mix      string        `json:"mix"`
	Level    Level         `json:"level"`
	Clauses  []string      `json:"clauses"`
	Status   Status        `json:"status"`
	Messages []string      `json:"messages,omitempty"`
	Report   []string      `json:"report,omitempty"`
	Expected string        `json:"expected,omitempty"` // why it is expected to fail
	Elapsed  time.Duration `json:"-"`
}

// ID names the case.
func (r *Result) ID() string { return r.Suite + "/" + r.Case }

// Bad tells whether the result is one that fails the run: a failure nobody expects,
// or that a failure that is expected does not come.
func (r *Result) Bad() bool {
	return r.Status == Failed && r.Expected == "" || r.Status == Passed && r.Expected != ""
}

// Plan is what is to be run.
type Plan struct {
	Suites  []Suite
	Mixes   []Mix
	Only    func(id string) bool // nil: all cases
	Expect  Expectations
	Options Options
	Started func(r *Result, i, n int)   // before case i of n; may be nil
	Note    func(r *Result, how string) // how far a long case is; may be nil
	Done    func(r *Result)             // after it; may be nil
}

// job is a case with a mix.
type job struct {
	suite Suite
	of    Case
	mix   Mix
}

func (j *job) id() string { return j.suite.Name + "/" + j.of.Name }

// Run runs the plan. It returns an error only where nothing could be run.
func Run(ctx context.Context, p Plan) ([]Result, error) {
	if p.Options.Patience == 0 {
		p.Options.Patience = DefaultPatience
	}
	levels, err := askLevels(p.Mixes)
	if err != nil {
		return nil, err
	}
	jobs, err := p.jobs()
	if err != nil {
		return nil, err
	}
	if err := p.Expect.check(jobs); err != nil {
		return nil, err
	}
	jobs = slices.DeleteFunc(jobs, func(j job) bool { return p.Only != nil && !p.Only(j.id()) })
	results := make([]Result, 0, len(jobs))
	for i, j := range jobs {
		if ctx.Err() != nil {
			return results, fmt.Errorf("interrupted after %d of %d cases: %w", i, len(jobs), context.Cause(ctx))
		}
		r := Result{Suite: j.suite.Name, Case: j.of.Name, Mix: j.mix.String(), Level: j.of.Level, Clauses: j.of.Clauses}
		r.Expected = p.Expect.why(r.ID(), r.Mix)
		if p.Started != nil {
			p.Started(&r, i, len(jobs))
		}
		p.one(ctx, j, levels, &r)
		if p.Done != nil {
			p.Done(&r)
		}
		results = append(results, r)
	}
	return results, nil
}

// jobs lists the cases of all suites with the mixes that they are for.
func (p *Plan) jobs() ([]job, error) {
	var jobs []job
	for _, s := range p.Suites {
		cases, err := s.Cases(p.Options)
		if err != nil {
			return nil, fmt.Errorf("suite %s: %w", s.Name, err)
		}
		for _, mix := range s.mixes(p.Mixes) {
			for _, c := range cases {
				jobs = append(jobs, job{s, c, mix})
			}
		}
	}
	return jobs, nil
}

// mixes returns what the suite is run with.
func (s Suite) mixes(mixes []Mix) []Mix {
	if s.Parts {
		return mixes
	}
	seen := make(map[string]bool)
	if !s.Alone {
		return slices.DeleteFunc(slices.Clone(mixes), func(m Mix) bool {
			again := seen[m.sorted()]
			seen[m.sorted()] = true
			return again
		})
	}
	var alone []Mix
	for _, mix := range mixes {
		for _, p := range mix {
			if !seen[p.Name] {
				seen[p.Name] = true
				alone = append(alone, Mix{p})
			}
		}
	}
	return alone
}

// askLevels asks the testees what they offer.
func askLevels(mixes []Mix) (map[string]Level, error) {
	levels := make(map[string]Level)
	for _, mix := range mixes {
		for _, p := range mix {
			if levels[p.Name] != 0 {
				continue
			}
			level, err := askLevel(p)
			if err != nil {
				return nil, err
			}
			levels[p.Name] = level
		}
	}
	return levels, nil
}

func askLevel(p testee.Program) (Level, error) {
	run, err := testee.Start(p, 0)
	if err != nil {
		return 0, err
	}
	defer run.Close()
	a, err := run.Do("hello")
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, strings.TrimSpace(run.Stderr()))
	}
	if a.Kind != testee.OK || len(a.Words) != 7 || a.Words[0] != "flagstone-conformance" || a.Words[1] != "1" {
		return 0, fmt.Errorf("testee %s: hello: %v, not: ok flagstone-conformance 1 NAME LEVEL MAJOR MINOR FINGERPRINT", p.Name, a)
	}
	level, err := ParseLevel(a.Words[3])
	if err != nil {
		return 0, fmt.Errorf("testee %s: hello: %v: %w", p.Name, a, err)
	}
	return level, nil
}

// one runs one case.
func (p *Plan) one(ctx context.Context, j job, levels map[string]Level, r *Result) {
	begin := time.Now()
	defer func() { r.Elapsed = time.Since(begin) }()
	for _, program := range j.mix {
		if levels[program.Name] < j.of.Level {
			r.Status = NotOffered
			r.Messages = []string{fmt.Sprintf("testee %s is of level %s", program.Name, levels[program.Name])}
			return
		}
	}
	dir, err := newDir(p.Options.Dir)
	if err != nil {
		r.Status, r.Messages = Failed, []string{err.Error()}
		return
	}
	t := &T{
		Options: p.Options, Mix: j.mix, ctx: ctx, of: j.of, dir: dir, levels: levels, full: j.mix.maker(p.Mixes, levels),
		testees: make(map[int]*testee.Testee), offered: true,
		note: func(how string) {
			if p.Note != nil {
				p.Note(r, how)
			}
		},
	}
	t.run()
	r.Messages, r.Report = t.messages, t.report
	switch {
	case t.failed:
		r.Status = Failed
	case !t.offered:
		r.Status = NotOffered
	default:
		r.Status = Passed
	}
}

// maker returns a full peer, of the mix if it has one.
func (m Mix) maker(mixes []Mix, levels map[string]Level) testee.Program {
	for _, mix := range append([]Mix{m}, mixes...) {
		for _, p := range mix {
			if levels[p.Name] == Full {
				return p
			}
		}
	}
	return testee.Program{}
}

// DefaultPatience is far more than anything takes.
const DefaultPatience = 15 * time.Second

// DefaultDir returns the directory for domains: in memory, where there is such a one.
func DefaultDir() string {
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err == nil && info.IsDir() {
		return memory
	}
	return os.TempDir()
}
