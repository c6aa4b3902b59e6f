package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/table"
)

// The second act: a cache whose first slab is too small for what is stored in it. A
// steward adds a slab; four readers, who hear of it in different ways, go on looking up
// what must be there. Then most is deleted, the steward drains the slab, and is killed
// while it does; another goes on.

// The cache of the second act. A block takes one cell, whatever its key.
const (
	mostBlocks   = 4096
	growthShards = 4
	blockCell    = 4416
	// Of the blocks the first slab is for so many: a small one has twice the room, so that
	// no shard evicts too early, and yet some must go below.
	primaryShare = 0.4
	keptShare    = 0.30 // of them stay when the load drops
	pauseAt      = 0.93 // of a shard of the first slab: no more is stored until there is a second
	candidates   = 2    // processes that offer to be steward
)

// Bounds of what is waited for.
const (
	growWithin    = 10 * time.Second
	hearWithin    = 5 * time.Second
	drainWithin   = 30 * time.Second
	succeedWithin = 5 * time.Second
)

// second is the second act at work, seen from the parent.
type second struct {
	settings
	exe    []string
	tree   tree
	paths  []string
	pace   time.Duration // of storing all blocks
	tell   *progress
	name   string
	cache  *flagstone.Cache
	blocks []block
	// perShard is how many blocks fit a shard of the first slab.
	perShard uint32
	witness  witness
	happens  chan happening
	running  int
	readers  []*child
	led      []*child // candidates
	reached  map[int]int
	events   <-chan table.Event
	out      growth
}

// growth is what the second act saw.
type growth struct {
	Blocks      int           `json:"blocks"`
	Kept        int           `json:"kept"` // when the load had dropped
	Bytes       uint64        `json:"bytes"`
	FirstFit    uint64        `json:"first_fits"` // blocks
	FirstSize   uint64        `json:"first_size"` // bytes
	SlabSize    uint64        `json:"slab_size"`  // of the one added
	Filled      float64       `json:"filled"`     // part of the first slab in use when the second was published
	Stewards    []int         `json:"steward_pids"`
	Readers     []readerStory `json:"readers"`
	Moved       uint64        `json:"moved_down"` // records that went to the second slab
	State       string        `json:"state_at_kill"`
	Left        uint64        `json:"left_at_kill"` // records in the slab
	Reaction    time.Duration `json:"kill_after_ns"`
	Succession  time.Duration `json:"succession_ns"` // from the kill to the next steward
	Drain       time.Duration `json:"drain_ns"`      // from its beginning to the slab's end
	FileGone    bool          `json:"file_gone"`
	BytesBefore int64         `json:"allocated_before"` // of all the cache's files
	BytesAfter  int64         `json:"allocated_after"`
	Lost        int           `json:"lost"` // blocks that the parent did not find
	Problems    []string      `json:"check_problems,omitempty"`
	Took        time.Duration `json:"took_ns"`
}

// readerStory is how a reader heard of the slab, and what became of its lookups.
type readerStory struct {
	Pid       int           `json:"pid"`
	Hears     hears         `json:"hears"`
	Came      string        `json:"came_by"`
	After     time.Duration `json:"came_after_ns"`
	Went      string        `json:"went_by"`
	WentAfter time.Duration `json:"went_after_ns"`
	Tally     *tally        `json:"tally"`
	came      int64
	went      int64
}

