package flagstone

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/flagstone-shm/flagstone/table"
)

// StewardOptions say what this handle does for all while it is the steward: the one of
// the handles that offer which holds the domain's lease; one with KeepFor, EvictIdle or a
// Sink takes over from one without. Whatever the options, a steward
// removes what has expired, a little at a time, finishes what a dead one began, and,
// where there are several slabs, moves records down before the upper ones are full. It
// costs a look every 100 ms while the cache is used, and nothing while it is idle and has
// one slab. If it dies another one takes over, within a second or so. Give all handles of
// a cache the same options: those of the one that happens to be the steward count. The
// zero value neither grows nor shrinks nor evicts by schedule. Durations and ShrinkBelow
// must not be negative (ErrOptions).
type StewardOptions struct {
	// Off keeps this handle from offering. ReadOnly ones never do. A Private cache is
	// its own steward; it has one slab, whatever KeepFor says.
	Off bool

	// KeepFor is the minimum age: where records would have to go for want of room that
	// were used within it, the steward adds a slab. And it takes the last slab away again
	// when what is in it has room in the others, or is hardly asked for (ShrinkBelow) and
	// the others keep records for longer than this. What it drops then was unused for as
	// long. Records that come faster than it can add slabs, some tenths of a second for
	// each, are the exception, and so are the newcomers of an S3FIFO cache, which may go at
	// any age. 0 neither adds nor takes away.
	KeepFor time.Duration
	// Budget is how many bytes the slabs below the first one may take together, those
	// being drained included. It also bounds this handle's Grow (ErrBudget). Default: with
	// KeepFor as many as the first one takes; else there is no limit.
	Budget uint64
	// TierSize is the size of each slab added, in bytes; less if the budget leaves less,
	// but not less than an eighth. Default: that of the first one.
	TierSize uint64
	// ShrinkBelow is how many hits per second in the last slab are too few to keep it
	// for. Default: 1.
	ShrinkBelow float64

	// EvictIdle and EvictEvery evict what was unused for so long, so often, as Evict
	// would, a little at a time. Default of EvictEvery: a tenth of EvictIdle, at least a
	// second. EvictIdle 0 evicts nothing.
	EvictIdle, EvictEvery time.Duration

	// Sink, if set, gets what the last slab gives up.
	Sink Sink
}

// check refuses what makes no sense, and fills the defaults in that depend on nothing else.
func (o *StewardOptions) check() error {
	switch {
	case o.KeepFor < 0 || o.EvictIdle < 0 || o.EvictEvery < 0:
		return fmt.Errorf("%w: Steward: KeepFor %v, EvictIdle %v, EvictEvery %v", ErrOptions, o.KeepFor, o.EvictIdle, o.EvictEvery)
	case o.EvictEvery != 0 && o.EvictIdle == 0:
		return fmt.Errorf("%w: Steward: EvictEvery %v without EvictIdle", ErrOptions, o.EvictEvery)
	case o.ShrinkBelow < 0 || math.IsNaN(o.ShrinkBelow):
		return fmt.Errorf("%w: Steward: ShrinkBelow %v", ErrOptions, o.ShrinkBelow)
	}
	if o.ShrinkBelow == 0 {
		o.ShrinkBelow = 1
	}
	if o.EvictIdle != 0 {
		o.EvictEvery = orDefault(o.EvictEvery, max(o.EvictIdle/10, time.Second))
	}
	return nil
}

// How often the steward has a look, and who wants to be it tries.
const (
	busyRound  = 100 * time.Millisecond // while the cache is used, or something is under way
	watchRound = 250 * time.Millisecond // while there is a slab that may have to go
	idleRound  = time.Second            // of a handle that is there to be the steward
)

// steward is this handle's part in the election and, once it is elected, its work. All
// but what is said to be shared belongs to its goroutine. PROTOCOL.md, "Steward": whatever
// it does does no harm if another steward is at work too, as each step is one that
// any process may take.
type steward struct {
	StewardOptions
	cache *Cache

	stop     context.Context // ends at Close
	cancel   context.CancelFunc
	ended    chan struct{} // closed when the goroutine has; then failed says why
	failed   error
	kicked   chan struct{} // shared: something may have changed for one who waits
	later    *time.Timer   // shared: kicks
	standing atomic.Int32  // shared: calls of Lead

	leading   bool
	busyUntil time.Time // the cache was used by others until a second before
	duties
}

func (s *steward) start(c *Cache) {
	s.cache = c
	s.stop, s.cancel = context.WithCancel(context.Background())
	s.ended, s.kicked = make(chan struct{}), make(chan struct{}, 1)
	s.later = time.AfterFunc(busyRound, s.kick)
	s.begin()
	go s.run()
}

// close waits for the goroutine, and for the sink.
func (s *steward) close() {
	if s.cancel == nil { // a handle that only looks
		return
	}
	s.cancel()
	<-s.ended
}

// kick makes the goroutine look whether there is something to do.
func (s *steward) kick() {
	if s.kicked == nil {
		return
	}
	select {
	case s.kicked <- struct{}{}:
	default:
	}
}

