package table

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/flagstone-shm/flagstone/internal/identity"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
	"github.com/flagstone-shm/flagstone/signal"
)

// ReasonApplication is the first of the 32 reasons for ringing that applications
// may use.
const ReasonApplication = layout.ReasonApplication

// Holder names a handle: a region and the generation it has it in.
type Holder struct {
	Region     int
	Generation uint32
}

// Region is a snapshot of a peer's region, or of one's own.
type Region struct {
	Index        int
	Generation   uint32
	Alive        bool // its lease is held, and its process not provably gone
	Quarantined  bool // its process is gone, but a child that it forked without exec keeps its lease
	Self         bool // it is this handle's
	Pid          uint32
	UID          uint32
	PidNamespace uint64 // what Pid is counted in
	Acknowledged uint64 // the Changes value of its newest view
	Flags        uint32 // the application's state flags
	Wake         string // how it is woken
	Joined       time.Time
	Held         []HeldMutex
	Mapped       []uint64 // segment ids
	Counters     [32]uint64
}

// HeldMutex is a mutex that a process holds, or waits for if not Owned.
type HeldMutex struct {
	ID    uint32
	Owned bool
}

// packed puts a generation over a state, as in Region.State and Entry.State.
func packed(generation, state uint32) uint64 {
	return uint64(generation)<<layout.StateGenerationShift | uint64(state)
}

func generationOf(word uint64) uint32 { return uint32(word >> layout.StateGenerationShift) }

func (t *reading) regionAt(i int) *layout.Region {
	return shm.At[layout.Region](t.win, t.header.region(i))
}

func (t *reading) heldWord(i, slot int) *layout.Uint64 {
	return shm.At[layout.Uint64](t.win, t.header.held(i, slot))
}

func (t *reading) mappedWord(i, slot int) *layout.Uint64 {
	return shm.At[layout.Uint64](t.win, t.header.mapped(i, slot))
}

// claim takes a region: a free one, else one whose owner is dead. PROTOCOL.md,
// "Regions".
func (t *Table) claim(ctx context.Context) error {
	n := int(t.header.Regions)
	start := rand.IntN(n)
	for looked := false; ; looked = true {
		claimed, err := t.claimOne(ctx, start)
		if claimed || err != nil {
			return err
		}
		// Who collects takes all leases, under the init byte, to see whether they are free.
		busy, err := lockedByOthers(t.control, layout.InitByte, 1)
		switch {
		case busy || err != nil:
			return orElse(err, errMoved)
		case looked: // after one who collected had gone
			return t.crowded(ctx)
		}
	}
}

// claimOne tries the regions from start on.
func (t *Table) claimOne(ctx context.Context, start int) (claimed bool, err error) {
	n := int(t.header.Regions)
	for attempt := range readAttempts {
		changing := attempt == 0 // somebody is leaving, reaping or claiming; look twice in any case
		for k := range 2 * n {
			i := (start + k) % n
			state := uint32(t.regionAt(i).State.Load())
			if k < n && state != layout.RegionFree {
				continue
			}
			ok, err := tryLock(t.control, leaseByte(i))
			if err != nil {
				return false, err
			}
			if ok {
				return true, t.settle(i)
			}
			changing = changing || state != layout.RegionClaimed
		}
		if !changing || pause(ctx, time.Millisecond) != nil {
			break
		}
	}
	return false, nil
}

// crowded says why there is no region, and what helps.
func (t *Table) crowded(ctx context.Context) error {
	n, kept := int(t.header.Regions), 0
	for i := range n {
		if state := t.regionAt(i).State.Load(); uint32(state) == layout.RegionClaimed && !t.living(i, generationOf(state)) {
			kept++
		}
	}
	text := fmt.Sprintf("one needed, all %d are in use: close a handle, or destroy the domain and make it with more Regions", n)
	if kept > 0 {
		text += fmt.Sprintf("; of %d the process is gone, and %s", kept, t.keptBy())
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w: %s: %w", t.control.Name(), ErrNoRegion, text, err)
	}
	return fmt.Errorf("%s: %w: %s", t.control.Name(), ErrNoRegion, text)
}

// settle makes region i ours. Its lease is held: if the region is not free, its
// owner or its reaper is dead.
func (t *Table) settle(i int) error {
	r := t.regionAt(i)
	t.self, t.region = i, r
	if uint32(r.State.Load()) != layout.RegionFree {
		t.reap(i)
	}
	id, err := identity.Self()
	if err != nil {
		return err
	}
	t.identity = id
	t.generation = generationOf(r.State.Load()) + 1
	if t.generation == 0 {
		t.generation = 1
	}
	t.token = lock.Token(uint32(i), t.generation)
	// The new generation comes first: from here on locks of the old one are dead,
	// though the lease is held. Pairs with the load in Dead.
	r.State.Store(packed(t.generation, layout.RegionReaping))
	t.clean(i)
	id.Store(r)
	r.Joined.Store(t.clock.Wall())
	for n := range r.Counters {
		r.Counters[n].Store(0) // they are, unless the region was damaged
	}
	r.State.Store(packed(t.generation, layout.RegionClaimed)) // pairs with the loads in Ring and Regions
	return nil
}

