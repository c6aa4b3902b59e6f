package hostile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// exported are the errors that operations may return when somebody writes nonsense.
var exported = []error{
	flagstone.ErrBusy, flagstone.ErrFull, flagstone.ErrCorrupt, flagstone.ErrLost, flagstone.ErrDestroyed, flagstone.ErrClosed,
	flagstone.ErrRetired, flagstone.ErrState, flagstone.ErrUnattached, flagstone.ErrNotFound, flagstone.ErrNoRegion, flagstone.ErrNoSpace,
	flagstone.ErrNoSlab, flagstone.ErrSlabExists, flagstone.ErrBudget, flagstone.ErrTooLarge, flagstone.ErrNotCounter, flagstone.ErrOverflow,
	flagstone.ErrClaimLost, flagstone.ErrLoad, flagstone.ErrClaimed, flagstone.ErrExists, flagstone.ErrNotHeld, flagstone.ErrStaleBoot,
	flagstone.ErrForeign,
	table.ErrFormat, table.ErrNoEntry, table.ErrTooManyMapped, table.ErrTooManyHeld, table.ErrSegmentSize, table.ErrNoMutex, table.ErrUnsafeFile,
	slab.ErrNotInStack, slab.ErrShape, signal.ErrNotSent,
	fs.ErrNotExist, // the file that an entry names
}

// Typed reports whether an error is none or one of those. A fault is not: no file is
// truncated here.
func Typed(err error) bool {
	return err == nil || !errors.Is(err, shm.ErrBounds) && !errors.Is(err, flagstone.ErrFault) && kind(err) != nil
}

// kind returns which of the exported errors it is.
func kind(err error) error {
	for _, e := range exported {
		if errors.Is(err, e) {
			return e
		}
	}
	return nil
}

const (
	// An operation ends this long after its deadline at most, on a machine as busy as
	// tests are run on.
	bound    = 20 * time.Second
	deadline = 500 * time.Millisecond
	// What a worker may have on its heap.
	mostHeap = 1 << 30
)

// Shards is how many the cache has that Cache asks for.
const Shards = 4

// Cache is what workers open. It grows and shrinks.
func Cache(dir string) flagstone.Options {
	o := flagstone.Options{Dir: dir, Entries: 800, Shards: Shards, MaxKey: 64, MaxValue: 4000, Regions: 64}
	o.Steward.KeepFor, o.Steward.Budget = time.Second, 4<<20
	return o
}

// worker is one process's use of the cache.
type worker struct {
	dir    string
	name   string
	cache  atomic.Pointer[flagstone.Cache]
	opened sync.Mutex // guards reopening
	ops    atomic.Int64
	kinds  sync.Map // of errors, counted
	stop   context.Context
	last   atomic.Pointer[error] // of Open, if it failed last
	failed chan error
}

// Work is a worker's life until ctx ends: goroutines that do everything, each with a
// deadline. An error is a violation; a hang ends the process, and says so. It returns
// the number of operations, and in words what errors they came to.
func Work(ctx context.Context, dir, name string, seed uint64) (operations int64, said string, err error) {
	w := &worker{dir: dir, name: name, stop: ctx, failed: make(chan error, 100)}
	if err := w.reopen(nil); err != nil {
		return 0, "", err
	}
	var all sync.WaitGroup
	for g := range 3 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(g)))
			for ctx.Err() == nil && len(w.failed) == 0 {
				w.do(random)
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-tick.C:
			var m runtime.MemStats
			if runtime.ReadMemStats(&m); m.HeapInuse > mostHeap {
				return 0, "", fmt.Errorf("%d bytes on the heap", m.HeapInuse)
			}
		case err := <-w.failed:
			return 0, "", err
		case <-done:
			ended = true
		}
	}
	c := w.cache.Load()
	if err := w.bounded("close", c.Close); !Typed(err) {
		return 0, "", fmt.Errorf("close: %w", err)
	}
	if err := w.last.Load(); err != nil {
		said = fmt.Sprintf("in the end: %v", strings.ReplaceAll((*err).Error(), "\n", "; "))
	}
	w.kinds.Range(func(kind, n any) bool {
		said += fmt.Sprintf("; %d %v", n.(*atomic.Int64).Load(), kind)
		return true
	})
	return w.ops.Load(), said, nil
}

// bounded runs an operation and ends the process with all stacks if it does not end.
func (w *worker) bounded(what string, op func() error) error {
	hung := time.AfterFunc(deadline+bound, func() {
		fmt.Fprintln(os.Stderr, "hangs:", what)
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
		fmt.Println("violation: hangs:", what)
		os.Exit(1)
	})
	defer hung.Stop()
	return op()
}

