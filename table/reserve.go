package table

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/internal/step"
)

// Spec is what a new segment is to be.
type Spec struct {
	Kind   uint32 // KindSlab, or KindApplication and above
	Tier   uint32 // slabs: place in the search order
	Stack  uint64 // slabs: segment id of tier 0, 0 for this one's own; else 0
	Name   string // 0 to 32 bytes, no zero bytes at the end; not necessarily unique
	Params [4]uint64
	Size   uint64 // bytes, a positive multiple of 8
}

func (s *Spec) check() error {
	switch {
	case s.Kind != KindSlab && s.Kind < KindApplication:
		return fmt.Errorf("kind %#x: need %#x or from %#x on: %w", s.Kind, KindSlab, KindApplication, ErrOptions)
	case s.Kind != KindSlab && s.Stack != 0:
		return fmt.Errorf("stack %016x of a segment of kind %#x: only slabs have one: %w", s.Stack, s.Kind, ErrOptions)
	case s.Kind == KindSlab && (s.Tier == 0) != (s.Stack == 0):
		return fmt.Errorf("slab of tier %d, stack %016x: need a stack for a tier below the first: %w", s.Tier, s.Stack, ErrOptions)
	case len(s.Name) > layout.NameLength || len(s.Name) > 0 && s.Name[len(s.Name)-1] == 0:
		return fmt.Errorf("segment name %q: at most %d bytes, not ending in zero: %w", s.Name, layout.NameLength, ErrOptions)
	case s.Size == 0 || s.Size%8 != 0 || int64(s.Size) < 0:
		return fmt.Errorf("segment size %d: need a positive multiple of 8: %w", s.Size, ErrOptions)
	}
	return nil
}

// Reservation is a directory entry that this handle is filling. Create, Publish
// and Abort are its steps; it ends with one of the last two. If the process dies
// before Publish, the entry and its file are taken back. Its methods must not be
// called concurrently.
type Reservation struct {
	t     *Table
	entry Entry
	word  uint64 // the state word: CREATING, by us
	seg   *shm.Segment
}

// Entry returns what the entry will be.
func (r *Reservation) Entry() Entry { return r.entry }

// Reserve takes a free directory entry for a new segment. When there is none it
// first takes back those of dead creators and recycles what is retired; then it
// returns ErrNoEntry. PROTOCOL.md, "Publishing a segment".
func (t *Table) Reserve(s Spec) (r *Reservation, err error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	err = t.useLive(func() error {
		if r = t.takeFree(s); r != nil {
			return nil
		}
		if _, err := t.reapAll(); err != nil {
			return err
		}
		if r = t.takeFree(s); r != nil {
			return nil
		}
		return fmt.Errorf("%s: all %d entries are in use: %w", t.control.Name(), t.header.Entries, ErrNoEntry)
	})
	return r, err
}

func (t *Table) takeFree(s Spec) *Reservation {
	for i := range int(t.header.Entries) {
		e := t.entryAt(i)
		old := e.State.Load()
		generation := generationOf(old)
		word := packed(generation, uint32(t.self+1)<<layout.EntryRegionShift|layout.EntryCreating)
		// Pairs with the CAS of other creators, and names us to the one who reaps us.
		if stateOf(old) != StateFree || !e.State.CompareAndSwap(old, word) {
			continue
		}
		return &Reservation{t: t, entry: t.fill(e, i, generation, s), word: word}
	}
	return nil
}