// clean empties what a region says of its owner. The caller has its lease.
func (t *Table) clean(i int) {
	r := t.regionAt(i)
	r.WakeMode.Store(layout.WakePoll)
	r.Sleeping.Store(0)
	r.WakeSignal.Store(0)
	r.WakeThread.Store(0)
	r.Flags.Store(0)
	r.Acknowledged.Store(0)
	r.Reasons.Store(0)
	t.clearReserved(t.header.region(i), reservedInRegion)
	for slot := range int(t.header.Held) {
		t.heldWord(i, slot).Store(0)
	}
	for slot := range int(t.header.Mapped) {
		t.mappedWord(i, slot).Store(0)
	}
}

var (
	reservedInRegion = layout.Structs["Region"].Reserved()
	reservedInEntry  = layout.Structs["Entry"].Reserved()
)

// clearReserved takes away what a peer of a later minor version left in a struct
// that gets a new owner. PROTOCOL.md, "Versions and constants".
func (t *reading) clearReserved(at uint64, spans []layout.Span) {
	for _, s := range spans {
		t.win.Zero(at+s.Offset, s.N)
	}
}

// release makes our region free. The lease goes with the descriptor, afterwards.
func (t *Table) release() {
	t.region.State.Store(packed(t.generation, layout.RegionFree))
}

// reap cleans up after the owner of region i, whose lease the caller holds. It
// may die at any step: then the lease is free again, the state still not FREE,
// and the next one begins anew. PROTOCOL.md, "Regions", Reap.
func (t *Table) reap(i int) {
	r := t.regionAt(i)
	generation := generationOf(r.State.Load())
	r.State.Store(packed(generation, layout.RegionReaping))
	t.repairEntries(i)
	t.clean(i)
	t.fold(i)
	identity.Identity{}.Store(r)
	r.State.Store(packed(generation, layout.RegionFree))
	t.announce()
}

// Reap cleans up after dead handles: their regions become free, the directory
// entries they were making too, segments that they alone kept are recycled. It
// returns how many it found. Anybody may call it at any time; some 1 us per
// region in use.
func (t *Table) Reap() (reaped int, err error) {
	err = t.use(func() error {
		t.reassert()
		reaped, err = t.reapAll()
		return err
	})
	return reaped, err
}

func (t *Table) reapAll() (reaped int, err error) {
	t.reaping.Lock()
	defer t.reaping.Unlock()
	for i := range int(t.header.Regions) {
		// Our own lease must not be asked for: we would get it, and lose it.
		if i == t.self || uint32(t.regionAt(i).State.Load()) == layout.RegionFree {
			continue
		}
		ok, err := tryLock(t.control, leaseByte(i))
		if err != nil {
			return reaped, err
		}
		if !ok {
			continue
		}
		if uint32(t.regionAt(i).State.Load()) != layout.RegionFree {
			t.reap(i)
			reaped++
		}
		if err := unlock(t.control, leaseByte(i)); err != nil {
			return reaped, err
		}
	}
	t.repairEntries(none)
	t.takeBackOfGone()
	t.recycle()
	if reaped > 0 {
		t.ringPeers(layout.ReasonTable)
	}
	return reaped, nil
}

// leaseHeld reports whether region i has a living owner or reaper.
func (t *reading) leaseHeld(i int) (bool, error) {
	if i == t.self {
		return true, nil // the kernel would say that our own lock is free
	}
	return lockedByOthers(t.control, leaseByte(i), 1)
}

// Dead reports whether the handle that a lock token names is provably dead: its
// region is not CLAIMED in that generation, or its lease is free, or a child keeps that
// and the process is gone. This handle's own token is never dead, nor is anybody if the
// kernel does not answer. About 1 us; every 0.1 s that an owner is asked about, 20 us.
func (t *Table) Dead(token uint64) (dead bool) {
	region, generation, _ := lock.Region(token)
	if region >= t.header.Regions {
		return true // no such handle, or no owner at all
	}
	i := int(region)
	if i == t.self {
		return generation != t.generation
	}
	var err error
	defer t.seg.Catch(shm.Guard(), &err)
	if shm.Forked() {
		return false
	}
	if t.regionAt(i).State.Load() != packed(generation, layout.RegionClaimed) { // pairs with the stores in settle
		return t.stop.Err() == nil // after Close the memory reads as zeros
	}
	// That generation was written under the lease, and is still there: so a free
	// lease was given up by it, or by a reaper after it.
	held, err := t.leaseHeld(i)
	return err == nil && (!held || t.gone(i, generation, waiting))
}

