package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/inside"
	"github.com/flagstone-shm/flagstone/table"
)

// made returns the answer to a command that made a segment.
func made(id uint64, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	return ok(hex16(id))
}

func grow(s *session, l *line) (answer, error) {
	name, size := string(l.bytes(l.words[0])), l.number(l.words[1])
	if l.err != nil {
		return answer{}, l.err
	}
	ctx, cancel := l.waiting()
	defer cancel()
	tier, err := s.cache.Grow(ctx, name, flagstone.Shape{Size: size})
	if err != nil {
		return answer{}, err
	}
	return made(tier.ID(), nil)
}

func drain(s *session, l *line) (answer, error) {
	number := l.count(l.words[0])
	if l.err != nil {
		return answer{}, l.err
	}
	ctx, cancel := l.waiting()
	defer cancel()
	tiers, err := s.cache.Tiers()
	for _, t := range tiers {
		if err == nil && t.Tier() == number {
			n, err := t.Drain(ctx)
			if err != nil {
				return answer{}, err
			}
			return ok(n)
		}
	}
	if err == nil {
		err = fmt.Errorf("tier %d: %w", number, flagstone.ErrRetired)
	}
	return answer{}, err
}

func age(s *session, l *line) (answer, error) {
	from, to, cutoff, limit := l.number(l.words[0]), l.number(l.words[1]), l.number(l.words[2]), l.count(l.words[3])
	if l.err != nil {
		return answer{}, l.err
	}
	ctx, cancel := l.waiting()
	defer cancel()
	moved := 0
	err := s.under.Update(ctx, func(v inside.View) error {
		source, target := v.Tier(uint32(from)), v.Tier(uint32(to))
		if source == nil || target == nil {
			return fmt.Errorf("tiers %d and %d: %w", from, to, flagstone.ErrRetired)
		}
		n, err := v.Move(ctx, source, target, cutoff, limit-moved)
		moved += n
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return ok(moved)
}

func makeSlab(s *session, l *line) (answer, error) {
	name, size := string(l.bytes(l.words[0])), l.number(l.words[1])
	if l.err != nil {
		return answer{}, l.err
	}
	ctx, cancel := l.waiting()
	defer cancel()
	made, err := s.domain.CreateSlab(ctx, name, s.shape(size))
	if err != nil {
		return answer{}, err
	}
	a, _ := ok(hex16(made.ID()))
	return a, made.Close()
}

// shape is that of the primary slab, with another size.
func (s *session) shape(size uint64) (out flagstone.Shape) {
	_ = inside.Of(s.domain).Read(func(v inside.View) (bool, error) { // which never fails
		g := v.Tiers()[0].Geometry()
		out = flagstone.Shape{
			Size: size, CellSize: int(g.CellSize), MaxKey: int(g.MaxKey), MaxValue: int(g.MaxValue),
			Shards: int(g.Shards), OnFull: g.OnFull, Order: g.Order,
		}
		return true, nil
	})
	return out
}

// slabs opens the independent slabs of these names, of which "-" is the primary one.
func (s *session) slabs(ctx context.Context, l *line, words ...string) (all []*flagstone.Slab, err error) {
	for _, w := range words {
		name := l.bytes(w)
		if l.err != nil {
			return all, l.err
		}
		var of *flagstone.Slab
		if w == "-" {
			tiers, err := s.domain.Tiers()
			if err != nil {
				return all, err
			}
			of = tiers[0]
		} else if of, err = s.domain.OpenSlab(ctx, string(name)); err != nil {
			return all, err
		}
		all = append(all, of)
	}
	return all, nil
}

func closeSlabs(all []*flagstone.Slab) (err error) {
	for _, one := range all {
		err = errors.Join(err, one.Close())
	}
	return err
}

func retire(s *session, l *line) (answer, error) {
	ctx, cancel := l.waiting()
	defer cancel()
	all, err := s.slabs(ctx, l, l.words[0])
	if err == nil {
		err = all[0].Retire(ctx)
	}
	return done(errors.Join(err, closeSlabs(all)))
}

func move(s *session, l *line) (answer, error) {
	limit := l.count(l.words[2])
	ctx, cancel := l.waiting()
	defer cancel()
	all, err := s.slabs(ctx, l, l.words[0], l.words[1])
	moved := 0
	switch {
	case err != nil:
	case all[0].Cache() == all[1].Cache():
		err = fmt.Errorf("%w: from a slab to itself", flagstone.ErrOptions)
	default:
		moved, err = inside.Move(ctx, all[0], all[1], math.MaxUint64, limit)
	}
	if err = errors.Join(err, closeSlabs(all)); err != nil {
		return answer{}, err
	}
	return ok(moved)
}

func publish(s *session, l *line) (answer, error) {
	name, size := string(l.bytes(l.words[0])), l.number(l.words[1])
	t, err := s.member()
	if l.err != nil {
		err = l.err
	}
	if err != nil {
		return answer{}, err
	}
	seg, err := t.PublishSegment(table.Spec{Kind: table.KindApplication, Name: name, Size: size}, func([]byte) error { return nil })
	if err != nil {
		return answer{}, err
	}
	a, _ := ok(hex16(seg.Entry().SegmentID))
	return a, seg.Close()
}

func refresh(s *session, _ *line) (answer, error) {
	tiers, err := s.cache.Tiers()
	if err != nil {
		return answer{}, err
	}
	return ok(len(tiers))
}
