// Command bench measures Flagstone side by side with what one would use instead:
// a Go map, otter, Redis. See README.md for how to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// options are the flags, and what a worker needs to know.
type options struct {
	Entries int           `json:"entries"`
	Pairs   int           `json:"pairs"`
	Chunk   time.Duration `json:"chunk_ns"`
	Seed    uint64        `json:"seed"`
	Dir     string        `json:"dir"`
	Domain  string        `json:"domain"`
	Attach  bool          `json:"attach,omitempty"` // the domain is there
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) == 2 && os.Args[1] == workerArg {
		err = serve(ctx, os.Stdin, os.Stdout)
	} else {
		err = bench(ctx, os.Args[1:], os.Stdout)
	}
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// bench runs what the flags select and prints the table.
func bench(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	o := options{Domain: fmt.Sprintf("bench-%016x", rand.Uint64())}
	flags.IntVar(&o.Entries, "entries", 1_000_000, "records in each cache")
	flags.IntVar(&o.Pairs, "pairs", 40, "rounds per measurement, in each of which every contestant runs once")
	flags.DurationVar(&o.Chunk, "chunk", 100*time.Millisecond, "how long a contestant runs in a round")
	flags.Uint64Var(&o.Seed, "seed", 1, "of keys, order and intervals")
	flags.StringVar(&o.Dir, "dir", "/dev/shm", "directory of Flagstone's files")
	only := flags.String("only", "", "measure what matches this regular expression")
	file := flags.String("json", "", "write all figures of all rounds to this file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	if o.Entries < 1 || o.Pairs < 1 || o.Chunk <= 0 || flags.NArg() > 0 {
		return errors.New("entries, pairs and chunk are to be positive, and there are no arguments")
	}
	ms, ss := selected(pattern)
	if len(ms)+len(ss) == 0 {
		return fmt.Errorf("no measurement matches %q", *only)
	}

	s := &session{
		options: o, workload: newWorkload(o.Entries, o.Seed, 0), caches: make(map[string]cache),
		rand: rand.New(rand.NewPCG(o.Seed, 0xbe)), report: &report{Header: newHeader(o)},
	}
	if o.Pairs < 30 {
		s.report.Notes = append(s.report.Notes, "fewer than 30 rounds: a trial of the program, not a measurement")
	}
	s.report.Header.write(out)
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.run(ctx, ms, ss); err != nil {
		return err
	}
	if *file != "" {
		if err := s.report.writeJSON(*file); err != nil {
			return err
		}
	}
	return s.report.table(out)
}

func (s *session) run(ctx context.Context, ms []measurement, ss []scaling) error {
	if err := s.open(ctx, subject); err != nil {
		return err
	}
	for _, m := range ms {
		for _, c := range m.against {
			if err := s.open(ctx, c.rival); err != nil {
				return err
			}
		}
	}
	for _, m := range ms {
		progress(m.name)
		if err := s.measure(ctx, m); err != nil {
			return err
		}
	}
	if len(ss) == 0 {
		return nil
	}
	progress("start processes")
	c, err := startCrew(s.options)
	if err != nil {
		return err
	}
	for _, sc := range ss {
		progress(sc.name)
		if err := s.scale(ctx, c, sc); err != nil {
			return errors.Join(err, c.close())
		}
	}
	return c.close()
}

// open makes a contestant and fills it, unless it is there already.
func (s *session) open(ctx context.Context, name string) error {
	if _, ok := s.caches[name]; ok {
		return ctx.Err()
	}
	progress("fill " + name)
	c, err := makers[name](ctx, s.options)
	if errors.Is(err, errNoRedis) {
		s.caches[name] = nil
		s.report.Notes = append(s.report.Notes, "left out: "+err.Error())
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	s.caches[name] = c
	return fill(name, c, s.workload)
}

func (s *session) close() (err error) {
	for _, c := range s.caches {
		if c != nil {
			err = errors.Join(err, c.close())
		}
	}
	return err
}

func progress(what string) { fmt.Fprintln(os.Stderr, "...", what) }
