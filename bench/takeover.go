package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
	"github.com/flagstone-shm/flagstone/table"
)

// takeover measures how long it is from the moment at which the kernel releases the
// lease of a process that is killed with a shard's lock until another one's Set to
// that shard is acknowledged, against a rebuild of that shard with nobody dead; and
// what readers and writers of a third process see of it.
type takeover struct{}

func (takeover) title() string    { return "takeover" }
func (takeover) rivals() []string { return nil }

// brokenShard is the one whose lock the dead leave.
const brokenShard = 0

// Entrants.
const (
	setWaits    = iota // the Set is there before the death
	setComes           // and after it
	bareRebuild        // the lock is free, and marked as inconsistent
	nothing            // for as long as the newest takeover took
)

func (k takeover) run(ctx context.Context, s *session, st *stage) (err error) {
	w, err := openWake(st)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if w.shards == 1 {
		return nil // so small that there are no others to look at
	}
	lasted := s.Chunk
	rounds, err := s.compete(ctx, k.title(), st.Shape, []entrant{
		setWaits: {"flagstone, waiting", func(int, time.Duration) (done chunk, err error) {
			start := time.Now()
			done, err = w.watched(func() (int64, error) { return w.kill(ctx, true) })
			lasted = time.Since(start)
			return done, err
		}},
		setComes: {"flagstone, coming", func(int, time.Duration) (chunk, error) {
			return w.watched(func() (int64, error) { return w.kill(ctx, false) })
		}},
		bareRebuild: {"bare rebuild", func(int, time.Duration) (chunk, error) {
			return w.watched(func() (int64, error) { return w.rebuild(ctx) })
		}},
		nothing: {"quiet", func(int, time.Duration) (chunk, error) {
			return w.watched(func() (int64, error) { time.Sleep(lasted); return lasted.Nanoseconds(), nil })
		}},
	})
	if err != nil {
		return err
	}
	micros := func(e int) []float64 {
		return column(rounds, e, func(c chunk) float64 { return float64(c.Nanos) / 1e3 })
	}
	bare := micros(bareRebuild)
	for e, name := range []string{setWaits: "a waiting Set", setComes: "a Set that comes"} {
		own := micros(e)
		s.add(row{
			Measurement: k.title() + ", lease free to " + name, Shape: st.Shape, Unit: "us", Rival: "bare rebuild",
		}, own, bare, quotients(own, bare))
	}
	for _, seen := range []struct {
		name string
		of   func(*sights) latency
	}{
		{"readers of the shard", func(v *sights) latency { return v.Shard }},
		{"readers of others", func(v *sights) latency { return v.Gets }},
		{"writers of others", func(v *sights) latency { return v.Sets }},
	} {
		p99 := func(c chunk) float64 { return seen.of(c.Sights).P99 }
		own, theirs := column(rounds, setWaits, p99), column(rounds, nothing, p99)
		s.add(row{
			Measurement: k.title() + ", p99 of " + seen.name, Shape: st.Shape, Unit: "ns", Rival: "quiet",
		}, own, theirs, quotients(own, theirs))
	}
	var busy, lookups int
	for _, r := range rounds {
		busy, lookups = busy+r.Chunks[setWaits].Sights.Busy, lookups+r.Chunks[setWaits].Sights.Shard.Lookups
	}
	s.report.Notes = append(s.report.Notes, fmt.Sprintf(
		"takeover: a shard of %d records; a waiter asks for its owner after a nap of 1 ms, then 2, then 4, which is in the time; "+
			"of %d lookups in the shard meanwhile %d were ErrBusy", st.Shape.Entries/w.shards, lookups, busy))
	return nil
}

// wake is what a takeover takes place in: the survivor, and a witness.
type wake struct {
	cache   *flagstone.Cache
	segment *shm.Segment // the shard's, mapped beside the cache's own mapping
	entry   table.Entry
	shard   *layout.Shard
	shards  int
	key     []byte // in the shard
	value   []byte
	place   place
	witness *worker
}

// place is what holders and witnesses read first.
type place struct {
	Dir, Domain string
	Shape       shape
}

func openWake(st *stage) (w *wake, err error) {
	w = &wake{cache: st.caches[subject].(*stone).cache, place: place{st.Dir, st.Domain, st.Shape}}
	if w.segment, w.entry, w.shard, w.shards, err = mapShard(w.cache); err != nil {
		return nil, err
	}
	records, _ := divide(w.cache, w.shards, st.Shape)
	w.key, w.value = records.key(0), records.value(0)
	if w.witness, err = startAt(witnessArg, w.place); err != nil {
		return nil, errors.Join(err, w.release())
	}
	return w, nil
}

