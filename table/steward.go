package table

import (
	"sync"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
)

// stewardship is whether this handle is the domain's steward. The kernel would
// give the lease to each of its goroutines, and calls one's own free.
type stewardship struct {
	mu      sync.Mutex // guards the rest, and taking and giving back the two lock bytes
	leading bool
	wanting bool
}

func (s *stewardship) is() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leading
}

func (t *reading) stewardWord() *layout.Uint64 {
	return &shm.At[layout.ControlHeader](t.win, 0).Steward
}

// Lead makes this handle the domain's steward unless another is, and reports
// whether it is now. It does not wait. The office ends with Resign, Close, or the
// death of the process, and is then free at once. Two stewards at a time there
// cannot be, but one that was stopped may act on what it decided before: every
// step of a steward has to do no harm then. Some us. Its errors are ErrClosed,
// ErrDestroyed and ErrFault. PROTOCOL.md, "Steward".
func (t *Table) Lead() (leading bool, err error) {
	err = t.useLive(func() error {
		s := &t.steward
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.leading {
			return nil
		}
		s.leading, err = tryLock(t.control, layout.StewardByte)
		if err != nil || !s.leading {
			return err
		}
		t.stewardWord().Store(t.token) // pairs with the load in stewardNow
		t.announce()
		t.ringPeers(layout.ReasonTable)
		return nil
	})
	return t.Leading(), wrap(err, "lead domain %s", t.name)
}

// Leading reports whether this handle is the steward.
func (t *Table) Leading() bool { return t.steward.is() }

// Want lets a steward that has no duties of its own know that this handle has some, and
// would be it; false takes that back, as does Close. One handle at a time can want.
// About 2 us. PROTOCOL.md, "Steward".
func (t *Table) Want(yes bool) error {
	return wrap(t.use(func() (err error) {
		s := &t.steward
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case s.wanting == yes:
		case yes:
			s.wanting, err = tryLock(t.control, layout.WantedByte)
		default:
			if err = unlock(t.control, layout.WantedByte); err == nil {
				s.wanting = false
			}
		}
		return err
	}), "want to lead domain %s", t.name)
}

// Wanted reports whether another handle wants to be the steward. About 1 us.
func (t *Table) Wanted() (yes bool) {
	_ = t.use(func() (err error) {
		s := &t.steward
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.wanting { // the kernel calls one's own lock free
			yes, err = lockedByOthers(t.control, layout.WantedByte, 1)
		}
		return err
	})
	return yes
}

// Resign gives the office back and wakes all, so that another may Lead. Who is not
// the steward has nothing to give back.
func (t *Table) Resign() error {
	return wrap(t.use(t.resign), "resign as steward of domain %s", t.name)
}

func (t *Table) resign() error {
	s := &t.steward
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.leading {
		return nil
	}
	t.stewardWord().Store(0) // before the lease: afterwards the word is the next one's
	if err := unlock(t.control, layout.StewardByte); err != nil {
		return err
	}
	s.leading = false
	t.announce()
	t.ringPeers(layout.ReasonTable)
	return nil
}

// Steward returns the handle that is the domain's steward; ok is false if there is
// none, or one so new that its name is not written yet. About 2 us.
func (t *reading) Steward() (h Holder, ok bool) {
	_ = t.use(func() error {
		h, ok = t.stewardNow()
		return nil
	})
	return h, ok
}

// stewardNow believes the word only of a living handle, while the lease is held:
// it may be left by the dead. Who cannot be asked counts as living.
func (t *reading) stewardNow() (Holder, bool) {
	region, generation, ok := lock.Region(t.stewardWord().Load()) // pairs with the stores in Lead and resign
	i := int(region)
	if !ok || region >= t.header.Regions || t.regionAt(i).State.Load() != packed(generation, layout.RegionClaimed) {
		return Holder{}, false
	}
	if i == t.self {
		ok = t.steward.is() // of our own lock the kernel would say that it is free
	} else {
		alive, unknown := t.leaseHeld(i)
		held, unanswered := lockedByOthers(t.control, layout.StewardByte, 1)
		ok = (alive || unknown != nil) && (held || unanswered != nil)
	}
	if !ok {
		return Holder{}, false
	}
	return Holder{i, generation}, true
}
