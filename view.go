package flagstone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// attach makes the first view: it finds the stack's tier 0, or makes it.
func (c *Cache) attach(ctx context.Context, g slab.Geometry, mustExist bool) error {
	err := c.refresh(nil, ByCall)
	if !errors.Is(err, ErrNotFound) || mustExist || c.control == nil {
		return err
	}
	// One of many first openers makes the slab; it may die, and the next finds none.
	return c.control.Exclusive(ctx, func() error {
		if err := c.refresh(nil, ByCall); !errors.Is(err, ErrNotFound) {
			return err
		}
		if _, err := c.create(c.slabName, 0, 0, g); err != nil {
			return err
		}
		return c.refresh(nil, ByCall)
	})
}

// create makes and publishes a slab. Stack is the segment id of the tier 0 that it is
// to be a tier of; 0 makes it a tier 0.
func (c *Cache) create(name string, stack uint64, tier uint32, g slab.Geometry) (e table.Entry, err error) {
	r, err := c.control.Reserve(table.Spec{
		Kind: table.KindSlab, Stack: stack, Tier: tier, Name: name, Size: g.FileSize(),
		Params: [4]uint64{uint64(g.Shards), uint64(g.Cells), uint64(g.CellSize), g.Capacity},
	})
	if err != nil {
		return e, err
	}
	seg, err := r.Create()
	if err != nil {
		return e, errors.Join(err, r.Abort())
	}
	id := r.Entry().SegmentID
	if err = slab.Format(seg, g, c.identity(id), c.table.Wall()); err == nil {
		e, err = r.Publish()
	}
	if err != nil {
		err = errors.Join(err, r.Abort())
	}
	c.control.Detach(id)
	return e, errors.Join(err, seg.Close())
}

func (c *Cache) identity(segment uint64) slab.Identity {
	return slab.Identity{SegmentID: segment, Domain: c.table.UUID(), HashSeed: c.table.HashSeed()}
}

// view is what a handle knows of the directory.
type view struct {
	changes uint64 // loaded before the directory was read (publish.pml BREAK_VIEW)
	slab    *slab.Stack
	tiers   []tier // of the stack, in the order of the search
}

// tier is a slab of the view with its directory entry.
type tier struct {
	entry table.Entry
	slab  *slab.Slab
}

// tier returns the view's slab with that segment id.
func (v *view) tier(segment uint64) (tier, bool) {
	for _, t := range v.tiers {
		if t.entry.SegmentID == segment {
			return t, true
		}
	}
	return tier{}, false
}

// within reports whether all slabs of the view are among the entries.
func (v *view) within(entries []table.Entry) bool {
	for _, t := range v.tiers {
		if !slices.ContainsFunc(entries, func(e table.Entry) bool { return e.SegmentID == t.entry.SegmentID }) {
			return false
		}
	}
	return true
}

// How says how a handle heard of a change in the directory.
type How int

// Ways to hear of a change.
const (
	ByCall   How = iota + 1 // it was this handle's own, or Open
	BySignal                // SIGUSR1, or the signal chosen
	ByFutex                 // its doorbell
	ByPoll                  // its own look, each tick
	ByMiss                  // a lookup that was about to miss
	ByWrite                 // a write, under the lock
)

// String returns the word for it.
func (h How) String() string {
	if names := []string{"call", "signal", "futex", "poll", "miss", "write"}; h >= 1 && int(h) <= len(names) {
		return names[h-1]
	}
	return "unknown"
}

// refresh makes a view in place of old, which other goroutines may have replaced
// already. The value of `changes` is loaded before the directory is read, so a
// slab published later makes the view look stale (publish.pml BREAK_VIEW). A slab
// that cannot be attached is no reason to fail: the view says so to what needs it.
func (c *Cache) refresh(old *view, how How) error {
	next, err := c.replace(old)
	if next != nil && old != nil {
		c.tellSlabs(old, next, how)
	}
	return err
}