// reopen replaces a handle that is of no use any more.
func (w *worker) reopen(old *flagstone.Cache) error {
	w.opened.Lock()
	defer w.opened.Unlock()
	if w.cache.Load() != old {
		return nil
	}
	if old != nil {
		if err := w.bounded("close", old.Close); !Typed(err) {
			return fmt.Errorf("close: %w", err)
		}
	}
	for w.stop.Err() == nil || old == nil {
		var c *flagstone.Cache
		err := w.bounded("open", func() (err error) {
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			c, err = flagstone.Open(ctx, w.name, Cache(w.dir))
			return err
		})
		if err == nil {
			w.cache.Store(c)
			w.last.Store(nil)
			return nil
		}
		if !Typed(err) {
			return fmt.Errorf("open: %w", err)
		}
		w.last.Store(&err)
		time.Sleep(time.Millisecond)
	}
	return nil // nobody opens the domain any more without `check --repair`
}

// do does one thing.
func (w *worker) do(random *rand.Rand) {
	c := w.cache.Load()
	what := random.IntN(len(everything))
	if random.IntN(4) > 0 {
		what = random.IntN(common) // those that take long come less often
	}
	op := everything[what]
	w.ops.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	err := w.bounded(op.name, func() error { return op.do(ctx, c, random) })
	if err != nil {
		n, _ := w.kinds.LoadOrStore(fmt.Sprint(kind(err)), new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
	}
	switch {
	case !Typed(err):
		w.failed <- fmt.Errorf("%s: %w", op.name, err)
	case errors.Is(err, flagstone.ErrLost), errors.Is(err, flagstone.ErrDestroyed), errors.Is(err, flagstone.ErrClosed):
		if err := w.reopen(c); err != nil {
			w.failed <- err
		}
	}
}

func key(random *rand.Rand) []byte { return fmt.Append(nil, "key", random.IntN(600)) }

func value(random *rand.Rand) []byte { return make([]byte, random.IntN(1<<random.IntN(12))) }

// common is how many of everything are what applications mostly do.
const common = 12

var everything = []struct {
	name string
	do   func(ctx context.Context, c *flagstone.Cache, r *rand.Rand) error
}{
	{"get", func(_ context.Context, c *flagstone.Cache, r *rand.Rand) error {
		_, _, err := c.Get(nil, key(r))
		return err
	}},
	{"get", func(_ context.Context, c *flagstone.Cache, r *rand.Rand) error {
		_, _, err := c.Get(make([]byte, 0, 5000), key(r))
		return err
	}},
	{"batch", func(_ context.Context, c *flagstone.Cache, r *rand.Rand) error {
		var b flagstone.Batch
		return c.GetBatch(&b, [][]byte{key(r), key(r), key(r)})
	}},
	{"set", func(ctx context.Context, c *flagstone.Cache, r *rand.Rand) error {
		return c.Set(ctx, key(r), value(r), time.Duration(r.IntN(3))*time.Minute)
	}},
	{"set", func(ctx context.Context, c *flagstone.Cache, r *rand.Rand) error {
		return c.Set(ctx, key(r), value(r), 0)
	}},
	{"delete", func(ctx context.Context, c *flagstone.Cache, r *rand.Rand) error {
		_, err := c.Delete(ctx, key(r))
		return err
	}},
	{"increment", func(ctx context.Context, c *flagstone.Cache, r *rand.Rand) error {
		_, err := c.Increment(ctx, fmt.Append(nil, "count", r.IntN(20)), 1, 0, 0)
		return err
	}},
	{"swap", func(ctx context.Context, c *flagstone.Cache, r *rand.Rand) error {
		k := key(r)
		it, ok, err := c.GetItem(nil, k)
		if ok {
			_, _, err = c.CompareAndSwap(ctx, k, it.Token, value(r), 0)
		}
		return err
	}},
	{"load", func(ctx context.Context, c *flagstone.Cache, r *rand.Rand) error {
		_, err := c.GetOrLoad(ctx, key(r), func(context.Context) (flagstone.Item, error) {
			return flagstone.Item{Value: value(r), TTL: time.Second}, nil
		})
		return err
	}},
	{"touch", func(ctx context.Context, c *flagstone.Cache, r *rand.Rand) error {
		_, err := c.Touch(ctx, key(r), time.Minute)
		return err
	}},
	{"namespace", func(ctx context.Context, c *flagstone.Cache, r *rand.Rand) error {
		n := c.Namespace(fmt.Sprint("space", r.IntN(3)))
		err := n.Set(ctx, key(r), value(r), 0)
		_, _, err2 := n.Get(nil, key(r))
		return errors.Join(err, err2)
	}},
	{"evict", func(ctx context.Context, c *flagstone.Cache, r *rand.Rand) error {
		_, err := c.EvictPairs(ctx, time.Duration(r.IntN(2))*time.Hour, 3)
		return err
	}},

	{"scan", func(ctx context.Context, c *flagstone.Cache, _ *rand.Rand) error {
		for _, err := range c.All(ctx) {
			if err != nil {
				return err
			}
		}
		return nil
	}},
	{"stats", func(_ context.Context, c *flagstone.Cache, _ *rand.Rand) error {
		_, err := c.Stats()
		_, err2 := c.TierStats()
		_, err3 := c.Len()
		return errors.Join(err, err2, err3)
	}},
	{"check", func(ctx context.Context, c *flagstone.Cache, _ *rand.Rand) error {
		_, err := c.Check(ctx)
		return err
	}},
	{"rebuild", func(ctx context.Context, c *flagstone.Cache, _ *rand.Rand) error { return c.Rebuild(ctx) }},
	{"grow", func(ctx context.Context, c *flagstone.Cache, _ *rand.Rand) error {
		tiers, err := c.Tiers()
		if err == nil && len(tiers) < 4 {
			_, err = c.Grow(ctx, "more", flagstone.Shape{})
		}
		return err
	}},
	{"drain", func(ctx context.Context, c *flagstone.Cache, _ *rand.Rand) error {
		tiers, err := c.Tiers()
		if err == nil && len(tiers) > 2 {
			_, err = tiers[len(tiers)-1].Drain(ctx)
		}
		return err
	}},
	{"move", func(ctx context.Context, c *flagstone.Cache, r *rand.Rand) error {
		tiers, err := c.Tiers()
		if err == nil && len(tiers) > 1 {
			from := r.IntN(len(tiers))
			_, err = c.Move(ctx, tiers[from], tiers[(from+1)%len(tiers)], 0, 10)
		}
		return err
	}},
	{"slab", func(ctx context.Context, c *flagstone.Cache, r *rand.Rand) error {
		name := fmt.Sprint("slab", r.IntN(2))
		s, err := c.OpenSlab(ctx, name)
		if errors.Is(err, flagstone.ErrNoSlab) {
			s, err = c.CreateSlab(ctx, name, flagstone.Shape{})
		}
		if err != nil {
			return err
		}
		err = errors.Join(s.Set(ctx, key(r), value(r), 0))
		if _, e := s.Lock(ctx); e == nil {
			err = errors.Join(err, s.Unlock(true))
		} else {
			err = errors.Join(err, e)
		}
		if r.IntN(4) == 0 {
			return errors.Join(err, s.Retire(ctx))
		}
		return errors.Join(err, s.Close())
	}},
	{"lock", func(ctx context.Context, c *flagstone.Cache, _ *rand.Rand) error {
		tiers, err := c.Tiers()
		if err != nil {
			return err
		}
		if _, err = tiers[0].LockWriters(ctx); err != nil {
			return err
		}
		return tiers[0].Unlock(true)
	}},
	{"watch", func(ctx context.Context, c *flagstone.Cache, _ *rand.Rand) error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		for range c.Watch(ctx) {
		}
		return nil
	}},
	{"peers", func(ctx context.Context, c *flagstone.Cache, r *rand.Rand) error {
		t := c.Table()
		t.Regions()
		t.Steward()
		t.Totals()
		for _, e := range t.Entries() {
			t.Pinners(e)
			t.Retired(e)
		}
		_, err := c.Holders()
		_, err2 := t.Reap()
		err3 := t.SetFlags(uint32(r.IntN(4)), uint32(r.IntN(4)))
		err4 := t.Ring(r.IntN(16), table.ReasonApplication)
		return errors.Join(err, err2, err3, err4)
	}},
	{"lead", func(ctx context.Context, c *flagstone.Cache, _ *rand.Rand) error {
		ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		return c.Lead(ctx)
	}},
	{"look", func(_ context.Context, c *flagstone.Cache, r *rand.Rand) error {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		home := filepath.Dir(c.Table().Dir()) // DIR/NAME.flagstone
		o := Cache(filepath.Dir(home))
		o.ReadOnly = true
		seen, err := flagstone.Open(ctx, c.Table().Name(), o)
		if err != nil {
			return err
		}
		_, _, err = seen.Get(nil, key(r))
		_, err2 := seen.Stats()
		return errors.Join(err, err2, seen.Close())
	}},
	{"exclusive", func(ctx context.Context, c *flagstone.Cache, _ *rand.Rand) error {
		return c.Table().Exclusive(ctx, func() error { return nil })
	}},
	{"clear", func(ctx context.Context, c *flagstone.Cache, r *rand.Rand) error {
		if r.IntN(10) > 0 {
			return c.Namespace("space1").Clear(ctx)
		}
		return c.Clear(ctx)
	}},
}