// fill writes the fields of an entry that is CREATING, and ours.
func (t *Table) fill(e *layout.Entry, i int, generation uint32, s Spec) Entry {
	now := t.clock.Wall()
	id := t.newSegmentID()
	if s.Kind == KindSlab && s.Stack == 0 {
		s.Stack = id
	}
	e.Kind.Store(s.Kind)
	e.Tier.Store(s.Tier)
	e.MutexID.Store(uint32(i))
	t.freshen(i)
	e.Flags.Store(0)
	e.Size.Store(s.Size)
	e.Creator.Store(t.token)
	e.Created.Store(now)
	e.Stack.Store(s.Stack)
	var name [layout.NameLength]byte
	copy(name[:], s.Name)
	for n := range e.Name {
		e.Name[n].Store(binary.LittleEndian.Uint64(name[8*n:]))
	}
	for n := range e.Params {
		e.Params[n].Store(s.Params[n])
	}
	t.clearReserved(t.header.entry(i), reservedInEntry)
	// After Kind and before the file: who takes the entry back finds either no
	// file or, by both, the right one.
	e.SegmentID.Store(id)
	return Entry{
		Index: i, Generation: generation, State: StateCreating, Kind: s.Kind, Tier: s.Tier, Stack: s.Stack, SegmentID: id,
		MutexID: uint32(i), Size: s.Size, Name: s.Name, Params: s.Params,
		Creator: Holder{t.self, t.generation}, Created: fromMillis(now),
	}
}

// freshen leaves the mutex of an entry that is CREATING, and ours, in order: what a segment
// before this one left half done, or one of its holders that died, is none of the new
// one's. Who lives and holds it still keeps it, and its Unlock says how it leaves it.
func (t *Table) freshen(i int) {
	m, err := t.Mutex(uint32(i))
	if err != nil {
		return
	}
	if ok, _ := m.lock.TryLock(); ok || m.lock.TrySteal() {
		_ = m.lock.Unlock(true) // lost: the next owner is told what it has to know
	}
}

// newSegmentID returns a random number that stands in no entry. The file's
// O_EXCL makes sure.
func (t *Table) newSegmentID() uint64 {
	for {
		id, taken := random(), false
		for i := range int(t.header.Entries) {
			taken = taken || t.entryAt(i).SegmentID.Load() == id
		}
		if !taken {
			return id
		}
	}
}

// Create makes the segment's file, zeros with room behind them, maps it and
// lists it as mapped by this handle (ErrTooManyMapped). ErrNoSpace leaves no
// file; the reservation stays. No page is touched. Before Close of the segment
// comes Detach.
func (r *Reservation) Create() (seg *shm.Segment, err error) {
	t := r.t
	err = t.useLive(func() error {
		if err := r.mine(); err != nil {
			return err
		}
		if err := t.pins.add(r.entry.SegmentID); err != nil {
			return err
		}
		seg, err = r.create()
		if err != nil {
			t.pins.remove(r.entry.SegmentID)
		}
		return err
	})
	if err != nil {
		return nil, wrap(err, "create segment %016x of entry %d", r.entry.SegmentID, r.entry.Index)
	}
	r.seg = seg
	return seg, nil
}

func (r *Reservation) create() (*shm.Segment, error) {
	d := domain{group: r.t.group}
	name := segmentFile(r.entry.Kind, r.entry.SegmentID)
	seg, f, err := shm.Create(r.t.dir, name, r.entry.Size, d.fileMode())
	if err != nil {
		return nil, err
	}
	// The mode as it was meant, whatever the umask.
	step.Here()
	if err := errors.Join(f.Chmod(d.fileMode()), f.Close()); err != nil {
		return nil, errors.Join(err, seg.Close(), removeEntry(r.t.dir, name))
	}
	return seg, nil
}

// mine returns ErrState if the entry is no longer this reservation's.
func (r *Reservation) mine() error {
	if word := r.t.entryAt(r.entry.Index).State.Load(); word != r.word {
		return fmt.Errorf("entry %d: %w: generation %d is %v", r.entry.Index, ErrState, generationOf(word), stateOf(word))
	}
	return nil
}

