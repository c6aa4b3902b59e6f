package table

import (
	"sync"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/internal/step"
	"github.com/flagstone-shm/flagstone/lock"
)

// stewardship is whether this handle is the domain's steward. The kernel would
// give the lease to each of its goroutines, and calls one's own free.
type stewardship struct {
	mu      sync.Mutex // guards the rest, and taking and giving back the two lock bytes
	leading bool
	byChild bool // leading while a child of an earlier one keeps StewardByte
	wanting bool
	vain    time.Time // until then WantedByte, held in vain, is not looked at

	word   uint64    // ControlHeader.Steward when it last named nobody who lives,
	vacant time.Time // as it has since; zero: it named somebody
}

// inVain is for how long a WantedByte that is held in vain is not looked at.
const inVain = time.Minute

// vacancy is for how long a lock byte has to be held while nobody leads, before it is
// taken for one that a child of the dead keeps: a steward writes its name within microseconds,
// and who wants to lead does within a second. Who is to be killed at what follows has
// no such patience.
var vacancy = map[bool]time.Duration{false: 2 * time.Second, true: 20 * time.Millisecond}[step.On]

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
// death of the process, and is then free at once; if a child keeps the dead one's lock,
// after 2 s in which this was called. One that was stopped may act on what it decided before, and
// two may lead for a moment when such a child ends: every step of a steward has to
// do no harm then. Who leads calls this again now and then, as it may have to make way.
// Some us. Its errors are ErrClosed, ErrDestroyed, ErrForked and ErrFault. PROTOCOL.md,
// "Steward".
func (t *Table) Lead() (leading bool, err error) {
	err = t.useLive(func() error {
		s := &t.steward
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.leading && !s.byChild {
			if t.stewardWord().Load() != t.token { // somebody's error: who succeeded meanwhile steps down
				t.stewardWord().Store(t.token) // pairs with the load in succeed
			}
			return nil
		}
		was := s.leading
		s.leading, err = tryLock(t.control, layout.StewardByte)
		if s.byChild = err == nil && !s.leading; s.byChild {
			s.byChild = t.succeed(was)
			s.leading = s.byChild
		} else if s.leading {
			t.stewardWord().Store(t.token) // pairs with the load in stewardNow
		}
		if s.leading != was {
			t.announce()
			t.ringPeers(layout.ReasonTable)
		}
		return err
	})
	return t.Leading(), wrap(err, "lead domain %s", t.name)
}

// succeed makes this handle the steward though StewardByte is held, if nobody who
// lives has led for long: one of all who find it so. Or, if it was that, reports whether
// it still is. The caller holds steward.mu.
func (t *Table) succeed(was bool) bool {
	word := t.stewardWord().Load()
	if was {
		return word == t.token // else whoever has the byte leads
	}
	return t.vacantFor(word) >= vacancy && t.stewardWord().CompareAndSwap(word, t.token) // pairs with the same of others, and the store in Lead
}

// vacantFor returns for how long, as far as this handle knows, the word has named
// nobody who lives. The caller holds steward.mu.
func (t *Table) vacantFor(word uint64) time.Duration {
	s := &t.steward
	switch _, led := t.named(word); {
	case led && (s.leading || word != t.token):
		s.vacant = time.Time{}
		return 0
	case s.vacant.IsZero() || s.word != word:
		s.word, s.vacant = word, time.Now()
	}
	return time.Since(s.vacant)
}

// Leading reports whether this handle is the steward.
func (t *Table) Leading() bool { return !shm.Forked() && t.steward.is() }

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

// Wanted reports whether another handle wants to be the steward: one that lives, as
// far as can be told, since it would lead if for long nobody did. About 1 us.
func (t *Table) Wanted() (yes bool) {
	_ = t.use(func() (err error) {
		s := &t.steward
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.wanting { // the kernel calls one's own lock free
			yes, err = lockedByOthers(t.control, layout.WantedByte, 1)
		}
		if yes && !s.leading && t.vacantFor(t.stewardWord().Load()) >= vacancy {
			s.vain = time.Now().Add(inVain)
		}
		yes = yes && time.Now().After(s.vain)
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
	// Before the lease: afterwards the word is the next one's, as it may be already if a
	// child had the lease.
	t.stewardWord().CompareAndSwap(t.token, 0)
	if !s.byChild {
		if err := unlock(t.control, layout.StewardByte); err != nil {
			return err
		}
	}
	s.leading, s.byChild = false, false
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
	h, ok := t.named(t.stewardWord().Load()) // pairs with the stores in Lead and resign
	if ok && h.Region == t.self {
		ok = t.steward.is() // of our own lock the kernel would say that it is free
	} else if ok {
		held, unanswered := lockedByOthers(t.control, layout.StewardByte, 1)
		ok = held || unanswered != nil
	}
	if !ok {
		return Holder{}, false
	}
	return h, true
}

// named returns the living handle that a steward's word names.
func (t *reading) named(word uint64) (h Holder, ok bool) {
	region, generation, ok := lock.Region(word)
	i := int(region)
	if !ok || region >= t.header.Regions || t.regionAt(i).State.Load() != packed(generation, layout.RegionClaimed) {
		return Holder{}, false
	}
	return Holder{i, generation}, t.living(i, generation)
}