// Regions returns a snapshot of all regions in use, the dead ones that nobody has
// cleaned up yet included. About 1 us each.
func (t *reading) Regions() []Region {
	var all []Region
	_ = t.use(func() error {
		for i := range int(t.header.Regions) {
			if r, ok := t.readRegion(i); ok {
				all = append(all, r)
			}
		}
		return nil
	})
	return all
}

// readRegion takes a snapshot; ok is false if the region is not in use.
func (t *reading) readRegion(i int) (s Region, ok bool) {
	r := t.regionAt(i)
	for range readAttempts {
		state := r.State.Load()
		if uint32(state) != layout.RegionClaimed {
			return s, false
		}
		id := identity.Load(r)
		s = Region{
			Index: i, Generation: generationOf(state), Self: i == t.self,
			Pid: id.Pid, UID: id.UID, PidNamespace: id.PidNamespace,
			Acknowledged: r.Acknowledged.Load(), Flags: r.Flags.Load(),
			Wake: wakeName(r.WakeMode.Load(), r.WakeSignal.Load()), Joined: fromMillis(r.Joined.Load()),
		}
		for slot := range int(t.header.Held) {
			if word := t.heldWord(i, slot).Load(); uint32(word) != layout.HeldNone {
				s.Held = append(s.Held, HeldMutex{uint32(word >> 32), uint32(word) == layout.HeldOwned})
			}
		}
		for slot := range int(t.header.Mapped) {
			if id := t.mappedWord(i, slot).Load(); id != 0 {
				s.Mapped = append(s.Mapped, id)
			}
		}
		for n := range s.Counters {
			s.Counters[n] = r.Counters[n].Load()
		}
		held, err := t.leaseHeld(i)
		s.Quarantined = held && !s.Self && t.gone(i, s.Generation, looking)
		s.Alive = (held || err != nil) && !s.Quarantined
		if r.State.Load() == state {
			return s, true
		}
	}
	return s, false // changes hands all the time: not in use for long
}

// readAttempts bounds how often a snapshot is begun again.
const readAttempts = 16

func wakeName(mode, sig uint32) string {
	switch mode {
	case layout.WakePoll:
		return "poll"
	case layout.WakeFutex:
		return "futex"
	case layout.WakeSignal:
		return fmt.Sprintf("signal %d", sig)
	}
	return fmt.Sprintf("unknown mode %d", mode)
}

func fromMillis(ms uint64) time.Time { return time.UnixMilli(int64(ms)) }

// SetFlags sets and clears state flags of this handle's region, which the peers
// see in Regions and Watch. Flags in both are set.
func (t *Table) SetFlags(set, clear uint32) error {
	return t.useLive(func() error {
		for {
			old := t.region.Flags.Load()
			if old&^clear|set == old {
				return nil
			}
			if t.region.Flags.CompareAndSwap(old, old&^clear|set) { // goroutines of this handle
				break
			}
		}
		t.announce()
		t.ringPeers(layout.ReasonTable)
		return nil
	})
}

// Count publishes the value of one of the counters of this handle's region,
// 0 to 31; those of layout.Counter* are the cache's. It is a store.
func (t *Table) Count(counter int, value uint64) {
	_ = t.use(func() error {
		if uint(counter) < uint(len(t.region.Counters)) {
			t.region.Counters[counter].Store(value)
		}
		return nil
	})
}

// announce tells everybody that something changed. It pairs with the load of
// Changes that comes before every scan.
func (t *Table) announce() { t.words.Changes.Add(1) }

// Ring rings the doorbell of a region. The owner finds the reason in Reasons even
// if the wake-up itself could not be sent, which signal.ErrNotSent reports.
func (t *Table) Ring(region int, reason uint64) error {
	return t.use(func() error {
		if region < 0 || region >= int(t.header.Regions) {
			return fmt.Errorf("ring region %d of %d: %w", region, t.header.Regions, ErrOptions)
		}
		return t.ring(signal.NewRinging(), region, reason)
	})
}

// RingAll rings the doorbells of all regions in use.
func (t *Table) RingAll(reason uint64) {
	_ = t.use(func() error {
		_ = t.ring(signal.NewRinging(), t.self, reason)
		t.ringPeers(reason)
		return nil
	})
}

// ringPeers rings all others, and wakes the watchers of this handle. Peers that
// could not be woken find out by polling.
func (t *Table) ringPeers(reason uint64) {
	ringing := signal.NewRinging()
	for i := range int(t.header.Regions) {
		if i != t.self && uint32(t.regionAt(i).State.Load()) == layout.RegionClaimed { // pairs with the last store in settle
			_ = t.ring(ringing, i, reason)
		}
	}
	t.news.wake()
}

func (t *Table) ring(ringing *signal.Ringing, i int, reason uint64) error {
	return ringing.Ring(t.regionAt(i), reason, func() bool {
		held, err := t.leaseHeld(i)
		return err == nil && held
	})
}