// replace is refresh, and returns the new view, if there is one, to be told about
// without the lock.
func (c *Cache) replace(old *view) (next *view, err error) {
	if err := c.forked(); err != nil {
		return nil, err
	}
	c.refreshing.Lock()
	defer c.refreshing.Unlock()
	if c.ended != nil {
		return nil, c.ended
	}
	if c.view.Load() != old {
		return nil, nil
	}
	next = &view{changes: c.table.Changes()} // before the look that refuses handles whose path led elsewhere, which count too
	if err := c.table.Usable(); err != nil {
		return nil, err
	}
	if old != nil && next.changes == old.changes && old.slab.Missing == nil {
		return nil, nil
	}
	entries := c.stackEntries(c.stack)
	if len(entries) == 0 {
		switch {
		case old == nil:
			return nil, fmt.Errorf("%w: domain %s has no slab %q", ErrNotFound, c.table.Name(), c.slabName)
		case c.slabName == primary:
			return nil, fmt.Errorf("%w: slab %q, %016x, was retired", ErrDestroyed, c.slabName, c.stack)
		}
		c.ended = fmt.Errorf("%w: slab %q, %016x", ErrRetired, c.slabName, c.stack)
		// When no goroutine of this process can hold a lock of theirs any more.
		c.dismissed.Go(func() { _ = c.shutOne(c) })
		return &view{changes: next.changes, slab: old.slab}, c.ended
	}
	// A slab is RETIRED before the directory has changed. Who lets go of it in between
	// has two views that compare alike, and a writer with the older one does not notice
	// (close.pml BREAK_SAME).
	if old != nil && next.changes == old.changes && !old.within(entries) {
		return nil, nil
	}
	o := c.stackOptions
	o.Changes, o.Seen = c.changesWord, next.changes
	next.tiers = make([]tier, 0, len(entries))
	tiers := make([]slab.Tier, 0, len(entries))
	for i, e := range entries {
		if i == layout.MaxTiers { // a foreign grower's
			o.Missing = fmt.Errorf("%w: %d slabs in the stack, the most are %d", ErrUnattached, len(entries), layout.MaxTiers)
			break
		}
		t, known := tier{}, false
		if old != nil {
			t, known = old.tier(e.SegmentID)
		}
		if !known {
			t.slab, err = c.open(e, next)
			switch {
			case err == nil:
			case i == 0:
				return nil, err
			case c.table.Retired(e): // meanwhile: then it is empty
				continue
			default:
				o.Missing = fmt.Errorf("%w: slab %q, tier %d: %w", ErrUnattached, e.Name, e.Tier, err)
			}
			if err != nil {
				break
			}
		}
		t.entry = e
		next.tiers = append(next.tiers, t)
		st := slab.Tier{Slab: t.slab}
		if i > 0 {
			st.State, st.Open = c.table.StateWord(e), e.OpenWord()
		}
		tiers = append(tiers, st)
	}
	if entries[0].State == table.StateDraining { // what is found still counts, a miss and a write do not
		o.Missing = errors.Join(fmt.Errorf("%w: slab %q, %016x", ErrRetired, c.slabName, c.stack), o.Missing)
	}
	next.slab = slab.NewStack(o, tiers...)
	if c.stack == 0 {
		c.stack = entries[0].SegmentID
	}
	c.view.Store(next)
	c.table.Acknowledge(next.changes)
	if old != nil {
		c.dismiss(old, next)
	}
	return next, nil
}

