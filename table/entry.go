package table

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Kinds of segments. Applications number their own from KindApplication on.
const (
	KindSlab        uint32 = layout.KindSlab
	KindApplication uint32 = layout.KindApplication
)

// Primary is the name of the domain's first slab, which is retired with the domain only.
const Primary = "primary"

// State is where a directory entry stands in its life.
type State uint32

// The states, in their order. Only published segments (Active, Open, Draining)
// can be attached.
const (
	StateFree     State = layout.EntryFree     // nobody's
	StateCreating State = layout.EntryCreating // being made by its creator
	StateActive   State = layout.EntryActive   // published, not yet known to all
	StateOpen     State = layout.EntryOpen     // published
	StateDraining State = layout.EntryDraining // takes nothing new
	StateRetired  State = layout.EntryRetired  // gone; kept until nobody living maps it
)

// String returns the state's name.
func (s State) String() string {
	names := []string{"FREE", "CREATING", "ACTIVE", "OPEN", "DRAINING", "RETIRED"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("State(%d)", uint32(s))
}

// Published reports whether segments of entries in this state can be attached.
func (s State) Published() bool { return s >= StateActive && s <= StateDraining }

// Entry is a snapshot of a directory entry. While it is Creating only Index,
// Generation, State and Creator.Region say anything.
type Entry struct {
	Index      int
	Generation uint32 // grows when the entry is used again
	State      State
	Kind       uint32
	Tier       uint32 // slabs: place in the search order
	Drains     uint16 // how often the segment was drained, this time included; wraps around
	Stack      uint64 // slabs: segment id of tier 0, which may be this one; else 0
	SegmentID  uint64 // random, never 0, never used again in this domain
	MutexID    uint32 // the mutex that belongs to the segment
	Size       uint64 // of the segment in bytes, as the entry states it
	Name       string
	Params     [4]uint64 // the creator's
	Creator    Holder
	Created    time.Time
}

func (t *reading) entryAt(i int) *layout.Entry {
	return shm.At[layout.Entry](t.win, t.header.entry(i))
}

func stateOf(word uint64) State { return State(word & layout.EntryStateMask) }

func drainsOf(word uint64) uint16 { return uint16(word >> layout.EntryDrainsShift) }

// word returns the state word of an entry from ACTIVE on.
func (e *Entry) word() uint64 {
	return packed(e.Generation, uint32(e.Drains)<<layout.EntryDrainsShift|uint32(e.State))
}

// Open reports whether a state word of e's directory entry says that e's segment
// takes records, however often it was drained. Under the lock of what is moved, a
// word that says so holds until the unlock: a drainer takes that lock afterwards.
func (e Entry) Open(word uint64) bool {
	return generationOf(word) == e.Generation && stateOf(word) == StateOpen
}

// StateWord returns the state word of e's directory entry, for Entry.Open by those
// who move records into the segment. Like Words it may be loaded under shm.Guard
// only, and while the handle is reachable; after Close it is 0, and so is that of
// an index that the domain has not. It is for loads alone.
func (t *reading) StateWord(e Entry) *layout.Uint64 {
	if e.Index < 0 || e.Index >= int(t.header.Entries) {
		return new(layout.Uint64)
	}
	return &t.entryAt(e.Index).State
}

// creatorOf returns the region that a CREATING entry names.
func creatorOf(word uint64) int {
	return int(word>>layout.EntryRegionShift&math.MaxUint16) - 1
}

// readEntry takes a snapshot; ok is false if the entry is free or damaged. Word
// is the state word that it is of.
func (t *reading) readEntry(i int) (s Entry, word uint64, ok bool) {
	e := t.entryAt(i)
	for range readAttempts {
		word = e.State.Load()
		s = Entry{Index: i, Generation: generationOf(word), State: stateOf(word), MutexID: uint32(i)}
		switch {
		case s.State == StateCreating:
			s.Creator.Region = creatorOf(word)
			return s, word, true
		case s.State == StateFree || s.State > StateRetired:
			return s, word, false
		}
		s.Drains = drainsOf(word)
		s.Kind, s.Tier, s.SegmentID = e.Kind.Load(), e.Tier.Load(), e.SegmentID.Load()
		s.Stack = e.Stack.Load()
		s.Size, s.Created = e.Size.Load(), fromMillis(e.Created.Load())
		creator := e.Creator.Load()
		s.Creator = Holder{int(uint16(creator>>layout.LockRegionShift)) - 1, generationOf(creator)}
		var name [layout.NameLength]byte
		for n := range e.Name {
			binary.LittleEndian.PutUint64(name[8*n:], e.Name[n].Load())
		}
		s.Name = strings.TrimRight(string(name[:]), "\x00")
		for n := range s.Params {
			s.Params[n] = e.Params[n].Load()
		}
		// Fields change only between FREE and ACTIVE, and the generation with them.
		if now := e.State.Load(); now == word {
			return s, word, true
		}
	}
	return s, word, false
}

// Entries returns a snapshot of all directory entries that are not free. Load
// Changes before it to know later whether it is still right. About 0.1 us each.
func (t *reading) Entries() []Entry {
	var all []Entry
	_ = t.use(func() error {
		all = make([]Entry, 0, 4) // enough for most domains
		for i := range int(t.header.Entries) {
			if e, _, ok := t.readEntry(i); ok {
				all = append(all, e)
			}
		}
		return nil
	})
	return all
}

// Find returns the published entry of that kind and name, the youngest if there
// are more.
func (t *reading) Find(kind uint32, name string) (found Entry, ok bool) {
	for _, e := range t.Entries() {
		if e.State.Published() && e.Kind == kind && e.Name == name &&
			(!ok || e.Created.After(found.Created)) {
			found, ok = e, true
		}
	}
	return found, ok
}

// Retired reports whether e's segment is retired or its entry used again; also
// if the handle is closed. It is one load under a check, some 50 ns.
func (t *reading) Retired(e Entry) bool {
	return t.use(func() error { return t.checkPublished(e) }) != nil
}

// checkPublished returns nil while e is published, ErrRetired afterwards.
func (t *reading) checkPublished(e Entry) error {
	if e.Index < 0 || e.Index >= int(t.header.Entries) {
		return fmt.Errorf("entry %d of %d: %w", e.Index, t.header.Entries, ErrOptions)
	}
	word := t.entryAt(e.Index).State.Load() // pairs with the CAS in Publish and Retire
	if generationOf(word) != e.Generation || !stateOf(word).Published() {
		return fmt.Errorf("entry %d, segment %016x: %w: generation %d is %v, wanted %d", e.Index, e.SegmentID,
			ErrRetired, generationOf(word), stateOf(word), e.Generation)
	}
	return nil
}

// segmentFile returns the name of a segment's file.
func segmentFile(kind uint32, id uint64) string {
	prefix := appPrefix
	if kind == KindSlab {
		prefix = slabPrefix
	}
	return fmt.Sprintf("%s-%016x", prefix, id)
}

// isSegmentFile reports whether segmentFile returns that name for some segment.
func isSegmentFile(name string) bool {
	prefix, digits, _ := strings.Cut(name, "-")
	return (prefix == slabPrefix || prefix == appPrefix) && isNumber(digits)
}

// How the names of segments' files begin.
const slabPrefix, appPrefix = "slab", "app"

// OpenWord is what StateWord says, the number of drains aside, while the segment
// takes records.
func (e Entry) OpenWord() uint64 { return packed(e.Generation, layout.EntryOpen) }
