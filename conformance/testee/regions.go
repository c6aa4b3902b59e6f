package main

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/table"
)

// member returns the handle's table, which a reader has not got.
func (s *session) member() (*table.Table, error) {
	if s.table == nil {
		return nil, fmt.Errorf("no region: %w", flagstone.ErrReadOnly)
	}
	return s.table, nil
}

// done returns the answer to a command that says nothing.
func done(err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	return ok()
}

// whether returns the answer to a command that did it or not.
func whether(yes bool, err error) (answer, error) {
	if err == nil && !yes {
		err = errNo
	}
	return done(err)
}

func peers(s *session, _ *line) (answer, error) {
	var rows []string
	for _, r := range s.control.Regions() {
		mode, _, _ := strings.Cut(r.Wake, " ")
		rows = append(rows, fmt.Sprintf("%d %d %d %d %s", r.Index, r.Generation, r.Pid, bit(r.Alive), mode))
	}
	return many(rows)
}

func reap(s *session, _ *line) (answer, error) {
	t, err := s.member()
	if err != nil {
		return answer{}, err
	}
	n, err := t.Reap()
	if err != nil {
		return answer{}, err
	}
	return ok(n)
}

func entries(s *session, _ *line) (answer, error) {
	var rows []string
	for _, e := range s.control.Entries() {
		rows = append(rows, fmt.Sprintf("%s %d %d %s %s %d %s",
			lower(e.State), e.Kind, e.Tier, hex16(e.SegmentID), hex16(e.Stack), e.Size, text([]byte(e.Name))))
	}
	return many(rows)
}

func (s *session) mutex(l *line) (*table.Mutex, error) {
	id := l.number(l.words[0])
	t, err := s.member()
	if l.err != nil {
		err = l.err
	}
	if err != nil {
		return nil, err
	}
	return t.Mutex(uint32(min(id, layout.MaxMutexes)))
}

func lockMutex(s *session, l *line) (answer, error) {
	m, err := s.mutex(l)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := l.waiting()
	defer cancel()
	_, err = m.Lock(ctx)
	return done(err)
}

func unlockMutex(s *session, l *line) (answer, error) {
	m, err := s.mutex(l)
	if err != nil {
		return answer{}, err
	}
	return done(m.Unlock(true))
}

func flags(s *session, l *line) (answer, error) {
	n := uint32(l.number(l.words[0]))
	t, err := s.member()
	if l.err != nil {
		err = l.err
	}
	if err != nil {
		return answer{}, err
	}
	return done(t.SetFlags(n, ^n))
}

// reason reads the number of an application's reason.
func (l *line) reason(w string) int {
	b := l.count(w)
	if b >= 32 {
		l.wrong("reason %d of 32", b)
	}
	return b
}

func ring(s *session, l *line) (answer, error) {
	region, b := l.count(l.words[0]), l.reason(l.words[1])
	t, err := s.member()
	if l.err != nil {
		err = l.err
	}
	if err != nil {
		return answer{}, err
	}
	err = t.Ring(region, layout.ReasonApplication<<b)
	if errors.Is(err, signal.ErrNotSent) { // the reason is there; its owner looks by itself
		err = nil
	}
	return done(err)
}

// listen gathers the application's reasons that came.
func (s *session) listen() {
	s.heard |= s.table.Reasons() >> bits.TrailingZeros64(layout.ReasonApplication)
}

func heard(s *session, _ *line) (answer, error) {
	t, err := s.member()
	if err != nil {
		return answer{}, err
	}
	s.listen()
	came := s.heard
	s.heard = 0
	for _, r := range t.Regions() {
		if r.Self {
			return ok(came, r.Acknowledged)
		}
	}
	return answer{}, fmt.Errorf("own region: %w", flagstone.ErrLost)
}

// await sleeps until its listener has something to tell.
func await(s *session, l *line) (answer, error) {
	b := uint64(1) << l.reason(l.words[0])
	t, err := s.member()
	if l.err != nil {
		err = l.err
	}
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := l.waiting()
	defer cancel()
	rung := make(chan struct{}, 1)
	_, end := t.Follow(func(uint64) {
		select {
		case rung <- struct{}{}:
		default:
		}
	})
	defer end()
	for s.listen(); s.heard&b == 0; s.listen() {
		select {
		case <-rung:
		case <-ctx.Done():
			return answer{}, fmt.Errorf("reason %d: %w", bits.TrailingZeros64(b), flagstone.ErrBusy)
		}
	}
	s.heard &^= b
	return ok()
}

func steward(s *session, _ *line) (answer, error) {
	h, there := s.control.Steward()
	if !there {
		return answer{}, errNo
	}
	return ok(h.Region)
}

func lead(s *session, _ *line) (answer, error) {
	t, err := s.member()
	if err != nil {
		return answer{}, err
	}
	return whether(t.Lead())
}

func resign(s *session, _ *line) (answer, error) {
	t, err := s.member()
	if err != nil {
		return answer{}, err
	}
	leading := t.Leading()
	return whether(leading, t.Resign())
}

func now(s *session, _ *line) (answer, error) {
	if s.table != nil {
		s.table.Tick()
	}
	return ok(s.control.Wall(), s.control.Now())
}
