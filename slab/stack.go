package slab

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Stack is one or more slabs that are searched one after the other, tier 0 first. A
// key is in one of them at most, and every operation means the same whichever that
// is. Writes go to tier 0; what makes room for them goes to the tiers below.
//
//	column | shard i of every tier: one lock, one epoch, one sequence of versions, those of tier 0 |
//
// A stack is what a process saw of the directory at one time; another one takes its
// place when that changes. All methods may be called concurrently. PROTOCOL.md,
// "Tiers".
type Stack struct {
	StackOptions
	shards  []shard // of tier 0
	seed    uint64
	ahead   bool // ask for the buckets of all tiers before looking into one
	top     *Slab
	tiers   []Tier
	columns []column
}

// Tier is a slab in a stack.
type Tier struct {
	*Slab
	// State is the state word of the slab's directory entry, and Open what it says,
	// the number of drains aside, while the tier takes records. Nil: it always does.
	State *layout.Uint64
	Open  uint64
}

// StackOptions say what a stack is a view of, and how lookups go about it. The zero
// value is for a stack that never changes.
type StackOptions struct {
	Changes *layout.Uint64 // the domain's
	Seen    uint64         // its value, loaded before the directory was read
	Missing error          // why a slab that belongs to the stack is not in it, if so
	Reads   int            // how many tiers lookups look into; 0 is all
	Search  Search
	Workers *Workers // for Parallel
	Promote bool     // a hit below moves the record to tier 0
}

// column is shard i of every tier.
type column struct {
	stack *Stack
	top   *shard // tier 0's, whose lock and epoch are the column's
	tiers []*shard
}

// NewStack returns the stack of the tiers, which were opened with Open and, from
// the second one on, OpenBelow, in the order in which they are searched.
func NewStack(o StackOptions, tiers ...Tier) *Stack {
	st := &Stack{StackOptions: o, top: tiers[0].Slab, shards: tiers[0].shards, seed: tiers[0].seed, tiers: tiers}
	if o.Reads <= 0 || o.Reads > len(tiers) {
		st.Reads = len(tiers)
	}
	st.columns = make([]column, len(st.shards))
	all := make([]*shard, 0, len(st.shards)*len(tiers))
	for i := range st.columns {
		for _, t := range tiers {
			all = append(all, &t.shards[i])
		}
		end := len(all)
		st.columns[i] = column{stack: st, top: &st.shards[i], tiers: all[i*len(tiers) : end : end]}
	}
	st.prepare()
	return st
}

// Tiers returns the slabs of the stack in the order of the search.
func (st *Stack) Tiers() []Tier { return st.tiers }

// drainsMask are the bits of a state word that count drains.
const drainsMask = layout.EntryStateMask << layout.EntryDrainsShift

// takes reports whether records may be moved into tier i. The caller holds the
// column's lock, so a drainer that looks at the column later finds what was moved
// (drain.pml BREAK_STATE).
func (col *column) takes(i int) bool {
	t := &col.stack.tiers[i]
	return t.State == nil || t.State.Load()&^drainsMask == t.Open // pairs with the drainer's CAS
}

// stale reports whether the directory has changed since the stack was made. A
// writer asks under the lock: a record it is to find or to remove may have gone
// where it does not look (drain.pml BREAK_VIEW_WRITER).
func (st *Stack) stale() bool {
	return st.Changes != nil && st.Changes.Load() != st.Seen // pairs with the announcement of a change
}

// complete returns why what is in the stack's tiers need not be all there is, if so:
// what asks without a lock asks afterwards.
func (st *Stack) complete() error {
	if st.stale() {
		return ErrStale
	}
	return st.Missing
}

// usable returns why the stack must not be used, if so.
func (st *Stack) usable() error {
	switch {
	case st.top.closed.Load():
		return ErrClosed
	case st.top.lost.Load():
		return ErrLost
	}
	return st.top.forked()
}

// forked returns ErrForked where the slab is that of the process that this one was
// forked from. What reads a record's bytes asks before: other things may be there.
func (s *Slab) forked() error {
	if s.seg.Forked() {
		return ErrForked
	}
	return nil
}

// leave, deferred in every operation, undoes shm.Guard and turns a fault into an
// error: ErrClosed if the handle was closed meanwhile, ErrStale if it may be that a
// tier was retired.
func (st *Stack) leave(guard bool, err *error) {
	st.top.seg.Unguard(guard)
	if r := recover(); r != nil {
		*err = st.top.seg.Recovered(r)
		switch {
		case !errors.Is(*err, ErrFault):
		case st.top.closed.Load():
			*err = ErrClosed
		case st.superseded():
			*err = ErrStale
		}
	}
	runtime.KeepAlive(st) // and with it the tiers' mappings
}