// nudge is kick after busyRound, for what all handles hear of at once: those who have
// to attach a slab come first.
func (s *steward) nudge() { s.later.Reset(busyRound) }

func (s *steward) run() {
	defer close(s.ended)
	defer s.later.Stop()
	defer s.pouring.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	last := time.Now().Add(-idleRound)
	for {
		var due <-chan time.Time
		if wait, any := s.interval(); any {
			timer.Reset(time.Until(last.Add(wait)))
			due = timer.C
		} else if s.failed = s.rest(); s.failed != nil {
			return
		}
		select {
		case <-due:
			last = time.Now()
			if s.failed = s.round(); s.failed != nil {
				return
			}
		case <-s.kicked:
		case <-s.stop.Done():
			s.failed = ErrClosed
			return
		}
	}
}

// interval returns how long it is from one round to the next; any is false if there is
// nothing to do for this handle until it is kicked.
func (s *steward) interval() (wait time.Duration, any bool) {
	standing := s.standing.Load() > 0
	switch {
	case s.Off && !standing:
		return 0, false
	case s.cache.pulse.busy.Load() || s.unfinished(),
		(standing || s.several()) && time.Now().Before(s.busyUntil):
		return busyRound, true
	case s.several():
		return watchRound, true
	}
	if wait, any = s.untilEviction(); standing && (!any || wait > idleRound) {
		return idleRound, true
	}
	return wait, any
}

// several reports whether there are slabs that this handle would have to take away, or
// one that is being drained. Then it watches, so that a dead steward is soon replaced.
func (s *steward) several() bool {
	tiers := s.cache.view.Load().tiers
	return len(tiers) > 1 && (s.KeepFor > 0 || slices.ContainsFunc(tiers, func(t tier) bool { return t.entry.State == table.StateDraining }))
}

// round does a steward's work, if this handle is it.
func (s *steward) round() error {
	if err := s.lead(); err != nil || !s.leading {
		return err
	}
	ctx, cancel := context.WithTimeout(s.stop, 2*busyRound)
	defer cancel()
	s.work(ctx)
	return nil
}

// lead makes this handle the steward, if there is none. An error is for good.
func (s *steward) lead() (err error) {
	if t := s.cache.control; s.leading && t != nil && !s.minded() && t.Wanted() {
		return s.resign()
	}
	if s.leading {
		s.cache.table.Present()
		return s.stay()
	}
	s.leading = true
	if t := s.cache.control; t != nil {
		if !s.minded() && t.Wanted() {
			s.leading = false
			return nil
		}
		if s.leading, err = t.Lead(); err != nil {
			return err
		}
		// One that has no more to do than any steward makes way.
		if err = t.Want(s.minded() && !s.leading); err != nil {
			return err
		}
	}
	if s.leading {
		s.begin()
		s.tell(Event{Kind: EventSteward})
	}
	return nil
}

// stay makes sure that this handle still is the steward.
func (s *steward) stay() (err error) {
	t := s.cache.control
	if t == nil {
		return s.cache.table.Usable()
	}
	if s.leading, err = t.Lead(); err == nil && !s.leading {
		s.tell(Event{Kind: EventResigned})
	}
	return err
}

// minded reports whether this handle has duties beyond those of any steward, or was
// told to lead.
func (s *steward) minded() bool {
	return s.KeepFor != 0 || s.EvictIdle != 0 || s.Sink != nil || s.standing.Load() > 0
}

// resign gives the office back, if this handle has it.
func (s *steward) resign() (err error) {
	if !s.leading {
		return nil
	}
	s.leading = false
	if t := s.cache.control; t != nil {
		err = t.Resign()
	}
	s.tell(Event{Kind: EventResigned, Err: err})
	return err
}

// rest is for a handle that has nothing to do: it neither is nor wants to be the steward.
func (s *steward) rest() error {
	if t := s.cache.control; t != nil {
		if err := t.Want(false); err != nil {
			return err
		}
	}
	return s.resign()
}

// tell tells of what this handle does as the steward of others; a Private cache has none.
func (s *steward) tell(e Event) {
	if s.cache.control != nil || e.Kind != EventSteward && e.Kind != EventResigned {
		s.cache.tell(e)
	}
}

// Lead offers this handle as steward until ctx ends, also if StewardOptions.Off is set
// and however idle it is, and then returns nil. As long as another handle is the steward
// it waits for that one to resign or to die. It looks once a second while nothing
// happens. It returns ErrClosed after Close, ErrDestroyed, ErrFault, ErrReadOnly and, in
// a Private cache, ErrUnsupported. Calls may overlap. OnEvent is told what it does.
func (c *Cache) Lead(ctx context.Context) error {
	if c.control == nil {
		return fmt.Errorf("lead: %w", c.alone())
	}
	if err := c.forked(); err != nil {
		return fmt.Errorf("lead: %w", err)
	}
	s := &c.steward
	s.standing.Add(1)
	defer func() { s.standing.Add(-1); s.kick() }()
	s.kick()
	select {
	case <-ctx.Done():
		return nil
	case <-s.ended:
		return fmt.Errorf("lead %s: %w", c.table.Name(), s.failed)
	}
}
