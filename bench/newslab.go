package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// newslab measures how long it is from the publication of a slab until the last of
// 16 idle processes has mapped it, against what it takes to wake as many without
// telling them anything.
type newslab struct{}

func (newslab) title() string    { return "new slab" }
func (newslab) rivals() []string { return nil }

func (n newslab) run(ctx context.Context, s *session, st *stage) (err error) {
	h, err := openHall(ctx, st)
	if err != nil {
		return errors.Join(err, h.close())
	}
	defer func() { err = errors.Join(err, h.close()) }()
	rounds, err := s.compete(ctx, n.title(), st.Shape, []entrant{
		slabByFutex:  {"flagstone, futex", func(int, time.Duration) (chunk, error) { return h.grow(ctx, slabByFutex) }},
		slabBySignal: {"flagstone, signal", func(int, time.Duration) (chunk, error) { return h.grow(ctx, slabBySignal) }},
		bareFutex:    {"bare futex", func(int, time.Duration) (chunk, error) { return h.call(ctx) }},
		bareSignal:   {"bare signal", func(int, time.Duration) (chunk, error) { return h.kill(ctx) }},
	})
	if err != nil {
		return err
	}
	s.report.Notes = append(s.report.Notes, fmt.Sprintf(
		"new slab: published is from just before the directory entry is, and the doorbells rung, made from before its file of %d KiB is; "+
			"mapped is the last of %d idle processes noting that its view has it; bare is one futex wake-up, or a signal to each, of the same processes",
		newSlabSize>>10, sleepers))
	micros := func(way int) []float64 {
		return column(rounds, way, func(c chunk) float64 { return float64(c.Nanos) / 1e3 })
	}
	for _, p := range []struct {
		name      string
		own, bare int
	}{{"futex", slabByFutex, bareFutex}, {"signal", slabBySignal, bareSignal}} {
		own, theirs := micros(p.own), micros(p.bare)
		s.add(row{
			Measurement: n.title() + ", published to mapped by 16, " + p.name, Shape: st.Shape, Unit: "us", Rival: "bare " + p.name, Target: atMost(3),
		}, own, theirs, quotients(own, theirs))
		whole := column(rounds, p.own, func(c chunk) float64 { return float64(c.Nanos+c.Making) / 1e3 })
		s.add(row{
			Measurement: n.title() + ", made and mapped by 16, " + p.name, Shape: st.Shape, Unit: "us", Rival: "bare " + p.name,
		}, whole, theirs, quotients(whole, theirs))
	}
	return nil
}

// hall is where the sleepers are: two domains, whose handles they have woken by
// futex and by signal, and the board.
type hall struct {
	board   *board
	file    *shm.Segment
	path    string // of the board
	domains [2]*flagstone.Cache
	names   [2]string
	dir     string
	crew    []*worker
}

// newSlabSize is what a slab has at least to be added; the time to make one grows with
// it, the time to map one does not.
const newSlabSize = 1 << 20

// openHall opens the domains and starts the sleepers. What it returns is to be closed
// also after an error.
func openHall(ctx context.Context, st *stage) (h *hall, err error) {
	h = &hall{path: filepath.Join(st.Dir, st.Domain+"-board"), dir: st.Dir}
	if h.file, h.board, err = openBoard(h.path, true); err != nil {
		return h, err
	}
	// As many shards as a cache of the default size has, as the time to make a view depends on them.
	usual, err := slab.Plan(slab.Options{})
	if err != nil {
		return h, err
	}
	for way, mode := range modes {
		h.names[way] = fmt.Sprint(st.Domain, "-", mode)
		h.domains[way], err = flagstone.Open(ctx, h.names[way], flagstone.Options{
			Dir: st.Dir, Shards: int(usual.Shards), Size: newSlabSize, MaxValue: 64, MaxKey: keySize,
			Wake: signal.Options{Mode: signal.ModePoll, Poll: time.Second},
		})
		if err != nil {
			return h, err
		}
	}
	for i := range sleepers {
		w, err := startSleeper(bed{Seat: i, Board: h.path, Dir: st.Dir, Domains: h.names})
		if err != nil {
			return h, err
		}
		h.crew = append(h.crew, w)
	}
	return h, nil
}

// startSleeper starts a sleeper and waits until it sleeps.
func startSleeper(b bed) (*worker, error) {
	w, err := start(sleeperArg)
	if err != nil {
		return nil, err
	}
	var ready answer
	err = w.commands.Encode(b)
	if err == nil {
		err = w.answers.Decode(&ready)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sleeper %d: %w", b.Seat, err), w.close())
	}
	return w, nil
}

func (h *hall) close() (err error) {
	for _, w := range h.crew { // all at once, as each tells the others that it goes
		err = errors.Join(err, w.stdin.Close())
	}
	for _, w := range h.crew {
		err = errors.Join(err, w.cmd.Wait())
	}
	for way, c := range h.domains {
		if c != nil {
			err = errors.Join(err, c.Close(), flagstone.Destroy(context.Background(), h.dir, h.names[way]))
		}
	}
	if h.file != nil {
		err = errors.Join(err, h.file.Close(), os.Remove(h.path))
	}
	return err
}

