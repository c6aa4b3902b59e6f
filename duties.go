package flagstone

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// What a steward does in a round is bounded: cells that it looks at and records that it
// moves, and a context for all that waits. What is not finished goes on in the next.
const (
	expireCells = 8192  // some 0.5 ms
	evictCells  = 65536 // while a scheduled eviction is under way
	demotions   = 2048
	reapRounds  = 10
)

// duties is what a steward remembers from round to round.
type duties struct {
	mind     mind
	policy   policy
	rate     hitRate
	last     uint64 // the last tier, as it was seen
	activity uint64 // operations so far, by which others' work is noticed
	lookups  uint64 // of those, as far as they are published
	rounds   int
	told     bool // that a slab is needed which cannot be added

	expiry    slab.Sweep
	eviction  slab.Sweep
	evicting  bool
	evictFrom uint64 // domain time from which on the next scheduled eviction is due
	evicted   int
	column    int // where demotion goes on

	drains map[uint64]*drainSeen
	mine   uint64 // the slab that this steward drains, 0 if none

	pouring     sync.WaitGroup
	results     chan poured
	offering    bool // a goroutine has the sink
	poured      poured
	mayPour     time.Time
	pourBackoff time.Duration
}

// drainSeen is a drain as it was last seen, and what this steward moved in it.
type drainSeen struct {
	drains  uint16
	records uint64
	since   uint64
	moved   int
}

// abandoned is after how many milliseconds without progress a drain that somebody
// else began is taken to be left to the steward.
const abandoned = 1000

// begin is for a handle that becomes the steward.
func (s *steward) begin() {
	if s.results == nil {
		s.results = make(chan poured, 1)
	}
	s.mind, s.rate, s.last, s.told = mind{}, hitRate{}, 0, false
	s.drains, s.mine = map[uint64]*drainSeen{}, 0
	s.policy = policy{budget: s.Budget, size: s.TierSize, below: s.ShrinkBelow}
	if s.KeepFor > 0 && s.cache.control != nil {
		// Stamps lie behind the uses they record by the grain and the clock's slack.
		grain := uint64(s.cache.view.Load().tiers[0].slab.Geometry().StampMillis)
		s.policy.keep = uint64((s.KeepFor+time.Millisecond-1)/time.Millisecond) + grain + layout.ClockSlackMillis
	}
}

// unfinished reports whether something is under way that wants a round soon.
func (s *steward) unfinished() bool {
	return s.leading && (s.evicting || s.offering || s.mine != 0)
}

// untilEviction returns how long it is to the next scheduled eviction, if there is
// anything to evict.
func (s *steward) untilEviction() (wait time.Duration, any bool) {
	if s.EvictIdle == 0 {
		return 0, false
	}
	if n, err := s.cache.view.Load().slab.Len(); n == 0 || err != nil {
		return 0, false
	}
	now := s.cache.now()
	if now >= s.evictFrom && !s.leading { // the steward may see to it: a look now and then will do
		return s.EvictEvery, true
	}
	return max(millis(s.evictFrom-min(now, s.evictFrom)), busyRound), true
}

// quietly is Cache.update, but no use of the cache: it keeps no handle awake.
func (s *steward) quietly(ctx context.Context, op func(v *view) error) error {
	for v := s.cache.current(); ; {
		if err := op(v); !s.cache.again(ctx, &v, &err) {
			return err
		}
	}
}

