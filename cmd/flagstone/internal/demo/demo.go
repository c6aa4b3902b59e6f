// Package demo is the command that shows the product's main job on real input:
// four processes share the documentation summaries of Go packages, and one of
// them is killed while it holds a lock; then a cache grows and shrinks under load.
package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"go/build"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

// ErrFailed says that the demo ran but that not all of what it shows held; the
// report says what did not.
var ErrFailed = errors.New("the demo failed")

// The cache of the third way. It fits a /dev/shm of 64 MiB.
const (
	cacheSize = 56 << 20
	cellSize  = 1 << 10
	maxKey    = 256
	maxValue  = 2 << 20
	shards    = 8
)

// Of the budget, what the second act takes at most, and how long it takes to store
// what it stores.
const (
	secondTime = 18 * time.Second
	secondPace = 4 * time.Second
)

// settings are the command's flags.
type settings struct {
	goroot, dir string
	packages    uint
	budget      time.Duration
	seed        uint64
	json        bool
}

// Command returns the command "demo".
func Command() *cobra.Command {
	var s settings
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show processes sharing a cache that grows and shrinks, some of them killed",
		Long: `Demo lets four worker processes summarise the documentation of Go packages and of
all they import, from the Go toolchain's own source, in three ways: without a
cache, with a private map in each process, and with a Flagstone cache. In the
third, one worker is killed with SIGKILL while it holds a lock inside Set, and a
new one takes its place.

In a second act blocks of the source go into a cache that is too small for them. A
steward adds a slab, four processes that hear of it in different ways go on looking
up what must be there, the load drops, and the slab is drained and removed, by
another steward, as the first one is killed while it drains. Progress goes to standard error, the figures to standard
output. The exit status is 0 only if everything held.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			// The worker is this command's child: the path without the program's name.
			path := append(strings.Fields(c.CommandPath())[1:], workerCommand)
			return s.main(ctx, append([]string{exe}, path...), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&s.goroot, "goroot", "", "Go toolchain whose source is read (default: that of the go command)")
	f.StringVar(&s.dir, "dir", "/dev/shm", "directory for the cache")
	f.UintVar(&s.packages, "packages", 0, "root packages to take (default: as many as fit the budget)")
	f.DurationVar(&s.budget, "budget", 58*time.Second, "time that the demo should take at most")
	f.Uint64Var(&s.seed, "seed", 1, "seed of the choice and of the workers' orders")
	f.BoolVar(&s.json, "json", false, "print the figures as JSON")
	c.AddCommand(&cobra.Command{
		Use: workerCommand, Hidden: true, Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(*cobra.Command, []string) error { return work(os.Stdin, os.Stdout) },
	})
	return c
}

const workerCommand = "worker"

// main runs the demo and prints what it measured.
func (s settings) main(ctx context.Context, exe []string, stdout, stderr io.Writer) error {
	p := newProgress(stderr)
	defer p.close()
	f, err := s.measure(ctx, exe, p)
	if err != nil {
		return err
	}
	f.Failures = f.failures()
	f.OK = len(f.Failures) == 0
	if s.json {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		err = e.Encode(f)
	} else {
		err = f.print(stdout)
	}
	if err == nil && !f.OK {
		err = fmt.Errorf("%w: %s", ErrFailed, strings.Join(f.Failures, "; "))
	}
	return err
}

// measure does the job in the three ways. The cache is made first, so that a
// directory without room is found out at once.
func (s settings) measure(ctx context.Context, exe []string, p *progress) (f figures, err error) {
	f = figures{Seed: s.seed, Workers: workers, Budget: s.budget, began: time.Now()}
	first := max(s.budget-secondTime, s.budget*3/4)
	if f.GOROOT, err = s.findGo(ctx); err != nil {
		return f, err
	}
	err = s.withCache(ctx, func(name string, cache *flagstone.Cache) error {
		t := newTree(f.GOROOT)
		a := assignment{exe: exe, job: job{GOROOT: f.GOROOT, Seed: s.seed, Dir: s.dir, Domain: name}, tell: func(int, int) {}}
		if a.roots, err = f.plan(ctx, a, t, int(s.packages), first, p); err != nil {
			return err
		}
		for _, way := range []way{noCache, privateMaps, withFlagstone} {
			a.job.Way = way
			if way == withFlagstone {
				a.cache, a.early = cache, max(1, f.Distinct/(5*workers)) // while the others have work to do
			}
			if err := f.do(ctx, a, p); err != nil {
				return err
			}
		}
		return f.inspect(ctx, cache, t, p)
	})
	if err == nil {
		err = f.grow(ctx, s, exe, p)
	}
	f.Total = time.Since(f.began)
	return f, err
}

// grow plays the second act, on the source of the same packages.
func (f *figures) grow(ctx context.Context, s settings, exe []string, p *progress) (err error) {
	act := second{
		settings: s, exe: exe, tree: newTree(f.GOROOT), tell: p, pace: min(secondPace, s.budget/10),
		paths: shuffled(f.all.paths(), f.Seed, workers+2),
	}
	// As many packages as the blocks need: every reader reads them.
	for n, bytes := 0, int64(0); n < len(act.paths); n++ {
		if bytes += f.all[act.paths[n]].bytes; bytes > mostBlocks*blockSize {
			act.paths = act.paths[:n+1]
			break
		}
	}
	f.Growth, err = act.run(ctx)
	return err
}

// plan chooses the roots, n of them or as many as fit the budget, and returns each
// worker's order.
func (f *figures) plan(ctx context.Context, a assignment, t tree, n int, budget time.Duration, p *progress) (roots [workers][]string, err error) {
	all, err := t.catalogue()
	if err != nil {
		return roots, err
	}
	if len(all) == 0 {
		return roots, fmt.Errorf("no Go packages in %s", t.src)
	}
	p.say("%d packages in %s", len(all), t.src)
	f.all = all
	order := shuffled(all.paths(), f.Seed, 0)
	rate, err := calibrate(ctx, a, all, order)
	if err != nil {
		return roots, err
	}
	spent := time.Since(f.began)
	chosen := choose(all, order, n, rate, time.Duration(marginShare*float64(budget))-spent)
	f.Packages, f.Roots, f.Distinct, f.Needs = len(all), len(chosen.roots), chosen.distinct, chosen.needs
	f.Expected = spent + chosen.expected
	p.say("%d root packages, which need %d packages; expected to take %s", f.Roots, f.Distinct, seconds(f.Expected))
	return orders(chosen.roots, f.Seed), nil
}

// do does the job one way and notes the outcome.
func (f *figures) do(ctx context.Context, a assignment, p *progress) error {
	a.tell = func(done, computed int) {
		p.update("%s: %d of %d roots, %d computations", a.job.Way, done, workers*f.Roots, computed)
	}
	o, err := a.run(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", a.job.Way, err)
	}
	o.Duplicates = o.Computations - f.Distinct
	f.Ways = append(f.Ways, &o)
	p.say("%s: %s, %d computations", o.Way, seconds(o.Wall), o.Computations)
	return nil
}

// withCache calls use with the cache of the third way.
func (s settings) withCache(ctx context.Context, use func(name string, cache *flagstone.Cache) error) error {
	return s.make(ctx, flagstone.Options{
		Dir: s.dir, Size: cacheSize, CellSize: cellSize, MaxKey: maxKey, MaxValue: maxValue, Shards: shards,
	}, use)
}

// make calls use with a new cache, which is gone afterwards.
func (s settings) make(ctx context.Context, o flagstone.Options, use func(name string, cache *flagstone.Cache) error) (err error) {
	name := "demo-" + strings.ToLower(rand.Text()[:10])
	cache, err := flagstone.Open(ctx, name, modest(o))
	if err != nil {
		// The domain may be there though its cache is not.
		return errors.Join(fmt.Errorf("make the cache (--dir chooses another place): %w", err), remove(s.dir, name))
	}
	defer func() {
		err = errors.Join(err, cache.Close(), remove(s.dir, name))
	}()
	return use(name, cache)
}

// remove destroys the demo's domain, also after an interrupt.
func remove(dir, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := flagstone.Destroy(ctx, dir, name); err != nil && !errors.Is(err, flagstone.ErrNotFound) {
		return err
	}
	return nil
}

// inspect tells the story of the kill, and looks at the cache that is left.
func (f *figures) inspect(ctx context.Context, cache *flagstone.Cache, t tree, p *progress) error {
	o := f.Ways[len(f.Ways)-1]
	st, err := cache.Stats()
	if err != nil {
		return err
	}
	f.Kill = story{
		Death: o.death, Replacement: o.replacement, Survivors: o.survivors,
		Steals: st.Steals, Rebuilds: st.Rebuilds, Dropped: st.Dropped,
	}
	f.Cache = slabFigures{
		FileSize: st.FileSize, Shards: st.Geometry.Shards, Records: st.Records, Bytes: st.Bytes,
		Sets: st.Sets, Evicted: st.EvictedFull,
	}
	f.Sample, err = compare(ctx, cache, t, f.Seed, func(done, of int) { p.update("compared %d of %d values", done, of) })
	if err != nil {
		return err
	}
	if f.Problems, err = cache.Check(ctx); err != nil {
		return err
	}
	p.say("%d values compared, %d differ; %d problems in the cache", f.Sample.Values, len(f.Sample.Different), len(f.Problems))
	return nil
}

// findGo returns the toolchain whose source is read.
func (s settings) findGo(ctx context.Context) (string, error) {
	candidates := []string{s.goroot}
	if s.goroot == "" {
		out, _ := exec.CommandContext(ctx, "go", "env", "GOROOT").Output() // build.Default knows it too, perhaps
		candidates = []string{strings.TrimSpace(string(out)), build.Default.GOROOT}
	}
	for _, c := range candidates {
		if info, err := os.Stat(filepath.Join(c, "src")); c != "" && err == nil && info.IsDir() {
			return filepath.Abs(c)
		}
	}
	return "", fmt.Errorf("no Go source in %q: give the toolchain's directory with --goroot", candidates)
}