// stackEntries returns the published entries of a stack, by the segment id of its tier
// 0, or 0 if only its name is known, in the order of the search; none if there is no
// tier 0, or another one than there was.
func (c *Cache) stackEntries(stack uint64) (found []table.Entry) {
	found = c.table.Entries()
	for i := range found {
		e := &found[i]
		if stack == 0 && e.Kind == table.KindSlab && e.Tier == 0 && e.Stack == e.SegmentID && e.Name == c.slabName && e.State.Published() {
			stack = e.SegmentID
		}
	}
	found = slices.DeleteFunc(found, func(e table.Entry) bool {
		// No entry but the stack's own is its tier 0, whatever it says.
		return e.Kind != table.KindSlab || e.Stack != stack || !e.State.Published() || stack == 0 || e.Tier == 0 && e.SegmentID != stack
	})
	slices.SortFunc(found, func(a, b table.Entry) int {
		return cmp.Or(cmp.Compare(a.Tier, b.Tier), cmp.Compare(a.SegmentID, b.SegmentID))
	})
	if len(found) == 0 || found[0].SegmentID != stack {
		return nil
	}
	// Two entries of one slab, by somebody's error: as two tiers its records would be in
	// both, and go from one of them.
	seen := map[uint64]bool{}
	return slices.DeleteFunc(found, func(e table.Entry) bool {
		twice := seen[e.SegmentID]
		seen[e.SegmentID] = true
		return twice
	})
}

// open maps a published slab: tier 0, or the next one of the view that is being made.
func (c *Cache) open(e table.Entry, v *view) (*slab.Slab, error) {
	seg, err := c.table.Attach(e)
	if err != nil {
		return nil, err
	}
	var s *slab.Slab
	if len(v.tiers) == 0 {
		s, err = slab.Open(seg, c.domain, c.identity(e.SegmentID))
	} else {
		s, err = slab.OpenBelow(seg, v.tiers[0].slab, c.identity(e.SegmentID))
	}
	if err != nil {
		if c.table.Retired(e) { // since Attach: what was to be read are zeros
			err = fmt.Errorf("%w: %w", ErrRetired, err)
		}
		c.table.Detach(e.SegmentID)
		return nil, errors.Join(err, seg.Close())
	}
	return s, nil
}

// dismiss closes what the new view has no more. Writers with the old one may still
// hold a column's lock, and wait for a stopped process: so this waits elsewhere
// (close.pml). The caller holds refreshing.
func (c *Cache) dismiss(old, next *view) {
	for _, t := range old.tiers {
		if _, stays := next.tier(t.entry.SegmentID); stays {
			continue
		}
		c.past.add(t)
		c.dismissed.Go(func() {
			if l, ok := c.holding.strike(t.entry.SegmentID); ok { // the mutex is the next slab's soon
				_ = c.unlock(l, false)
			}
			_ = t.slab.Close()
			c.table.Detach(t.entry.SegmentID)
		})
	}
}

// tellSlabs tells OnEvent of the slabs that came and went between two views.
func (c *Cache) tellSlabs(old, next *view, how How) {
	for _, t := range next.tiers {
		if _, known := old.tier(t.entry.SegmentID); !known {
			c.tell(Event{Kind: EventSlabAdded, Slab: t.entry.Name, SlabID: t.entry.SegmentID, Tier: int(t.entry.Tier), How: how})
		}
	}
	for _, t := range old.tiers {
		if _, stays := next.tier(t.entry.SegmentID); !stays {
			c.tell(Event{Kind: EventSlabGone, Slab: t.entry.Name, SlabID: t.entry.SegmentID, Tier: int(t.entry.Tier), How: how})
		}
	}
	if err := next.slab.Missing; errors.Is(err, ErrUnattached) && old.slab.Missing == nil {
		c.tell(Event{Kind: EventUnattached, Err: err, How: how})
	}
}

// follow makes the view new if the directory has changed, when this handle was woken
// or has looked by itself.
func (c *Cache) follow(how How) {
	if v := c.view.Load(); c.table.Changes() != v.changes {
		_ = c.refresh(v, how) // whoever needs the view says why there is none
	}
}

// current returns the view, after another try to make it whole if it is not.
func (c *Cache) current() *view {
	v := c.view.Load()
	if v.slab.Missing != nil && c.refresh(v, ByPoll) == nil {
		v = c.view.Load()
	}
	return v
}

// writing returns the view for an operation that finds out under the lock whether it
// is stale; then again replaces it.
func (c *Cache) writing() *view {
	c.pulse.beat()
	return c.current()
}

