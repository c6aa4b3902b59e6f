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
	"strings"
	"syscall"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// options are the flags, and what a contestant needs to know.
type options struct {
	Entries   int           `json:"entries"`
	Pairs     int           `json:"pairs"`
	Chunk     time.Duration `json:"chunk_ns"`
	Seed      uint64        `json:"seed"`
	Precision time.Duration `json:"precision_ns"`
	Dir       string        `json:"dir"`
	Domain    string        `json:"domain"`
	Shape     shape         `json:"-"` // of the caches that are measured
	Attach    bool          `json:"-"` // the domain is there
}

// fewest is for how many entries every part of the program has a record or two.
const fewest = 1000

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch role := strings.Join(os.Args[1:], " "); role {
	case workerArg:
		err = serve(ctx, os.Stdin, os.Stdout)
	case sleeperArg:
		err = sleep(ctx, os.Stdin, os.Stdout)
	case holderArg:
		err = hold(ctx, os.Stdin, os.Stdout)
	case witnessArg:
		err = witness(ctx, os.Stdin, os.Stdout)
	default:
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
func bench(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	o := options{Domain: fmt.Sprintf("bench-%016x", rand.Uint64())}
	flags.IntVar(&o.Entries, "entries", 1_000_000, "records in a cache, from which the smaller and larger ones follow")
	flags.IntVar(&o.Pairs, "pairs", 40, "rounds per measurement, in each of which every contestant runs once")
	flags.DurationVar(&o.Chunk, "chunk", 100*time.Millisecond, "how long a contestant runs in a round")
	flags.Uint64Var(&o.Seed, "seed", 1, "of keys, order and intervals")
	flags.DurationVar(&o.Precision, "precision", flagstone.DefaultPrecision, "how exactly Flagstone knows last uses")
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
	if o.Entries < fewest || o.Pairs < 1 || o.Chunk <= 0 || flags.NArg() > 0 {
		return fmt.Errorf("entries are to be %d or more, pairs and chunk positive, and there are no arguments", fewest)
	}
	acts := selected(program(o.Entries), pattern)
	if len(acts) == 0 {
		return fmt.Errorf("no measurement matches %q", *only)
	}

	s := &session{options: o, rand: rand.New(rand.NewPCG(o.Seed, 0xbe)), report: &report{Header: newHeader(o)}}
	if o.Pairs < 30 {
		s.report.Notes = append(s.report.Notes, "fewer than 30 rounds: a trial of the program, not a measurement")
	}
	s.report.Header.write(out)
	for _, a := range acts {
		if err := s.run(ctx, a); err != nil {
			return fmt.Errorf("%v: %w", a.shape, err)
		}
	}
	if *file != "" {
		if err := s.report.writeJSON(*file); err != nil {
			return err
		}
	}
	return s.report.table(out)
}

func progress(what ...any) { fmt.Fprintln(os.Stderr, append([]any{"..."}, what...)...) }
