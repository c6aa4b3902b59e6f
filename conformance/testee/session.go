package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"syscall"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/inside"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// errNoHandle says that nothing is open.
var errNoHandle = fmt.Errorf("no handle is open: %w", flagstone.ErrClosed)

// session is the one handle that a testee has.
type session struct {
	domain  *flagstone.Cache // the handle
	cache   *flagstone.Cache // the stack that commands are about: the domain's, or an independent slab's
	under   inside.Cache     // what lies under cache
	control control
	table   *table.Table   // nil for a reader
	close   []func() error // in this order

	held  *slab.Locked // by hold
	heard uint64       // application's reasons not yet asked for
}

// control is what a handle and a reader both see of the control segment.
type control interface {
	Entries() []table.Entry
	Regions() []table.Region
	Steward() (table.Holder, bool)
	Wall() uint64
	Now() uint64
}

func hello(*session, *line) (answer, error) {
	return ok("flagstone-conformance", 1, "go", "full", layout.Major, layout.Minor, fmt.Sprintf("%016x", uint64(layout.Fingerprint)))
}

// patience is how long whatever has no option to say so may take.
const patience = 5000 * time.Millisecond

// waiting returns the context in which a command waits for locks.
func (l *line) waiting() (context.Context, context.CancelFunc) {
	wait := l.option("wait", uint64(patience/time.Millisecond))
	return context.WithTimeout(context.Background(), time.Duration(min(wait, math.MaxInt64/uint64(time.Millisecond)))*time.Millisecond)
}

func open(s *session, l *line) (answer, error) {
	o := flagstone.Options{
		Dir: l.words[0], MustExist: l.option("create", 1) == 0, ReadOnly: l.option("read", 0) == 1, Group: l.option("group", 0) == 1,
		Entries: l.option("entries", 0), CellSize: l.size("cell"), MaxKey: l.size("maxkey"), MaxValue: l.size("maxvalue"),
		Shards: l.size("shards"), Regions: l.size("regions"), NoPromotion: l.option("promote", 1) == 0,
		Order:     choice(l, "order", flagstone.LRU, map[string]flagstone.Order{"lru": flagstone.LRU, "s3fifo": flagstone.S3FIFO}),
		OnFull:    choice(l, "full", flagstone.Evict, map[string]flagstone.Policy{"evict": flagstone.Evict, "refuse": flagstone.Refuse}),
		Wake:      signal.Options{Mode: choice(l, "wake", signal.ModePoll, map[string]signal.Mode{"poll": signal.ModePoll, "futex": signal.ModeFutex, "signal": signal.ModeSignal}), Signal: syscall.SIGUSR1},
		Steward:   flagstone.StewardOptions{Off: l.option("steward", 0) == 0},
		Precision: time.Duration(l.option("stamp", layout.MaxStampMillis)%(layout.MaxStampMillis+1)+1) * time.Millisecond,
	}
	if _, given := l.options["stamp"]; !given {
		o.Precision = 0
	} else if l.option("stamp", 0) >= layout.MaxStampMillis {
		l.wrong("stamp beyond %d", layout.MaxStampMillis-1)
	}
	var name string
	if w, given := l.options["slab"]; given {
		name = string(l.bytes(w))
		o.MustExist = true
	}
	if s.cache != nil {
		l.wrong("a handle is open already")
	}
	if l.err != nil {
		return answer{}, l.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.enter(ctx, l.words[1], o, name); err != nil {
		return answer{}, errors.Join(err, s.leave())
	}
	if s.table == nil {
		return ok("-", "-")
	}
	return ok(s.table.Self(), s.table.Token()>>layout.LockGenerationShift)
}

func (s *session) enter(ctx context.Context, name string, o flagstone.Options, slabName string) error {
	c, err := flagstone.Open(ctx, name, o)
	if err != nil {
		return err
	}
	s.domain, s.cache, s.close = c, c, append(s.close, c.Close)
	if s.table = c.Table(); s.table != nil {
		s.control = s.table
	} else {
		r, err := table.Inspect(table.Options{Dir: o.Dir, Name: name, Group: o.Group})
		if err != nil {
			return err
		}
		s.control, s.close = r, append(s.close, r.Close)
	}
	if slabName != "" {
		of, err := c.OpenSlab(ctx, slabName)
		if err != nil {
			return err
		}
		s.cache = of.Cache()
	}
	s.under = inside.Of(s.cache)
	return nil
}

// wall returns the clock by which the handle judges expiry.
func (s *session) wall() uint64 {
	if s.table == nil {
		return uint64(time.Now().UnixMilli())
	}
	return s.table.Wall()
}

// leave closes what is open.
func (s *session) leave() (err error) {
	if s.held != nil {
		err = s.held.Unlock()
	}
	for _, f := range s.close {
		err = errors.Join(err, f())
	}
	*s = session{}
	return err
}

func shut(s *session, _ *line) (answer, error) {
	if err := s.leave(); err != nil {
		return answer{}, err
	}
	return ok()
}

func destroy(_ *session, l *line) (answer, error) {
	ctx, cancel := l.waiting()
	defer cancel()
	if err := flagstone.Destroy(ctx, l.words[0], l.words[1]); err != nil {
		return answer{}, err
	}
	return ok()
}

func gc(_ *session, l *line) (answer, error) {
	found, err := table.Collect(table.CollectOptions{Dir: l.words[0], Unused: true})
	n := 0
	for _, f := range found {
		n += bit(f.Removed)
		err = errors.Join(err, f.Err)
	}
	if err != nil {
		return answer{}, err
	}
	return ok(n)
}

func list(_ *session, l *line) (answer, error) {
	names, err := table.List(l.words[0])
	if err != nil {
		return answer{}, err
	}
	return many(names)
}

// lower returns a word of a snapshot as the protocol writes it.
func lower(s fmt.Stringer) string { return strings.ToLower(s.String()) }
