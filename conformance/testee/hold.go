package main

import (
	"fmt"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/inside"
)

func hold(s *session, l *line) (answer, error) {
	k := l.key(l.words[0])
	if s.held != nil {
		l.wrong("a lock is held already")
	}
	if l.err != nil {
		return answer{}, l.err
	}
	ctx, cancel := l.waiting()
	defer cancel()
	return done(s.under.Update(ctx, func(v inside.View) error {
		k, _, err := k.in(ctx, v, true)
		if err == nil {
			s.held, err = v.LockKey(ctx, k)
		}
		return err
	}))
}

func drop(s *session, _ *line) (answer, error) {
	if s.held == nil {
		return answer{}, fmt.Errorf("drop: %w", flagstone.ErrNotHeld)
	}
	held := s.held
	s.held = nil
	return done(held.Unlock())
}
