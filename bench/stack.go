package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// stacked is a cache of several tiers.
type stacked struct {
	*stone
	tiers []*flagstone.Slab
}

// openStacked makes a cache of o's shape with tiers below, each with room for so many
// records.
func openStacked(ctx context.Context, o options, tiers, entries int) (*stacked, error) {
	c, err := openFlagstone(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &stacked{stone: c.(*stone)}
	for i := 1; i < tiers; i++ {
		if _, err := s.cache.Grow(ctx, fmt.Sprint("tier ", i), flagstone.Shape{Entries: uint64(entries)}); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	if s.tiers, err = s.cache.Tiers(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return s, nil
}

// mover moves records between tiers of a cache. It has the slabs mapped once more.
type mover struct {
	table *table.Table
	stack *slab.Stack // as of the newest move
	tiers []slab.Tier
	ids   []uint64
}

func newMover(s *stacked) (*mover, error) {
	t := s.cache.Table()
	words := t.Words()
	m := &mover{table: t}
	for i, tier := range s.tiers {
		e := entryOf(t, tier.ID())
		seg, err := t.Attach(e)
		if err != nil {
			return nil, errors.Join(err, m.close())
		}
		m.ids = append(m.ids, tier.ID())
		id := slab.Identity{SegmentID: tier.ID(), Domain: t.UUID(), HashSeed: t.HashSeed()}
		var next slab.Tier
		if i == 0 {
			next.Slab, err = slab.Open(seg, slab.Domain{Owner: t, Wall: words.Wall, Now: words.Domain}, id)
		} else {
			next.State, next.Open = t.StateWord(e), e.OpenWord()
			next.Slab, err = slab.OpenBelow(seg, m.tiers[0].Slab, id)
		}
		if err != nil {
			return nil, errors.Join(err, seg.Close(), m.close())
		}
		m.tiers = append(m.tiers, next)
	}
	return m, nil
}

// look makes the view new; who joins or leaves makes it stale.
func (m *mover) look() {
	m.stack = slab.NewStack(slab.StackOptions{Changes: m.table.Words().Changes, Seen: m.table.Changes()}, m.tiers...)
}

// move moves the oldest records, of those that were not used just now.
func (m *mover) move(ctx context.Context, from, to, limit int) error {
	return m.moveBefore(ctx, from, to, m.table.Now(), limit)
}

// moveAll moves every record of a tier.
func (m *mover) moveAll(ctx context.Context, from, to, count int) error {
	return m.moveBefore(ctx, from, to, math.MaxUint64, count)
}

func (m *mover) moveBefore(ctx context.Context, from, to int, cutoff uint64, limit int) error {
	m.table.Tick()
	m.look()
	moved, err := m.stack.Move(ctx, m.tiers[from].Slab, m.tiers[to].Slab, cutoff, limit)
	if err == nil && moved != limit {
		err = fmt.Errorf("%d records moved, want %d", moved, limit)
	}
	return err
}

func (m *mover) close() (err error) {
	for _, t := range m.tiers {
		err = errors.Join(err, t.Close())
	}
	for _, id := range m.ids {
		m.table.Detach(id)
	}
	return err
}