// superseded is stale for who has met a fault, as a slab was retired under it: its
// pages are given back, and where the file system is full there are none to read
// zeros from.
func (st *Stack) superseded() (yes bool) {
	var err error
	defer st.top.seg.Catch(shm.Guard(), &err)
	return st.stale()
}

// columnOf returns the column that the hash belongs to.
func (st *Stack) columnOf(hash uint64) *column { return &st.columns[hash&uint64(len(st.columns)-1)] }

// shardOf returns the shard of tier 0 that the hash belongs to.
func (st *Stack) shardOf(hash uint64) *shard { return &st.shards[hash&uint64(len(st.shards)-1)] }

// update runs change under the column's lock. A column found half done is rebuilt
// first; one whose words contradict each other is rebuilt and change tried once
// more.
func (st *Stack) update(ctx context.Context, col *column, change func() error) (err error) {
	defer st.leave(shm.Guard(), &err)
	if err := st.usable(); err != nil {
		return err
	}
	consistent, err := col.top.mutex.Lock(ctx)
	if err != nil {
		return fmt.Errorf("shard %d: %w", col.top.number, err)
	}
	return col.locked(consistent, change)
}

// try is update for what is worth doing only if the lock is free, by a lookup, whose
// answer stands whatever comes of it. A column that needs repair is left to its next
// writer.
func (col *column) try(change func() error) {
	if col.stack.top.lost.Load() {
		return
	}
	switch ok, consistent := col.top.mutex.TryLock(); {
	case ok && !consistent:
		_ = col.top.unlock(false) // if the lock is lost, later operations say so
	case ok:
		_ = col.locked(true, change)
	}
}

// locked runs change and unlocks; the caller has just taken the lock.
func (col *column) locked(consistent bool, change func() error) error {
	events, err := col.settle(consistent, change)
	col.stack.tell(events)
	return err
}

// tell passes events on, to whom no lock may be held.
func (st *Stack) tell(events []Event) {
	if st.top.domain.Notify != nil {
		for _, e := range events {
			st.top.domain.Notify(e)
		}
	}
}

// settle is locked, and leaves the telling to the caller.
func (col *column) settle(consistent bool, change func() error) (events []Event, err error) {
	st := col.stack
	finished := false
	defer func() {
		if !finished { // a fault, a panic, or beyond repair: readers must not trust the column
			col.abandon()
			consistent = false
		}
		if e := col.top.unlock(consistent); e != nil {
			err = errors.Join(err, e)
		}
	}()
	if err := st.complete(); err != nil { // nothing was looked at: the lock stays as it was found
		finished = true
		return events, err
	}
	if !consistent {
		col.top.head.Steals.Add(1)
		events = append(events, Event{Kind: Stolen, Shard: int(col.top.number)})
	}
	if !consistent || col.top.head.Epoch.Load()&layout.EpochRebuilding != 0 {
		events = append(events, col.repair(nil))
	}
	consistent = true
	if err = change(); isBroken(err) {
		events = append(events, col.repair(err))
		if err = change(); isBroken(err) { // half done, and not finished
			events = append(events, Event{Kind: Corrupt, Shard: int(col.top.number), Err: err})
			return events, fmt.Errorf("shard %d: %w: %w", col.top.number, ErrCorrupt, err)
		}
	}
	finished = true
	return events, err
}

// repair rebuilds the column and tells what came of it.
func (col *column) repair(cause error) Event {
	before := col.dropped()
	col.rebuild()
	return Event{Kind: Rebuilt, Shard: int(col.top.number), Dropped: col.dropped() - before, Err: cause}
}

// dropped returns how many records rebuilds gave up.
func (col *column) dropped() (n uint64) {
	for _, sh := range col.tiers {
		n += sh.head.Dropped.Load()
	}
	return n
}

// abandon leaves the column marked as half done for whoever locks it next. Where
// even that faults, the lock word still says so.
func (col *column) abandon() {
	var err error
	defer col.stack.top.seg.Catch(shm.Guard(), &err)
	epoch := &col.top.head.Epoch
	epoch.Store(epoch.Load() | layout.EpochRebuilding)
}

// moves counts the records that have come to a tier of the column from another one,
// and the rebuilds, which finish what a dead mover began. Who looks for records cell by
// cell, and finds it changed, may have missed some.
func (col *column) moves() (n uint64) {
	if len(col.tiers) > 1 {
		n = col.top.head.Epoch.Load() & layout.EpochRebuildMask
		for _, sh := range col.tiers {
			n += sh.head.MovedIn.Load()
		}
	}
	return n
}