func (w *wake) close() error { return errors.Join(w.witness.close(), w.release()) }

func (w *wake) release() error {
	w.cache.Table().Detach(w.entry.SegmentID)
	return w.segment.Close()
}

// mapShard maps the cache's first slab once more, to get at a shard's words.
func mapShard(c *flagstone.Cache) (seg *shm.Segment, e table.Entry, sh *layout.Shard, shards int, err error) {
	tiers, err := c.Tiers()
	if err != nil {
		return nil, e, nil, 0, err
	}
	e = entryOf(c.Table(), tiers[0].ID())
	if seg, err = c.Table().Attach(e); err != nil {
		return nil, e, nil, 0, err
	}
	h := shm.At[layout.SlabHeader](seg.Window(), 0)
	sh = shm.At[layout.Shard](seg.Window(), h.ShardOffset.Load()+brokenShard*h.ShardStride.Load())
	return seg, e, sh, int(h.Shards.Load()), nil
}

// most is how many records a witness looks at in the shard, and elsewhere.
const most = 4096

// divide returns some records of the shard, and some of others.
func divide(c *flagstone.Cache, shards int, sh shape) (inside, outside stream) {
	var in, out []uint32
	for id := range uint32(sh.Entries) {
		one := newStream([]uint32{id}, sh.Value)
		switch {
		case c.HashOf(one.key(0))%uint64(shards) != brokenShard:
			if len(out) < most {
				out = append(out, id)
			}
		case len(in) < most:
			in = append(in, id)
		}
		if len(in) == most && len(out) == most {
			break
		}
	}
	return newRecords(in, sh.Value), newRecords(out, sh.Value)
}

// startAt starts a process that reads a place, and waits until it is ready.
func startAt(arg string, at place) (*worker, error) {
	w, err := start(arg)
	if err != nil {
		return nil, err
	}
	var ready answer
	if err = w.commands.Encode(at); err == nil {
		err = w.answers.Decode(&ready)
	}
	if err == nil && ready.Error != "" {
		err = errors.New(ready.Error)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", arg, err), w.close())
	}
	return w, nil
}

// watched lets the witness look while f runs.
func (w *wake) watched(f func() (nanos int64, err error)) (chunk, error) {
	if err := w.witness.commands.Encode(command{}); err != nil {
		return chunk{}, err
	}
	nanos, err := f()
	if err := errors.Join(err, w.witness.commands.Encode(command{Op: stop})); err != nil {
		return chunk{}, err
	}
	var seen answer
	err = w.witness.answers.Decode(&seen)
	if err == nil && seen.Error != "" {
		err = errors.New(seen.Error)
	}
	seen.Chunk.Nanos, seen.Chunk.Keys = nanos, 1
	return seen.Chunk, err
}

// kill lets a process take the shard's lock, kills it, and returns how long it is
// from the end of its lease until a Set is done, which begins before the death, or
// after it.
func (w *wake) kill(ctx context.Context, before bool) (nanos int64, err error) {
	holder, err := startAt(holderArg, w.place)
	if err != nil {
		return 0, err
	}
	defer func() {
		_ = holder.stdin.Close()
		_ = holder.cmd.Wait() // says that it was killed
	}()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	token := w.shard.Lock.Load() &^ layout.LockFlagMask
	done := make(chan int64, 1)
	set := func() {
		if err = w.cache.Set(ctx, w.key, w.value, flagstone.NoExpiry); err == nil {
			done <- monotonic()
		}
		close(done)
	}
	if before {
		go set()
		for w.shard.Lock.Load()&layout.LockWaiters == 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(rand.N(8 * time.Millisecond)) // anywhere in its naps
	}
	if err := holder.cmd.Process.Kill(); err != nil {
		return 0, err
	}
	// The lease ends between two looks: counted is from the last that found it held.
	t, start := w.cache.Table(), monotonic()
	for now := start; !t.Dead(token) && ctx.Err() == nil; now = monotonic() {
		start = now
		time.Sleep(10 * time.Microsecond)
	}
	if !before {
		set()
	}
	end, ok := <-done
	if !ok {
		return 0, err
	}
	return end - start, nil
}

