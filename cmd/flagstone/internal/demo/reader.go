package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/signal"
)

// hears is how a reader of the second act is to hear of slabs that come and go.
type hears string

const (
	bySignal hears = "signal"
	byFutex  hears = "futex"
	byPoll   hears = "poll"
	byMiss   hears = "miss"
)

// readers of the second act, one for each way.
var ways = []hears{bySignal, byFutex, byPoll, byMiss}

// wake is how the handle of such a reader is woken. The last two are not: a handle
// that is in use looks for itself every 10 ms, and at the end of each lookup that is
// about to miss.
func (h hears) wake() signal.Options {
	switch h {
	case bySignal:
		return signal.Options{Mode: signal.ModeSignal}
	case byFutex:
		return signal.Options{Mode: signal.ModeFutex}
	}
	return signal.Options{Mode: signal.ModePoll, Poll: time.Hour}
}

// reader looks up keys that must be there, and says what it hears of slabs.
type reader struct {
	part
	out    *sender
	cache  *flagstone.Cache
	blocks []digest
	reach  atomic.Int64 // the first so many must be there
	tally  tally
	buf    []byte
}

func (r *reader) run(in *json.Decoder) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	all, err := newTree(r.GOROOT).blocks(ctx, r.Paths, r.Blocks)
	if err != nil {
		return err
	}
	r.blocks = digests(all)
	// Without promotion the drain has something to move in the end.
	o := flagstone.Options{Dir: r.Dir, MustExist: true, NoPromotion: true, Wake: r.Hears.wake(), OnEvent: r.hear}
	if r.cache, err = flagstone.Open(ctx, r.Domain, modest(o)); err != nil {
		return err
	}
	defer r.cache.Close()
	if err := r.out.send(event{Ready: true}); err != nil {
		return err
	}
	go func() {
		defer cancel() // the parent has hung up
		for {
			var o order
			if in.Decode(&o) != nil {
				return
			}
			if o.Reach != nil {
				r.reach.Store(int64(*o.Reach))
			}
		}
	}()
	if err := r.look(ctx); err != nil {
		return err
	}
	st, err := r.cache.Stats()
	if err != nil {
		return err
	}
	for _, hits := range st.Own.TierHits[1:] {
		r.tally.Below += hits
	}
	return r.out.send(event{Tally: &r.tally})
}

// hear tells the parent of a slab that came or went.
func (r *reader) hear(e flagstone.Event) {
	at := now()
	if e.Kind == flagstone.EventSlabAdded || e.Kind == flagstone.EventSlabGone {
		_ = r.out.send(event{Heard: &heard{Slab: e.Slab, Gone: e.Kind == flagstone.EventSlabGone, How: e.How.String(), At: at}})
	}
}

// A reader's pace: so many lookups, then a rest, so that the processes fit few
// processors.
const (
	lookups = 50
	rest    = time.Millisecond
)

// look looks up what must be there, in no order, until ctx ends.
func (r *reader) look(ctx context.Context) error {
	random := rand.New(rand.NewPCG(r.Seed, 0))
	for last := 0; ctx.Err() == nil; time.Sleep(rest) {
		n := int(r.reach.Load())
		if n != last {
			if err := r.out.send(event{Reached: &n}); err != nil {
				return err
			}
			last = n
		}
		for range min(n, lookups) {
			if err := r.get(&r.blocks[random.IntN(n)]); err != nil {
				return err
			}
		}
		if r.Hears == byMiss {
			if _, ok, err := r.cache.Get(nil, fmt.Append(nil, "absent:", random.Uint64())); ok || err != nil && !errors.Is(err, flagstone.ErrBusy) {
				return fmt.Errorf("a key that never was is there: %v, %w", ok, err)
			}
		}
	}
	return nil
}

// get looks up a block that must be there. ErrBusy is no answer: it asks again.
func (r *reader) get(b *digest) error {
	start := now()
	for {
		value, ok, err := r.cache.Get(r.buf[:0], b.key)
		took := time.Duration(now() - start)
		if errors.Is(err, flagstone.ErrBusy) && took < patience {
			r.tally.Busy++
			time.Sleep(rest / 10)
			continue
		}
		if err != nil {
			return fmt.Errorf("get %s: %w", b.key, err)
		}
		r.tally.Slowest = max(r.tally.Slowest, took)
		r.buf = value
		switch {
		case !ok:
			r.tally.Misses++
		case xxh3.Hash(value) != b.sum:
			r.tally.Wrong++
		default:
			r.tally.Hits++
			return nil
		}
		if r.tally.First == "" {
			r.tally.First = string(b.key)
		}
		return nil
	}
}
