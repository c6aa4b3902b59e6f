package flagstone

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/flagstone-shm/flagstone/slab"
)

// Sink is where records go that the last slab gives up: a slower cache, a file. The
// steward offers copies of the records unused for longest, before the slab is full if no
// slab is to be added, and while it is drained if the others have no room. It keeps an
// eighth of the last slab's shards free that way. Setters that fill the rest before a
// sink has taken anything evict without asking, unless the cache refuses when it is full
// (Refuse). No lock is held meanwhile.
type Sink interface {
	// Take takes the items over: all of them, if it returns nil. Then those are removed
	// that were not used or changed since, as far as Options.Precision tells; others stay,
	// and may be offered again, as may all if the process dies. An error keeps them, and
	// is told to OnEvent; the steward waits a second before it offers anything again, then
	// two, up to a minute.
	//
	// There is one call at a time in a process, and the next batch, of up to 256 items,
	// waits for it: whoever is slow is offered less. Take should return soon once ctx ends,
	// which Close waits for. It may use the cache. Items are its own to keep.
	Take(ctx context.Context, items []SinkItem) error
}

// SinkItem is a record that is offered to a Sink.
type SinkItem struct {
	Pair
	TTL time.Duration // left of its time to live, at least a millisecond; or NoExpiry
}

// mostItems bounds a batch.
const mostItems = 256

// poured is what became of an offer.
type poured struct {
	segment uint64
	removed int
	err     error
}

// pour offers records of a tier to the sink, batch by batch, as many of each shard as
// want says, until none are wanted, or the sink keeps nothing. It runs beside the steward's
// rounds, so that a slow sink holds up nothing else.
func (s *steward) pour(t tier, cutoff uint64, want func(slab.Fill) int) (p poured) {
	p.segment = t.entry.SegmentID
	for s.stop.Err() == nil {
		batch, err := s.batch(t, cutoff, want)
		if err == nil && len(batch) > 0 {
			err = s.take(batch)
		}
		if p.err = err; err != nil || len(batch) == 0 {
			return p
		}
		removed := 0
		p.err = s.quietly(s.stop, func(v *view) error {
			n, err := v.slab.Deliver(s.stop, t.slab, batch)
			removed += n
			return err
		})
		if p.removed += removed; p.err != nil || removed == 0 {
			return p
		}
	}
	return p
}

// batch gathers what to offer next.
func (s *steward) batch(t tier, cutoff uint64, want func(slab.Fill) int) (batch []slab.Offered, err error) {
	fills, err := t.slab.Fills()
	if err != nil {
		return nil, err
	}
	size := 0
	for shard, f := range fills {
		n := min(want(f), mostItems-len(batch))
		if n <= 0 || size > mostBatch {
			continue
		}
		var some []slab.Offered
		err := s.quietly(s.stop, func(v *view) (err error) {
			some, err = v.slab.Offer(s.stop, t.slab, shard, cutoff, n)
			return err
		})
		if err != nil {
			return nil, err
		}
		for i := range some {
			size += len(some[i].Value)
		}
		batch = append(batch, some...)
	}
	return batch, nil
}

// mostBatch bounds the values of a batch, in bytes, beyond those of one shard.
const mostBatch = 8 << 20

// take hands a batch to the sink.
func (s *steward) take(batch []slab.Offered) error {
	items := make([]SinkItem, len(batch))
	for i := range batch {
		r := &batch[i]
		items[i] = SinkItem{Pair: s.cache.pair(&r.Pair), TTL: s.cache.ttl(r.Expiry)}
	}
	if err := s.Sink.Take(s.stop, items); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	return nil
}

// startPouring begins an offer, unless one is under way or the sink has lately refused.
func (s *steward) startPouring(t tier, cutoff uint64, want func(slab.Fill) int) {
	if s.offering || time.Now().Before(s.mayPour) {
		return
	}
	s.offering = true
	s.pouring.Go(func() {
		s.results <- s.pour(t, cutoff, want) // has room for the one there is
		s.kick()
	})
}

// pouringDone looks whether an offer has ended, and what became of it.
func (s *steward) pouringDone() {
	select {
	case s.poured = <-s.results:
	default:
		return
	}
	s.offering = false
	switch err := s.poured.err; {
	case err == nil:
		s.pourBackoff = 0
	case errors.Is(err, ErrClosed), errors.Is(err, slab.ErrNotInStack): // the slab went meanwhile: no sink refused
	case s.stop.Err() == nil:
		s.pourBackoff = min(max(2*s.pourBackoff, time.Second), time.Minute)
		s.mayPour = time.Now().Add(s.pourBackoff)
		s.tell(Event{Kind: EventSinkRefused, SlabID: s.poured.segment, Err: err})
	}
}

// offload offers what the last tier is about to give up.
func (s *steward) offload(last tier, fills []slab.Fill) {
	if s.Sink == nil {
		return
	}
	cell := uint64(last.slab.Geometry().CellSize)
	want := func(f slab.Fill) int {
		if !full(f.Used, f.Room) {
			return 0
		}
		spare := f.Room / 16 * 13 // a bit more than an eighth, so that there are batches
		return int((f.Used - min(spare, f.Used) + cell - 1) / cell)
	}
	for _, f := range fills {
		if want(f) > 0 {
			s.startPouring(last, math.MaxUint64, want)
			return
		}
	}
}

// emptyFirst offers what has no room elsewhere before a drain gives it up. It reports whether the
// drain may go on, and what it may give up.
func (s *steward) emptyFirst(ctx context.Context, t tier, giveUp uint64) (goOn bool, now uint64) {
	if s.Sink == nil || giveUp == 0 {
		return true, giveUp
	}
	err := s.quietly(ctx, func(v *view) error {
		_, _, err := v.slab.Empty(ctx, t.slab, 0)
		return err
	})
	p := s.poured
	switch {
	case !errors.Is(err, ErrFull):
		return true, 0
	case s.offering:
		return false, 0
	case p.segment == t.entry.SegmentID && p.err != nil:
		s.poured = poured{}
		return true, 0 // which opens it again: nothing is dropped
	case p.segment == t.entry.SegmentID && p.removed == 0:
		s.poured = poured{}
		return true, giveUp // only claims and ids are that old
	}
	s.poured = poured{}
	s.startPouring(t, giveUp, func(slab.Fill) int { return mostItems })
	return false, 0
}