// rebuild marks the free lock as inconsistent and returns how long a Set takes then,
// nearly all of which is the rebuild.
func (w *wake) rebuild(ctx context.Context) (nanos int64, err error) {
	for !w.shard.Lock.CompareAndSwap(0, layout.LockInconsistent) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		time.Sleep(10 * time.Microsecond) // the witness promotes
	}
	start := monotonic()
	err = w.cache.Set(ctx, w.key, w.value, flagstone.NoExpiry)
	return monotonic() - start, err
}

// Arguments that make this program a holder, a witness.
const (
	holderArg  = "holder"
	witnessArg = "witness"
)

// open opens the place's cache, as one of its processes.
func (p place) open(ctx context.Context) (*flagstone.Cache, error) {
	return flagstone.Open(ctx, p.Domain, flagstone.Options{Dir: p.Dir, MustExist: true, Steward: flagstone.StewardOptions{Off: true}})
}

// hold is a holder's life: it takes the shard's lock and is killed.
func hold(ctx context.Context, in io.Reader, out io.Writer) error {
	var p place
	if err := json.NewDecoder(in).Decode(&p); err != nil {
		return fmt.Errorf("read place: %w", err)
	}
	c, err := p.open(ctx)
	if err != nil {
		return err
	}
	_, _, sh, _, err := mapShard(c)
	if err == nil {
		_, err = lock.New(&sh.Lock, &sh.Futex, c.Table(), new(lock.Counters)).Lock(ctx)
	}
	if err := json.NewEncoder(out).Encode(answerOf(chunk{}, err)); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in) // for ever
	return err
}

// sights is what a witness saw: times of lookups in the shard and elsewhere, and of
// stores elsewhere; how many lookups in the shard were ErrBusy.
type sights struct {
	Shard latency `json:"shard"`
	Gets  latency `json:"gets"`
	Sets  latency `json:"sets"`
	Busy  int     `json:"busy"`
}

// witness is a witness's life: from one command to the next it looks up and stores.
func witness(ctx context.Context, in io.Reader, out io.Writer) error {
	decoder, answers := json.NewDecoder(in), json.NewEncoder(out)
	var p place
	if err := decoder.Decode(&p); err != nil {
		return fmt.Errorf("read place: %w", err)
	}
	c, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	seg, e, _, shards, err := mapShard(c)
	if err != nil {
		return err
	}
	c.Table().Detach(e.SegmentID)
	if err := seg.Close(); err != nil {
		return err
	}
	inside, outside := divide(c, shards, p.Shape)
	if err := answers.Encode(answer{}); err != nil {
		return err
	}
	commands, failed := make(chan command, 1), make(chan error, 1)
	go func() {
		defer close(commands)
		failed <- receiveAll(decoder, commands)
	}()
	for range commands {
		seen, err := look(ctx, c, inside, outside, commands)
		<-commands // the one that ends it
		if err := answers.Encode(answerOf(chunk{Sights: seen}, err)); err != nil {
			return err
		}
	}
	return <-failed
}

// look takes the time of one lookup and store after the other until a command comes.
func look(ctx context.Context, c *flagstone.Cache, inside, outside stream, until <-chan command) (*sights, error) {
	seen, dst := &sights{}, make([]byte, 0, inside.size)
	var times [3][]time.Duration
	for i := 0; len(until) == 0 || i < batchSize; i++ {
		start := time.Now()
		_, ok, err := c.Get(dst, inside.key(i%inside.len()))
		first := time.Now()
		switch {
		case errors.Is(err, flagstone.ErrBusy):
			seen.Busy++
		case err != nil || !ok:
			return nil, fmt.Errorf("record of the shard is there: %v, %w", ok, err)
		}
		if _, ok, err = c.Get(dst, outside.key(i%outside.len())); err != nil || !ok {
			return nil, fmt.Errorf("record of another shard is there: %v, %w", ok, err)
		}
		second := time.Now()
		n := (i + outside.len()/2) % outside.len()
		if err := c.Set(ctx, outside.key(n), outside.value(n), flagstone.NoExpiry); err != nil {
			return nil, err
		}
		times[0], times[1], times[2] = append(times[0], first.Sub(start)), append(times[1], second.Sub(first)), append(times[2], time.Since(second))
	}
	seen.Shard, seen.Gets, seen.Sets = latencyOf(times[0]), latencyOf(times[1]), latencyOf(times[2])
	return seen, nil
}