// work is one round.
func (s *steward) work(ctx context.Context) {
	c := s.cache
	c.table.Tick()
	c.follow(ByPoll)
	if s.rounds++; s.rounds%reapRounds == 0 {
		_, _ = c.table.Reap()
	}
	s.pouringDone()
	s.notice()
	if s.busy() {
		_ = s.quietly(ctx, func(v *view) error {
			_, _, err := v.slab.Expire(ctx, &s.expiry, expireCells)
			return err
		})
		s.demote(ctx)
	}
	s.evict(ctx)
	v := c.current()
	see, fills, err := c.observe(v)
	if err != nil || v.slab.Missing != nil {
		return
	}
	tiers := v.open()
	last := tiers[len(tiers)-1]
	if see.tiers > 1 {
		see.hits = s.rate.of(last.entry, see.now, c.total)
	}
	if s.last != see.last {
		if s.last != 0 {
			s.mind.changed(see.now)
		}
		s.last = see.last
	}
	s.resize(ctx, v, see, last, fills)
	s.drainAll(ctx)
}

// busy reports whether the cache is used, by this handle or others.
func (s *steward) busy() bool {
	return s.cache.pulse.busy.Load() || time.Now().Before(s.busyUntil)
}

// notice looks whether anybody writes or reads: others' lookups show once a second.
func (s *steward) notice() {
	of, err := s.cache.view.Load().slab.Stats()
	sum := of.Sets + of.Deletes
	if s.rounds%reapRounds == 0 || !s.busy() {
		all := s.cache.total()
		s.lookups = all.Hits + all.Misses
	}
	if sum += s.lookups; err == nil && sum != s.activity {
		if s.activity != 0 {
			s.busyUntil = time.Now().Add(idleRound)
		}
		s.activity = sum
	}
}

// demote moves records down ahead of need, from the lowest tier up, so that each finds
// room below it.
func (s *steward) demote(ctx context.Context) {
	_ = s.quietly(ctx, func(v *view) error {
		for i := len(v.tiers) - 2; i >= 0; i-- {
			if _, err := v.slab.Demote(ctx, v.tiers[i].slab, &s.column, demotions); err != nil {
				return err
			}
		}
		return nil
	})
}

// evict goes on with the scheduled eviction, or begins one that is due.
func (s *steward) evict(ctx context.Context) {
	if s.EvictIdle == 0 {
		return
	}
	c := s.cache
	now := c.now()
	if every := uint64(s.EvictEvery / time.Millisecond); !s.evicting && (now >= s.evictFrom || s.evictFrom > now+every) {
		s.evicting, s.evicted, s.eviction = true, 0, slab.Sweep{}
		s.evictFrom = now + every
	}
	if !s.evicting {
		return
	}
	err := s.quietly(ctx, func(v *view) error {
		n, done, err := v.slab.EvictSweep(ctx, &s.eviction, evictCells, c.cutoff(s.EvictIdle))
		s.evicted += n
		s.evicting = !done
		return err
	})
	if err == nil && !s.evicting && s.evicted > 0 {
		s.tell(Event{Kind: EventEvicted, Count: s.evicted})
	}
}

// resize does what was decided about the number of slabs, and about the sink.
func (s *steward) resize(ctx context.Context, v *view, see observation, last tier, fills [][]slab.Fill) {
	do, size := s.mind.decide(s.policy, see)
	if do == stay && s.mind.needed == 0 {
		s.told = false
	}
	switch {
	case (do == grow || do == refuse) && s.mine != 0:
		s.stopDrain(v)
	case do == grow:
		s.grow(ctx, v, see, size)
	case do == refuse:
		s.needs(ErrBudget)
		s.offload(last, fills[len(fills)-1])
	case do == shrink:
		if _, err := s.cache.control.Drain(last.entry); err == nil {
			s.mine = see.last
			s.cache.follow(ByCall)
		}
	case s.mind.needed == 0:
		s.offload(last, fills[len(fills)-1])
	}
}

// grow adds a slab, unless another steward was quicker.
func (s *steward) grow(ctx context.Context, v *view, see observation, size uint64) {
	shape := Shape{Size: size, OnFull: v.tiers[0].slab.Geometry().OnFull}
	switch added, err := s.cache.grow(ctx, "", shape, see.last); {
	case err == nil:
		s.mind.changed(see.now)
		s.tell(Event{Kind: EventGrew, Slab: added.Name(), SlabID: added.ID(), Tier: added.Tier()})
	case errors.Is(err, ErrState), errors.Is(err, ErrBusy): // another's look is as good
	default:
		s.mind.failed(see.now)
		s.needs(err)
	}
}