// calm is how long everybody sleeps before they are woken.
const calm = 20 * time.Millisecond

// asleep waits until every sleeper waits for the next call and has let go of the
// slabs that are no more.
func (h *hall) asleep(ctx context.Context) error {
	err := h.until(ctx, func(s *seat) bool {
		return s.Parked.Load() == h.board.Call.Load()+1 && s.Slabs[slabByFutex].Load() == 0 && s.Slabs[slabBySignal].Load() == 0
	})
	time.Sleep(calm)
	for i := range h.board.Seats {
		for way := range ways {
			h.board.Seats[i].Woken[way].Store(0)
		}
	}
	return err
}

// patience bounds a wait for sleepers.
const patience = 10 * time.Second

// until waits for all seats to be as they should.
func (h *hall) until(ctx context.Context, is func(*seat) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for i := range h.board.Seats {
		for !is(&h.board.Seats[i]) {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("sleeper %d: %w", i, err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// woken waits until all were woken that way, and returns how long after start the last
// one was.
func (h *hall) woken(ctx context.Context, way int, start int64) (chunk, error) {
	err := h.until(ctx, func(s *seat) bool { return s.Woken[way].Load() != 0 })
	last := start
	for i := range h.board.Seats {
		last = max(last, h.board.Seats[i].Woken[way].Load())
	}
	return chunk{Nanos: last - start, Keys: 1}, err
}

// grow adds a slab, waits until all have it, and drains it again.
func (h *hall) grow(ctx context.Context, way int) (chunk, error) {
	c := h.domains[way]
	if err := h.asleep(ctx); err != nil {
		return chunk{}, err
	}
	begun, published, err := addSlab(ctx, c)
	if err != nil {
		return chunk{}, err
	}
	done, err := h.woken(ctx, way, published)
	if err != nil {
		return chunk{}, err
	}
	done.Making = published - begun
	tiers, err := c.Tiers()
	if err == nil {
		_, err = tiers[len(tiers)-1].Drain(ctx)
	}
	return done, err
}

// addSlab does what Cache.Grow does, step by step, to tell when publication begins.
func addSlab(ctx context.Context, c *flagstone.Cache) (begun, published int64, err error) {
	tiers, err := c.Tiers()
	if err != nil {
		return 0, 0, err
	}
	t := c.Table()
	err = t.Exclusive(ctx, func() error {
		begun = monotonic()
		top := tiers[0].ID()
		first := entryOf(t, top)
		g, err := slab.Plan(slab.Options{Size: newSlabSize, Shards: int(first.Params[0]), MaxKey: keySize, MaxValue: 64})
		if err != nil {
			return err
		}
		r, err := t.Reserve(table.Spec{
			Kind: table.KindSlab, Stack: top, Tier: 1, Name: "new", Size: g.FileSize(),
			Params: [4]uint64{uint64(g.Shards), uint64(g.Cells), uint64(g.CellSize), g.Capacity},
		})
		if err != nil {
			return err
		}
		seg, err := r.Create()
		if err != nil {
			return errors.Join(err, r.Abort())
		}
		id := r.Entry().SegmentID
		err = slab.Format(seg, g, slab.Identity{SegmentID: id, Domain: t.UUID(), HashSeed: t.HashSeed()}, t.Wall())
		if err == nil {
			published = monotonic()
			_, err = r.Publish()
		}
		if err != nil {
			err = errors.Join(err, r.Abort())
		}
		t.Detach(id)
		return errors.Join(err, seg.Close())
	})
	return begun, published, err
}

// entryOf returns the directory's entry of a segment.
func entryOf(t *table.Table, segment uint64) table.Entry {
	for _, e := range t.Entries() {
		if e.SegmentID == segment {
			return e
		}
	}
	return table.Entry{}
}

// call wakes all by a futex.
func (h *hall) call(ctx context.Context) (chunk, error) {
	if err := h.asleep(ctx); err != nil {
		return chunk{}, err
	}
	start := monotonic()
	h.board.Call.Add(1) // pairs with the load in park
	if err := shm.FutexWake(&h.board.Call, sleepers); err != nil {
		return chunk{}, err
	}
	return h.woken(ctx, bareFutex, start)
}

// kill wakes all by a signal each.
func (h *hall) kill(ctx context.Context) (chunk, error) {
	if err := h.asleep(ctx); err != nil {
		return chunk{}, err
	}
	start := monotonic()
	for _, w := range h.crew {
		if err := unix.Kill(w.cmd.Process.Pid, bareSignalNumber); err != nil {
			return chunk{}, err
		}
	}
	return h.woken(ctx, bareSignal, start)
}
