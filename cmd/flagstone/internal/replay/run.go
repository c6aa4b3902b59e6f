package replay

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/table"
)

// Run is one replay to be done.
type Run struct {
	Dir        string // of the temporary domain
	Input      Input
	Requests   uint64 // of the whole trace
	Contiguous bool
	Options    flagstone.Options
	ValueSize  int
	Command    []string // starts a worker process, which calls Work
	Procs      int
	Progress   func(requests uint64) // called from one goroutine
}

// Result is what a replay measured.
type Result struct {
	Workers []Tally
	Stats   flagstone.Stats // at the end
	Table   table.Geometry
	Wall    time.Duration // from the start signal until the last process was done
}

// Total sums the workers' figures.
func (r Result) Total() (sum Tally) {
	for _, w := range r.Workers {
		sum.Requests += w.Requests
		sum.Hits += w.Hits
		sum.Unsure += w.Unsure
		sum.Nanos += w.Nanos
	}
	return sum
}

// Do makes a domain, lets the worker processes replay through it, and destroys
// it, also when ctx ends before.
func (r Run) Do(ctx context.Context) (result Result, err error) {
	name := fmt.Sprintf("replay-%d-%s", os.Getpid(), strings.ToLower(rand.Text()[:8]))
	r.Options.Dir = r.Dir
	r.Options.Regions = r.Procs + 8 // ours, and some for those who look on
	r.Options.Steward.Off = true    // the order alone is to decide
	cache, err := flagstone.Open(ctx, name, r.Options)
	if err != nil {
		return result, err
	}
	defer func() {
		err = errors.Join(err, cache.Close(), flagstone.Destroy(context.WithoutCancel(ctx), r.Dir, name))
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var workers []*worker
	defer func() {
		if err != nil {
			cancel() // kills those that are not done
		}
		for _, w := range workers {
			if e := w.wait(); err == nil {
				err = e
			}
		}
	}()
	for i := range r.Procs {
		w, err := r.start(ctx, Job{
			Dir: r.Dir, Name: name, Input: r.Input, Requests: r.Requests, Contiguous: r.Contiguous,
			ValueSize: r.ValueSize, Worker: i, Workers: r.Procs,
		})
		if err != nil {
			return result, err
		}
		workers = append(workers, w)
	}
	for _, w := range workers {
		if _, err := w.expect(func(m message) bool { return m.Ready }); err != nil {
			return result, err
		}
	}
	if result.Workers, result.Wall, err = r.race(workers); err != nil {
		return result, err
	}
	result.Table = cache.Table().Geometry()
	result.Stats, err = cache.Stats()
	return result, err
}

// race lets all workers go and gathers what they did.
func (r Run) race(workers []*worker) (tallies []Tally, wall time.Duration, err error) {
	tallies = make([]Tally, len(workers))
	failures := make([]error, len(workers))
	progress := make(chan uint64)
	var running sync.WaitGroup
	start := time.Now()
	for i, w := range workers {
		running.Go(func() {
			if failures[i] = json.NewEncoder(w.in).Encode(start); failures[i] != nil {
				return
			}
			var last uint64
			m, err := w.expect(func(m message) bool {
				progress <- m.Requests - last
				last = m.Requests
				return m.Done != nil
			})
			if failures[i] = err; err == nil {
				tallies[i] = *m.Done
			}
		})
	}
	go func() {
		running.Wait()
		wall = time.Since(start)
		close(progress)
	}()
	var done uint64
	for n := range progress {
		done += n
		r.Progress(done)
	}
	return tallies, wall, errors.Join(failures...)
}

// worker is the parent's end of a worker process.
type worker struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *json.Decoder
	stderr strings.Builder
}

func (r Run) start(ctx context.Context, job Job) (*worker, error) {
	w := &worker{cmd: exec.CommandContext(ctx, r.Command[0], r.Command[1:]...)}
	w.cmd.Stderr = &w.stderr
	in, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	w.in, w.out = in, json.NewDecoder(out)
	return w, json.NewEncoder(in).Encode(job)
}

// expect reads messages until one is as wanted.
func (w *worker) expect(wanted func(message) bool) (message, error) {
	for {
		var m message
		if err := w.out.Decode(&m); err != nil {
			return m, fmt.Errorf("worker process %d ended early: %w", w.cmd.Process.Pid, err)
		}
		if m.Error != "" {
			return m, fmt.Errorf("worker process %d: %s", w.cmd.Process.Pid, m.Error)
		}
		if wanted(m) {
			return m, nil
		}
	}
}

func (w *worker) wait() error {
	_ = w.in.Close() // a worker that still runs ends
	if err := w.cmd.Wait(); err != nil {
		return fmt.Errorf("worker process: %w: %s", err, strings.TrimSpace(w.stderr.String()))
	}
	return nil
}
