package main

import (
	"context"
	"math"

	"github.com/flagstone-shm/flagstone/internal/inside"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
)

func claim(s *session, l *line) (answer, error) {
	k, timeout := l.key(l.words[0]), l.number(l.words[1])
	if l.err != nil {
		return answer{}, l.err
	}
	ctx, cancel := l.waiting()
	defer cancel()
	if s.table != nil {
		s.table.Tick()
	}
	var value []byte
	var found, won bool
	var there slab.Claim
	err := s.under.Update(ctx, func(v inside.View) error {
		k, _, err := k.in(ctx, v, true)
		if err == nil {
			value, found, won, there, err = v.Claim(ctx, nil, k, s.control.Now()+min(timeout, math.MaxInt64))
		}
		return err
	})
	switch {
	case err != nil:
		return answer{}, err
	case won:
		return ok("claim", there.Version)
	case found:
		return ok("value", text(value))
	case there.State == slab.Failed:
		return ok("failed", text([]byte(there.Text)))
	}
	return ok("held")
}

// end ends the claim that the second word names.
func (s *session) end(l *line, do func(ctx context.Context, v inside.View, k slab.Key, claim uint64) error) error {
	k, version := l.key(l.words[0]), l.number(l.words[1])
	if l.err != nil {
		return l.err
	}
	ctx, cancel := l.waiting()
	defer cancel()
	return s.under.Update(ctx, func(v inside.View) error {
		k, _, err := k.in(ctx, v, true)
		if err == nil {
			err = do(ctx, v, k, version)
		}
		return err
	})
}

func fill(s *session, l *line) (answer, error) {
	if l.option("tier", 0) != 0 {
		return answer{}, errUnsupported
	}
	it, err := s.item(l, l.bytes(l.words[2]))
	if err != nil {
		return answer{}, err
	}
	var version uint64
	err = s.end(l, func(ctx context.Context, v inside.View, k slab.Key, claim uint64) (err error) {
		version, err = v.Fill(ctx, k, claim, &it)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return ok(version)
}

func release(s *session, l *line) (answer, error) {
	err := s.end(l, func(ctx context.Context, v inside.View, k slab.Key, claim uint64) error {
		return v.Release(ctx, k, claim)
	})
	if err != nil {
		return answer{}, err
	}
	return ok()
}

func fail(s *session, l *line) (answer, error) {
	words, until := l.bytes(l.words[2]), min(l.option("until", 0), layout.ExpiryMask)
	err := s.end(l, func(ctx context.Context, v inside.View, k slab.Key, claim uint64) error {
		return v.Fail(ctx, k, claim, string(words), until)
	})
	if err != nil {
		return answer{}, err
	}
	return ok()
}