// again reports whether an operation has to be done once more, its view having been
// stale, and replaces that. It ends with ctx, and with the reason why there is no
// newer view.
func (c *Cache) again(ctx context.Context, v **view, err *error) bool {
	c.explain(err)
	if *err == nil || !errors.Is(*err, slab.ErrStale) {
		return false
	}
	if e := ctx.Err(); e != nil {
		*err = fmt.Errorf("%w: the directory keeps changing: %w", ErrBusy, e)
		return false
	}
	*err = c.refresh(*v, ByWrite)
	*v = c.view.Load()
	return *err == nil
}

// update runs op on the view, and again on a newer one as often as it has to.
func (c *Cache) update(ctx context.Context, op func(v *view) error) error {
	for v := c.writing(); ; {
		if err := op(v); !c.again(ctx, &v, &err) {
			return err
		}
	}
}

// stale reports whether the directory has changed since the view was made, and
// if so replaces *v, so that a miss is looked up again. It is asked after a miss:
// one load of `changes` at the end of the lookup (publish.pml BREAK_VIEW).
// Looks counts, so that peers who change the directory without end cannot hold
// a lookup: past the bound it is ErrBusy.
func (c *Cache) stale(v **view, looks *int, err *error) bool {
	c.explain(err)
	switch {
	case errors.Is(*err, slab.ErrStale): // a slab was retired under the lookup
	case *err != nil && !errors.Is(*err, ErrUnattached), c.table.Changes() == (*v).changes:
		return false
	}
	if *looks++; *looks > mostLooks {
		*err = fmt.Errorf("%w: the directory keeps changing", ErrBusy)
		return false
	}
	if *err = c.refresh(*v, ByMiss); *err != nil {
		return false
	}
	*v = c.view.Load()
	return true
}

// missed is stale, and sees to it that each of n misses counts once in the end,
// however often it is looked up. Counted says that the slab has counted them.
func (c *Cache) missed(v **view, looks *int, err *error, n int, counted bool) (again bool) {
	counted = counted && *err == nil
	again = c.stale(v, looks, err)
	switch final := !again && *err == nil; {
	case final && !counted:
		c.misses.Add(int64(n))
	case counted && !final:
		c.misses.Add(-int64(n))
	}
	return again
}

// explain puts the reason why a slab was closed in the place of ErrClosed, and of
// ErrLost if a lock went away with a slab that was retired.
func (c *Cache) explain(err *error) {
	switch {
	case *err == nil:
		return
	case errors.Is(*err, ErrLost):
		c.follow(ByWrite)
	case !errors.Is(*err, ErrClosed):
		return
	}
	c.refreshing.Lock()
	defer c.refreshing.Unlock()
	if c.ended != nil {
		*err = c.ended
	}
}

// mostLooks bounds how often a miss is looked up again.
const mostLooks = 16

// read runs look on the view, and again on a newer one if a slab was retired under it.
// A miss is not looked up again: it is for those whose next step, under the lock, is
// going to find out.
func (c *Cache) read(look func(st *slab.Stack) error) error {
	v := c.view.Load()
	for looks := 0; ; {
		err := look(v.slab)
		c.explain(&err)
		if !errors.Is(err, slab.ErrStale) || !c.stale(&v, &looks, &err) {
			return err
		}
	}
}

// turn is a view that took another one's place.
type turn struct{ from, to *view }

// freshQuietly is fresh for who holds what OnEvent may want: the caller tells later.
func (c *Cache) freshQuietly() (v *view, turns []turn, err error) {
	for range mostLooks {
		if v = c.view.Load(); v.changes == c.table.Changes() {
			return v, turns, nil
		}
		next, err := c.replace(v)
		if err != nil {
			return v, turns, err
		}
		if next != nil {
			turns = append(turns, turn{v, next})
		}
	}
	return v, turns, fmt.Errorf("%w: the directory keeps changing", ErrBusy)
}

// fresh returns a view that was up to date during the call.
func (c *Cache) fresh() (*view, error) {
	c.pulse.beat()
	v := c.current()
	var err error
	for looks := 0; c.stale(&v, &looks, &err); { // who was quicker may have begun before this call
	}
	return v, err
}