// run plays the act. Every process it started has ended when it returns.
func (s *second) run(ctx context.Context) (growth, error) {
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	s.happens, s.reached = make(chan happening), map[int]int{}
	err := s.inCache(ctx, func() error {
		watched := make(chan struct{})
		go func() { defer close(watched); s.witness.run(ctx, s.cache.Table()) }()
		defer func() {
			cancel() // kills who still runs
			for s.running > 0 {
				if (<-s.happens).ended {
					s.running--
				}
			}
			<-watched
		}()
		for _, step := range []func(context.Context) error{s.start, s.fill, s.steady, s.shrink, s.end} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	cancel()
	s.out.Took = time.Since(began)
	return s.out, err
}

// inCache makes the cache, too small for the blocks, calls use, and removes it.
func (s *second) inCache(ctx context.Context, use func() error) (err error) {
	if s.blocks, err = s.tree.blocks(ctx, s.paths, mostBlocks); err != nil {
		return err
	}
	s.out.Blocks, s.out.Kept = len(s.blocks), int(keptShare*float64(len(s.blocks)))
	for _, b := range s.blocks {
		s.out.Bytes += uint64(len(b.value))
	}
	return s.make(ctx, flagstone.Options{
		Dir: s.dir, Entries: uint64(primaryShare * float64(len(s.blocks))), CellSize: blockCell, MaxKey: maxKey,
		MaxValue: blockSize, Shards: growthShards, Wake: signal.Options{Mode: signal.ModeFutex},
	}, func(name string, cache *flagstone.Cache) error {
		s.name, s.cache = name, cache
		all, err := cache.TierStats()
		if err != nil {
			return err
		}
		s.perShard = all[0].Geometry.Cells - all[0].Geometry.Reserve
		s.out.FirstFit, s.out.FirstSize = all[0].Geometry.Capacity, all[0].FileSize
		s.events = cache.Watch(ctx)
		return use()
	})
}

// start starts the readers and the candidates.
func (s *second) start(ctx context.Context) error {
	enlist := func(p part) (*child, error) {
		p.Dir, p.Domain = s.dir, s.name
		w, err := spawn(ctx, s.exe, s.running, s.happens)
		if err != nil {
			return nil, err
		}
		s.running++
		return w, w.to.send(order{Part: &p})
	}
	for i, hears := range ways {
		w, err := enlist(part{GOROOT: s.tree.build.GOROOT, Hears: hears, Seed: s.seed + uint64(i), Paths: s.paths, Blocks: len(s.blocks)})
		if err != nil {
			return err
		}
		s.readers = append(s.readers, w)
		s.out.Readers = append(s.out.Readers, readerStory{Pid: w.cmd.Process.Pid, Hears: hears})
	}
	for range candidates {
		w, err := enlist(part{Steward: true})
		if err != nil {
			return err
		}
		s.led = append(s.led, w)
	}
	ready := func() bool {
		return !slices.ContainsFunc(append(slices.Clone(s.readers), s.led...), func(w *child) bool { return !w.finished })
	}
	if err := s.await(ctx, hearWithin+patience, "the processes are not ready", ready); err != nil {
		return err
	}
	err := s.await(ctx, succeedWithin, "there is no steward", func() bool { return s.steward() != 0 })
	s.out.Stewards = []int{s.steward()}
	s.tell.say("second act: %d readers; steward is pid %d; %d blocks, %s, of which %d fit the first slab",
		len(s.readers), s.steward(), len(s.blocks), mib(s.out.Bytes), s.out.FirstFit)
	return err
}

// steward returns the pid of the steward, 0 if there is none.
func (s *second) steward() int {
	t := s.cache.Table()
	if h, ok := t.Steward(); ok {
		for _, r := range t.Regions() {
			if r.Index == h.Region && r.Generation == h.Generation {
				return int(r.Pid)
			}
		}
	}
	return 0
}

// fill stores all blocks, at its pace. When the first slab is nearly full it waits for
// the second.
func (s *second) fill(ctx context.Context) error {
	const steps = 100
	tick := time.NewTicker(max(s.pace/steps, time.Millisecond))
	defer tick.Stop()
	var stored [growthShards]int // records by shard
	told := false
	for done := 0; done < len(s.blocks); {
		next := min(done+len(s.blocks)/steps+1, len(s.blocks))
		fullest := 0
		for _, b := range s.blocks[done:next] {
			if err := s.set(ctx, b); err != nil {
				return err
			}
			shard := s.cache.HashOf([]byte(b.key)) % growthShards
			stored[shard]++
			fullest = max(fullest, stored[shard])
		}
		done = next
		if err := s.reach(done); err != nil {
			return err
		}
		s.tell.update("second act: %d of %d blocks stored", done, len(s.blocks))
		if float64(fullest) > pauseAt*float64(s.perShard) && s.witness.life().Published == 0 {
			if err := s.await(ctx, growWithin, "no slab was added", func() bool { return s.witness.life().Published != 0 }); err != nil {
				return err
			}
		}
		if !told && s.witness.life().Published != 0 {
			told = true
			if err := s.grown(ctx); err != nil {
				return err
			}
		}
		if err := s.await(ctx, patience, "time stands still", ticked(tick)); err != nil {
			return err
		}
	}
	if !told {
		return errors.New("second act: the blocks fit the first slab")
	}
	return nil
}

// ticked becomes true at the next tick.
func ticked(t *time.Ticker) func() bool {
	return func() bool {
		select {
		case <-t.C:
			return true
		default:
			return false
		}
	}
}

func (s *second) set(ctx context.Context, b block) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.cache.Set(ctx, []byte(b.key), b.value, flagstone.NoExpiry)
}

// filled returns how much of the first slab is in use.
func (s *second) filled() (float64, error) {
	all, err := s.cache.TierStats()
	if err != nil {
		return 0, err
	}
	return float64(all[0].Cells) / float64(room(all[0])), nil
}

// room returns how many cells of a slab records may take.
func room(t flagstone.TierStats) uint64 {
	return uint64(t.Geometry.Shards) * uint64(t.Geometry.Cells-t.Geometry.Reserve)
}

// grown tells how the readers heard of the slab.
func (s *second) grown(ctx context.Context) (err error) {
	if s.out.Filled, err = s.filled(); err != nil {
		return err
	}
	s.out.SlabSize = s.witness.life().Entry.Size
	err = s.await(ctx, hearWithin, "not all readers heard of the new slab", func() bool {
		return !slices.ContainsFunc(s.out.Readers, func(r readerStory) bool { return r.came == 0 })
	})
	published := s.witness.life().Published
	var text []string
	for i := range s.out.Readers {
		r := &s.out.Readers[i]
		r.After = since(published, r.came)
		text = append(text, fmt.Sprintf("%s within %v", r.Came, round(r.After)))
	}
	s.tell.say("second act: a slab of %s was added at %.0f%% of the first; the readers heard of it by %s",
		mib(s.out.SlabSize), 100*s.out.Filled, strings.Join(text, ", "))
	return err
}

// since is the time from one moment to the next.
func since(from, to int64) time.Duration { return time.Duration(max(to-from, 0)) }

// reach tells the readers how many blocks must be there.
func (s *second) reach(n int) error {
	for _, w := range s.readers {
		if err := w.to.send(order{Reach: &n}); err != nil {
			return fmt.Errorf("tell reader %d: %w", w.slot, err)
		}
	}
	return nil
}

// steady lets the readers look up everything for a while, in both slabs.
func (s *second) steady(ctx context.Context) error {
	until := time.Now().Add(s.pace / 2)
	err := s.await(ctx, s.pace+patience, "time stands still", func() bool { return time.Now().After(until) })
	all, e := s.cache.TierStats()
	for _, t := range all[min(1, len(all)):] {
		s.out.Moved += t.MovedIn
	}
	return errors.Join(err, e)
}

// shrink lets the load drop, and kills the steward when it drains the slab.
func (s *second) shrink(ctx context.Context) error {
	if err := s.reach(s.out.Kept); err != nil {
		return err
	}
	if err := s.await(ctx, hearWithin, "not all readers let go of what is deleted", func() bool {
		return !slices.ContainsFunc(s.readers, func(w *child) bool { return s.reached[w.slot] != s.out.Kept })
	}); err != nil {
		return err
	}
	s.out.BytesBefore = s.allocated()
	// In no order, so that both slabs keep some.
	gone := slices.Clone(s.blocks[s.out.Kept:])
	rand.New(rand.NewPCG(s.seed, 0)).Shuffle(len(gone), func(i, j int) { gone[i], gone[j] = gone[j], gone[i] })
	for _, b := range gone {
		switch found, err := s.cache.Delete(ctx, []byte(b.key)); {
		case err != nil:
			return err
		case !found:
			s.out.Lost++
		}
	}
	s.tell.say("second act: the load has dropped to %d blocks", s.out.Kept)
	if err := s.kill(ctx); err != nil {
		return err
	}
	if err := s.await(ctx, drainWithin, "the slab was not retired", func() bool { return s.witness.life().Retired != 0 }); err != nil {
		return err
	}
	seen := s.witness.life()
	s.out.Drain = since(seen.Draining, seen.Retired)
	file := filepath.Join(s.cache.Table().Dir(), fmt.Sprintf("slab-%016x", seen.Entry.SegmentID))
	if err := s.await(ctx, hearWithin, "the slab's file stays", func() bool {
		_, err := os.Lstat(file)
		return errors.Is(err, fs.ErrNotExist)
	}); err != nil {
		return err
	}
	s.out.FileGone, s.out.BytesAfter = true, s.allocated()
	err := s.await(ctx, hearWithin, "not all readers heard that the slab is gone", func() bool {
		return !slices.ContainsFunc(s.out.Readers, func(r readerStory) bool { return r.went == 0 })
	})
	for i := range s.out.Readers {
		r := &s.out.Readers[i]
		r.WentAfter = since(seen.Retired, r.went)
	}
	s.tell.say("second act: the slab is gone, %s of %s given back", mib(uint64(s.out.BytesBefore-s.out.BytesAfter)), mib(uint64(s.out.BytesBefore)))
	return err
}

// kill kills the steward as soon as it drains the slab, and waits for the next.
func (s *second) kill(ctx context.Context) error {
	pid := s.steward()
	victim := slices.IndexFunc(s.led, func(w *child) bool { return w.cmd.Process.Pid == pid })
	if victim < 0 {
		return fmt.Errorf("second act: the steward, pid %d, is no candidate", pid)
	}
	s.out.Stewards = []int{pid}
	// Nobody else is waited for here: a drain takes milliseconds.
	for deadline := time.Now().Add(drainWithin); s.witness.life().Draining == 0; {
		if ctx.Err() != nil || time.Now().After(deadline) {
			return errors.Join(errors.New("second act: the slab was not drained"), context.Cause(ctx))
		}
		pause := unix.NsecToTimespec(20_000)
		_ = unix.Nanosleep(&pause, nil)
	}
	if err := s.led[victim].cmd.Process.Signal(unix.SIGKILL); err != nil {
		return fmt.Errorf("kill the steward: %w", err)
	}
	at := now()
	seen := s.witness.life()
	s.out.Reaction, s.out.State = since(seen.Draining, at), strings.ToLower(seen.Entry.State.String())
	if seen.Retired == 0 {
		all, err := s.cache.TierStats()
		if err != nil {
			return err
		}
		for _, t := range all[1:] {
			s.out.Left += t.Records
		}
	} else {
		s.out.State = "retired"
	}
	next := 0
	err := s.await(ctx, succeedWithin, "nobody took the steward's place", func() bool {
		next = s.steward()
		return next != 0 && next != pid
	})
	s.out.Succession = since(at, now())
	s.out.Stewards = append(s.out.Stewards, next)
	s.tell.say("second act: steward %d was killed while the slab was %s, %d records left in it; pid %d is steward after %v",
		pid, s.out.State, s.out.Left, next, round(s.out.Succession))
	return err
}

// end looks whether all is there, and takes the readers' tallies.
func (s *second) end(ctx context.Context) (err error) {
	for _, b := range s.blocks[:s.out.Kept] {
		value, ok, err := s.cache.Get(nil, []byte(b.key))
		if err != nil {
			return err
		}
		if !ok || string(value) != string(b.value) {
			s.out.Lost++
		}
	}
	if s.out.Problems, err = s.cache.Check(ctx); err != nil {
		return err
	}
	for _, w := range append(slices.Clone(s.readers), s.led...) {
		_ = w.stdin.Close() // the killed one's is closed
	}
	return s.await(ctx, patience, "not all processes end", func() bool { return s.running == 0 })
}

// await goes on with what the processes say until cond holds.
func (s *second) await(ctx context.Context, within time.Duration, otherwise string, cond func() bool) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !cond() {
		var err error
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-deadline.C:
			err = fmt.Errorf("second act: %s within %v", otherwise, within)
		case _, open := <-s.events:
			if !open {
				s.events = nil
			}
		case h := <-s.happens:
			err = s.handle(h)
		case <-look.C:
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *second) handle(h happening) error {
	var of *readerStory
	if i := slices.Index(s.readers, h.child); i >= 0 {
		of = &s.out.Readers[i]
	}
	switch {
	case h.ended:
		return s.ended(h)
	case h.Error != "":
		return fmt.Errorf("second act: process %d: %s", h.slot, h.Error)
	case h.Ready:
		h.finished = true // with its beginning
	case h.Reached != nil:
		s.reached[h.slot] = *h.Reached
	case h.Heard != nil && of != nil && h.Heard.Gone && of.went == 0:
		of.went, of.Went = h.Heard.At, h.Heard.How
	case h.Heard != nil && of != nil && !h.Heard.Gone && of.came == 0:
		of.came, of.Came = h.Heard.At, h.Heard.How
	case h.Tally != nil && of != nil:
		of.Tally, h.reported = h.Tally, true
	}
	return nil
}

// ended takes note of a process's end. Only the first steward may be killed.
func (s *second) ended(h happening) error {
	s.running--
	status, ok := h.cmd.ProcessState.Sys().(syscall.WaitStatus)
	killed := ok && status.Signal() == syscall.SIGKILL && slices.Contains(s.led, h.child) && s.out.State != ""
	if h.reported || killed || slices.Contains(s.led, h.child) && h.err == nil {
		return nil
	}
	return fmt.Errorf("second act: process %d ended early: %s: %w", h.slot, h.cmd.ProcessState, errors.Join(h.err, errEarly))
}

// allocated returns how much memory the cache's files take.
func (s *second) allocated() (bytes int64) {
	files, _ := filepath.Glob(filepath.Join(s.cache.Table().Dir(), "*"))
	for _, f := range files {
		if info, err := os.Lstat(f); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				bytes += st.Blocks * 512
			}
		}
	}
	return bytes
}

func mib(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
