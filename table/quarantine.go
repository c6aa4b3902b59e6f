package table

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/flagstone-shm/flagstone/internal/identity"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
)

// A child that was forked without exec has the lease in common with its parent, and
// keeps it when that dies. Its region is then in quarantine: what it held is taken from
// it, as the parent is provably gone and the child uses nothing of it, but nobody gets
// the region before the lease is free. PROTOCOL.md, "Regions".

// doubts are what is known of owners whose leases are held, so that their identities
// are asked for rarely.
type doubts struct {
	mu sync.Mutex // guards of
	of map[int]doubt
}

type doubt struct {
	generation uint32
	since      time.Time // of the first doubt
	asked      time.Time // zero: not yet
	gone       bool      // when last asked: words of a region that somebody overwrote may be put right
}

// asking says when an identity is asked for: so long after the first doubt, so often.
type asking struct{ after, every time.Duration }

var (
	// By who waits for a lock: after a living owner has been asked, and has looked at its
	// region by itself.
	waiting = asking{1500 * time.Millisecond, 100 * time.Millisecond}
	looking = asking{0, time.Second}
)

// due reports whether it is time to ask, or else what is known.
func (d *doubts) due(i int, generation uint32, a asking) (ask, gone bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, known := time.Now(), d.of[i]
	if known.generation != generation || known.since.IsZero() {
		known = doubt{generation: generation, since: now}
	}
	ask = now.Sub(known.since) >= a.after && now.Sub(known.asked) >= a.every
	if ask {
		known.asked = now
	}
	if d.of == nil {
		d.of = map[int]doubt{}
	}
	d.of[i] = known
	return ask, known.gone
}

func (d *doubts) settle(i int, generation uint32, gone bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.of[i]; known.generation == generation {
		known.gone = gone
		d.of[i] = known
	}
}

// gone reports whether the process that has region i in that generation provably
// exists no more, though its lease is held. Model: kept.pml.
func (t *reading) gone(i int, generation uint32, a asking) bool {
	ask, gone := t.doubts.due(i, generation, a)
	if !ask {
		return gone
	}
	fate, _, _ := t.fate(i, generation)
	t.doubts.settle(i, generation, fate == identity.Gone)
	return fate == identity.Gone
}

// fate asks for the process that has region i in that generation. The identity is its
// own if the region is CLAIMED in that generation before and, for who wants to name it, after.
func (t *reading) fate(i int, generation uint32) (identity.Fate, identity.Identity, error) {
	r, claimed := t.regionAt(i), packed(generation, layout.RegionClaimed)
	if r.State.Load() != claimed {
		return identity.Unknown, identity.Identity{}, nil
	}
	id := identity.Load(r)
	fate, err := id.Fate()
	if r.State.Load() != claimed || id.Pid == 0 || identity.Load(r) != id { // 0: its owner is putting it right
		return identity.Unknown, identity.Identity{}, nil
	}
	return fate, id, err
}

// living reports whether the handle that has region i in that generation is alive: its
// lease is held, and not by a child of the gone. Who cannot be asked counts as living.
func (t *reading) living(i int, generation uint32) bool {
	held, err := t.leaseHeld(i)
	return err != nil || held && (i == t.self || !t.gone(i, generation, looking))
}

// Describe says in words which process a lock token names and what keeps it, for
// errors; "" if nobody has its region in that generation. Some 50 us.
func (t *reading) Describe(token uint64) (text string) {
	region, generation, ok := lock.Region(token)
	if !ok || region >= t.header.Regions || shm.Forked() {
		return ""
	}
	var err error
	defer t.seg.Catch(shm.Guard(), &err)
	fate, id, why := t.fate(int(region), generation)
	switch {
	case fate == identity.Running:
		return fmt.Sprintf("pid %d, which runs", id.Pid)
	case fate == identity.Stopped:
		return fmt.Sprintf("pid %d, which is stopped", id.Pid)
	case fate == identity.Gone:
		if held, err := t.leaseHeld(int(region)); err == nil && !held {
			return fmt.Sprintf("pid %d, which is gone: the next who wants it takes it over", id.Pid)
		}
		return fmt.Sprintf("pid %d, which is gone: %s", id.Pid, t.keptBy())
	case why != nil:
		return fmt.Sprintf("pid %d of pid namespace %d, which may run or be stopped or, being gone, %s (%v)", id.Pid, id.PidNamespace, t.keptBy(), why)
	}
	return ""
}

// keptBy says who keeps the lease of the gone, and how to find out.
func (t *reading) keptBy() string {
	return fmt.Sprintf("its lease is kept by a child that it forked without exec; see fuser -v %s", t.control.Name())
}

// Keepers returns the processes that may keep the lease of one that is gone: they have
// the control file open, are this user's to look into, and none of the living handles
// is theirs. It looks at all processes' descriptors, some ms.
func (t *reading) Keepers() (pids []int, err error) {
	err = t.use(func() (err error) {
		pids, err = identity.Openers(t.control)
		return err
	})
	known := []int{os.Getpid()}
	for _, r := range t.Regions() {
		if r.Alive {
			known = append(known, int(r.Pid))
		}
	}
	return slices.DeleteFunc(pids, func(pid int) bool { return slices.Contains(known, pid) }), wrap(err, "who keeps leases of domain %s", t.name)
}

// takeBackOfGone takes back the entries that processes were making which are gone,
// while their leases are kept.
func (t *Table) takeBackOfGone() {
	for i := range int(t.header.Entries) {
		word := t.entryAt(i).State.Load()
		creator := creatorOf(word)
		if stateOf(word) != StateCreating || creator == t.self || creator < 0 || creator >= int(t.header.Regions) {
			continue
		}
		if state := t.regionAt(creator).State.Load(); uint32(state) == layout.RegionClaimed && t.gone(creator, generationOf(state), looking) {
			_ = t.takeBack(i, word) // not removed: stays for the next one
		}
	}
}