// Publish lets everybody see the segment, whose content has to be complete, and
// wakes all. The order is what a reader's miss relies on: ACTIVE, then changes,
// then OPEN, and nothing is moved into a slab before OPEN. Model: publish.pml.
func (r *Reservation) Publish() (Entry, error) {
	t := r.t
	if r.seg == nil {
		return Entry{}, fmt.Errorf("publish entry %d: no file was created: %w", r.entry.Index, ErrState)
	}
	err := t.useLive(func() error {
		e := t.entryAt(r.entry.Index)
		if !e.State.CompareAndSwap(r.word, packed(r.entry.Generation, layout.EntryActive)) { // pairs with the load in readEntry
			return r.mine()
		}
		t.open(e)
		t.ringPeers(layout.ReasonTable)
		return nil
	})
	r.entry.State = StateOpen
	return r.entry, wrap(err, "publish entry %d", r.entry.Index)
}

// open announces an ACTIVE entry and marks it OPEN. Anybody may: it finishes the
// work of a creator that died, and does no harm while it lives.
func (t *Table) open(e *layout.Entry) {
	if word := e.State.Load(); stateOf(word) == StateActive {
		t.announce()
		e.State.CompareAndSwap(word, word&^layout.EntryStateMask|layout.EntryOpen) // lost to another opener: as good
	}
}

// Abort gives the entry back and removes the file. The caller closes the segment.
func (r *Reservation) Abort() error {
	t := r.t
	return t.use(func() error {
		if err := r.mine(); err != nil {
			return err
		}
		t.pins.remove(r.entry.SegmentID)
		return t.takeBack(r.entry.Index, r.word)
	})
}

// takeBack removes the file of a CREATING entry, then frees the entry. The
// caller is its creator, or its creator is dead. Segment ids are used once, so however
// late this is, the file is that of the word.
func (t *Table) takeBack(i int, word uint64) error {
	e := t.entryAt(i)
	file := segmentFile(e.Kind.Load(), e.SegmentID.Load())
	if e.State.Load() != word { // another was quicker, and the fields are the next one's
		return nil
	}
	if err := removeEntry(t.dir, file); err != nil {
		return err
	}
	e.State.CompareAndSwap(word, packed(generationOf(word)+1, layout.EntryFree))
	t.announce()
	return nil
}

// none is no region's number.
const none = -1

// repairEntries takes back what region dead was making, and finishes what
// anybody has published and not opened.
func (t *Table) repairEntries(dead int) {
	for i := range int(t.header.Entries) {
		e := t.entryAt(i)
		switch word := e.State.Load(); stateOf(word) {
		case StateCreating:
			if creator := creatorOf(word); creator == dead || creator < 0 || creator >= int(t.header.Regions) {
				_ = t.takeBack(i, word) // not removed: stays for the next one
			}
		case StateActive:
			t.open(e)
		}
	}
}

// pins is the list of segments that this handle maps. Its words in the region
// are what peers see.
type pins struct {
	mu    sync.Mutex // guards the rest, and the writing of our mapped words
	t     *Table
	used  []bool // by slot
	slots map[uint64]*pin
}

type pin struct{ slot, count int }

func (p *pins) init(t *Table) {
	p.t, p.used, p.slots = t, make([]bool, t.header.Mapped), map[uint64]*pin{}
}

// add lists a segment, once more if it is listed already.
func (p *pins) add(id uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if have := p.slots[id]; have != nil {
		have.count++
		return nil
	}
	for slot, used := range p.used {
		if !used {
			p.used[slot] = true
			p.slots[id] = &pin{slot, 1}
			p.t.mappedWord(p.t.self, slot).Store(id) // pairs with the load in pinnedBy
			return nil
		}
	}
	return fmt.Errorf("segment %016x: %w: %d are", id, ErrTooManyMapped, len(p.used))
}

// remove undoes one add, and reports whether it was the last.
func (p *pins) remove(id uint64) (last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	have := p.slots[id]
	if have == nil {
		return false
	}
	if have.count--; have.count > 0 {
		return false
	}
	p.t.mappedWord(p.t.self, have.slot).Store(0)
	p.used[have.slot] = false
	delete(p.slots, id)
	return true
}
