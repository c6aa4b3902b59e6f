package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/flagstone-shm/flagstone"
)

// memoryLimit keeps four workers and the parent far below 4 GiB.
const memoryLimit = 640 << 20

// Prefixes of the keys.
const (
	summaryKey = "doc:" // a package's documentation summary
	textKey    = "src:" // a package's source text
	errandKey  = "errand:"
)

// errGone says that the parent is no longer there.
var errGone = errors.New("the parent is gone")

// worker is one of the processes that do the job.
type worker struct {
	job      job
	tree     tree
	store    store
	out      *sender
	computed int
	killed   killed // written by listen, read after it ended
	errands  sync.WaitGroup
}

// work is the main function of a worker process.
func work(in io.Reader, out io.Writer) error {
	signal.Ignore(os.Interrupt, syscall.SIGTERM) // the parent ends us
	debug.SetMemoryLimit(memoryLimit)
	words, answers := json.NewDecoder(in), newSender(out)
	if err := begin(words, answers); err != nil {
		_ = answers.send(event{Error: err.Error()})
		return err
	}
	return nil
}

// begin does what the first order says.
func begin(in *json.Decoder, out *sender) error {
	var first order
	err := in.Decode(&first)
	switch {
	case err == nil && first.Job != nil:
		w := &worker{job: *first.Job, out: out}
		return w.run(in)
	case err == nil && first.Part != nil && first.Part.Steward:
		return first.Part.lead(in, out)
	case err == nil && first.Part != nil:
		r := &reader{part: *first.Part, out: out}
		return r.run(in)
	}
	return fmt.Errorf("no job: %w", errors.Join(err, errGone))
}

func (w *worker) run(in *json.Decoder) error {
	w.tree = newTree(w.job.GOROOT)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)

	cache, err := w.open(ctx)
	if err != nil {
		return err
	}
	if cache != nil {
		defer cache.Close()
	}
	if err := w.out.send(event{Ready: true}); err != nil {
		return err
	}
	var start order
	if err := in.Decode(&start); err != nil || !start.Start {
		return fmt.Errorf("no start: %w", errors.Join(err, errGone))
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer cancel(errGone)
		w.listen(in)
	}()
	if err := w.doAll(ctx); err != nil {
		return err
	}
	if err := w.out.send(event{Finished: true}); err != nil {
		return err
	}
	<-over
	w.errands.Wait()
	var r report
	if s, ok := w.store.(*shared); ok {
		r.Waits = s.waits(w.killed)
	}
	return w.out.send(event{Report: &r})
}

// open makes the store. The cache is nil unless it is the third way.
func (w *worker) open(ctx context.Context) (*flagstone.Cache, error) {
	switch w.job.Way {
	case noCache:
		w.store = nothing{}
	case privateMaps:
		w.store = private{}
	case withFlagstone:
		cache, err := flagstone.Open(ctx, w.job.Domain, modest(flagstone.Options{Dir: w.job.Dir, MustExist: true}))
		if err != nil {
			return nil, err
		}
		st, err := cache.Stats()
		if err != nil {
			return nil, errors.Join(err, cache.Close())
		}
		w.store = &shared{cache: cache, shards: int(st.Geometry.Shards)}
		return cache, nil
	default:
		return nil, fmt.Errorf("unknown way %q", w.job.Way)
	}
	return nil, nil
}

// listen follows the parent's orders until it hangs up.
func (w *worker) listen(in *json.Decoder) {
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return
		}
		if o.Killed == nil {
			continue
		}
		w.killed = *o.Killed
		if s, ok := w.store.(*shared); ok {
			// Whoever survives has something to store where the victim died.
			w.errands.Go(func() {
				key := s.keyIn(w.killed.Shard, fmt.Sprint(errandKey, w.job.Worker, ":"))
				if err := s.set(key, []byte("here")); err != nil {
					_ = w.out.send(event{Error: err.Error()})
				}
			})
		}
	}
}

// doAll does the roots one by one. The victim turns to the archive once it has
// computed its number of summaries, at the latest before its last root is done.
func (w *worker) doAll(ctx context.Context) error {
	order := rand.New(rand.NewPCG(w.job.Seed, uint64(w.job.Worker)))
	var archive []string
	for i, root := range w.job.Roots {
		paths, digest, err := walk(root, order, func(path string) ([]byte, error) {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			archive = append(archive, path)
			if w.job.Archive != 0 && w.computed >= w.job.Archive {
				return nil, w.archive(ctx, archive)
			}
			return w.need(path)
		})
		if err == nil && w.job.Archive != 0 && i+1 == len(w.job.Roots) {
			err = w.archive(ctx, archive)
		}
		if err != nil {
			return err
		}
		if err := w.out.send(event{Root: &result{root, digest, len(paths)}}); err != nil {
			return err
		}
	}
	return nil
}

// need returns a package's summary: looked up, or computed and stored.
func (w *worker) need(path string) ([]byte, error) {
	s, ok, err := w.store.get(summaryKey + path)
	if ok || err != nil {
		return s, err
	}
	if s, err = w.tree.summary(path); err != nil {
		return nil, err
	}
	w.computed++
	if err := w.out.send(event{Computed: w.computed}); err != nil {
		return nil, err
	}
	return s, w.store.set(summaryKey+path, s)
}

// archive stores the source text of the packages too, again and again: large
// values, so that this worker is often inside Set. It ends with an error, or with
// the process.
func (w *worker) archive(ctx context.Context, paths []string) error {
	texts := map[string][]byte{}
	for _, path := range paths {
		if text, err := w.tree.text(path); err != nil {
			return err
		} else if len(text) <= maxValue {
			texts[path] = text
		}
	}
	if err := w.out.send(event{Archiving: true}); err != nil {
		return err
	}
	for ctx.Err() == nil {
		for path, text := range texts {
			if err := w.store.set(textKey+path, text); err != nil {
				return err
			}
		}
	}
	return context.Cause(ctx)
}