// needs tells, once for each need, that a slab cannot be added.
func (s *steward) needs(err error) {
	if !s.told {
		s.told = true
		s.tell(Event{Kind: EventNotGrown, Err: err})
	}
}

// stopDrain opens the slab again that this steward drains, as it is needed after all.
func (s *steward) stopDrain(v *view) {
	t, ok := v.tier(s.mine)
	if ok {
		_, err := s.cache.control.Reopen(t.entry)
		if ok = err == nil; ok {
			s.cache.follow(ByCall)
			s.drained(t, EventDrainStopped, nil)
		}
	}
	s.mine = 0
}

// drainAll goes on with the drains that are this steward's or nobody's.
func (s *steward) drainAll(ctx context.Context) {
	v := s.cache.view.Load()
	now := s.cache.now()
	for id := range s.drains {
		if t, ok := v.tier(id); !ok || t.entry.State != table.StateDraining {
			delete(s.drains, id)
		}
	}
	if t, ok := v.tier(s.mine); !ok || t.entry.State != table.StateDraining {
		s.mine = 0
	}
	for _, t := range v.tiers {
		if t.entry.State != table.StateDraining {
			continue
		}
		of, err := t.slab.Stats()
		if err != nil {
			continue
		}
		d := s.drains[t.entry.SegmentID]
		if d == nil || d.drains != t.entry.Drains || d.records != of.Records && s.mine != t.entry.SegmentID {
			d = &drainSeen{drains: t.entry.Drains, records: of.Records, since: now}
			s.drains[t.entry.SegmentID] = d
		}
		if s.mine == t.entry.SegmentID || now-min(d.since, now) >= abandoned {
			s.mine = t.entry.SegmentID
			s.drain(ctx, t, d)
		}
	}
}

// drain goes on with one drain.
func (s *steward) drain(ctx context.Context, t tier, d *drainSeen) {
	var giveUp uint64
	if now := s.cache.now(); s.policy.keep > 0 {
		giveUp = now - min(s.policy.keep, now)
	}
	goOn, giveUp := s.emptyFirst(ctx, t, giveUp)
	if !goOn {
		return
	}
	moved, err := s.cache.drain(ctx, t.entry, giveUp)
	d.moved += moved
	switch {
	case err == nil:
		s.mind.went(s.cache.now())
		s.drained(t, EventDrained, nil)
	case errors.Is(err, ErrFull), errors.Is(err, ErrTooLarge):
		s.mind.stayed(s.cache.now())
		s.drained(t, EventDrainStopped, err)
	case errors.Is(err, ErrState), errors.Is(err, ErrRetired): // somebody else was quicker
		s.mine = 0
	}
}

// drained tells how a drain ended.
func (s *steward) drained(t tier, kind EventKind, err error) {
	moved := 0
	if d := s.drains[t.entry.SegmentID]; d != nil {
		moved = d.moved
	}
	s.mine = 0
	s.tell(Event{Kind: kind, Slab: t.entry.Name, SlabID: t.entry.SegmentID, Tier: int(t.entry.Tier), Count: moved, Err: err})
}

// allows returns ErrBudget if a slab of size bytes more is too much.
func (o *StewardOptions) allows(v *view, size uint64) error {
	budget, has := o.Budget, uint64(0)
	if budget == 0 {
		if o.KeepFor == 0 {
			return nil
		}
		budget = v.tiers[0].entry.Size
	}
	for _, t := range v.tiers[1:] {
		has += t.entry.Size
	}
	if size > budget-min(has, budget) {
		return fmt.Errorf("%w: slabs of %d bytes, one of %d more, limit %d", ErrBudget, has, size, budget)
	}
	return nil
}
