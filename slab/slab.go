package slab

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/flagstone-shm/flagstone/internal/format"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
	"github.com/flagstone-shm/flagstone/lru"
)

// Domain is what a slab needs from the processes around it: who this handle is
// in lock words and who is dead, and the words of the domain's two clocks.
type Domain struct {
	Owner lock.Owner
	Wall  *layout.Uint64 // milliseconds since 1970, for expiry
	Now   *layout.Uint64 // the domain's own time in milliseconds, for recency

	// ReadOnly is for segments mapped for reading: nothing is written, what needs a
	// lock returns ErrReadOnly. There is no Owner then, and Now has to stay 0, a
	// time at which nothing is stamped.
	ReadOnly bool

	// Notify, if set, is told what happened to a shard that this handle locked, by
	// the goroutine that did, after it has left the lock.
	Notify func(Event)
}

// EventKind is what an Event is about.
type EventKind int

// What may happen to a shard.
const (
	Stolen  EventKind = iota + 1 // its lock was left by the dead, or in need of repair
	Rebuilt                      // it was rebuilt
	Corrupt                      // a rebuild did not help: the operation returned ErrCorrupt
)

// Event is something out of the ordinary.
type Event struct {
	Kind    EventKind
	Shard   int
	Dropped uint64 // Rebuilt: damaged records that it gave up
	Err     error  // what was found, if anything said so
}

// Identity ties a slab to its place in a domain; Open refuses another's.
type Identity struct {
	SegmentID uint64
	Domain    [2]uint64 // the domain's uuid
	HashSeed  uint64
}

// Slab is a handle on a slab. A process makes one per slab. Its Stack is the slab
// alone; a slab opened with OpenBelow is used through the stack it is a tier of. All
// methods may be called concurrently.
type Slab struct {
	*Stack
	seg    *shm.Segment
	geo    Geometry
	seed   uint64
	domain Domain
	shards []shard
	locks  lock.Counters
	lost   atomic.Bool
	closed atomic.Bool
}

// Format makes an empty slab of a segment of zeros with g.FileSize bytes. It
// writes the header page only; READY comes last.
func Format(seg *shm.Segment, g Geometry, id Identity, wall uint64) (err error) {
	defer seg.Catch(shm.Guard(), &err)
	w := seg.Window()
	h := shm.At[layout.SlabHeader](w, 0)
	format.Stamp(w, layout.SlabMagic, g.FileSize())
	h.SegmentID.Store(id.SegmentID)
	h.DomainUUID[0].Store(id.Domain[0])
	h.DomainUUID[1].Store(id.Domain[1])
	h.HashSeed.Store(id.HashSeed)
	h.Created.Store(wall)
	g.store(h)
	h.Checksum.Store(format.Checksum(w, layout.SlabHeaderChecksummed))
	h.Ready.Store(1) // pairs with the load in readHeader
	return nil
}

// Open returns a handle on the slab in seg, which it closes in Close. It touches
// the header page only. A slab that is not what id says, or whose header does not
// describe such a file, is refused with a *FormatError, and nothing is changed.
func Open(seg *shm.Segment, domain Domain, id Identity) (*Slab, error) {
	s, err := openSlab(seg, domain, id)
	if err != nil {
		return nil, err
	}
	w := seg.Window()
	for i := range s.shards {
		sh := &s.shards[i]
		sh.lead = sh.head
		at := s.geo.shard(i)
		word := shm.At[layout.Uint64](w, at+layout.OffsetShardLock) // untouched, see shard.init
		if domain.ReadOnly {
			sh.mutex = lock.Refusing(word, ErrReadOnly)
		} else {
			sh.mutex = lock.New(word, shm.At[layout.Uint32](w, at+layout.OffsetShardFutex), domain.Owner, &s.locks)
		}
	}
	s.Stack = NewStack(StackOptions{}, Tier{Slab: s})
	return s, nil
}

// OpenBelow is Open for a slab that is a tier below top, whose locks and versions it
// shares. It has to have as many shards (ErrShape).
func OpenBelow(seg *shm.Segment, top *Slab, id Identity) (*Slab, error) {
	s, err := openSlab(seg, top.domain, id)
	if err != nil {
		return nil, err
	}
	if s.geo.Shards != top.geo.Shards {
		return nil, fmt.Errorf("%w: %s has %d shards, tier 0 has %d", ErrShape, seg.Name(), s.geo.Shards, top.geo.Shards)
	}
	for i := range s.shards {
		sh, lead := &s.shards[i], &top.shards[i]
		// One grain for all: a record keeps its stamp where it goes, and what Evict
		// allows for is that of tier 0.
		sh.lead, sh.mutex, sh.grain = lead.head, lead.mutex, lead.grain
	}
	s.Stack = NewStack(StackOptions{Missing: ErrTier}, Tier{Slab: s})
	return s, nil
}

func openSlab(seg *shm.Segment, domain Domain, id Identity) (s *Slab, err error) {
	defer seg.Catch(shm.Guard(), &err)
	w, file := seg.Window(), seg.Name()
	geo, has, err := readHeader(file, w, w.Len(), domain.ReadOnly)
	if err != nil {
		return nil, err
	}
	if err := format.Check(file,
		format.Equal("SegmentID", has.SegmentID, id.SegmentID, format.ErrForeign),
		format.Equal("DomainUUID[0]", has.Domain[0], id.Domain[0], format.ErrForeign),
		format.Equal("DomainUUID[1]", has.Domain[1], id.Domain[1], format.ErrForeign),
		format.Equal("HashSeed", has.HashSeed, id.HashSeed, format.ErrForeign),
	); err != nil {
		return nil, err
	}
	s = &Slab{seg: seg, geo: geo, seed: id.HashSeed, domain: domain, shards: make([]shard, geo.Shards)}
	for i := range s.shards {
		s.shards[i].init(s, uint32(i), w.Sub(geo.shard(i), geo.shardStride()))
	}
	return s, nil
}

// Geometry returns the slab's shape.
func (s *Slab) Geometry() Geometry { return s.geo }

// Close waits for the operations of this process that hold or await a lock and
// gives the memory back. Lookups still running end with ErrClosed, as does
// every later call. Other processes notice nothing. Of a tier below the others its
// stacks must have been replaced before: what still runs in one ends with ErrStale,
// and the stack itself stays in use.
func (s *Slab) Close() error {
	if s.closed.Swap(true) || s.seg.Forked() { // in a child its locks are nobody's to wait for
		return nil
	}
	for i := range s.shards { // all before any is waited for: LockAll holds one and waits for the next
		if sh := &s.shards[i]; sh.lead == sh.head {
			sh.mutex.Shut()
		}
	}
	for i := range s.shards {
		s.shards[i].mutex.Pass() // close.pml BREAK_TURN
	}
	return s.seg.Close()
}

// perLock bounds how many records are written or removed under one lock.
const perLock = 64

// oneShard returns how many of n things, sorted by shard, are of the first one's, up
// to perLock.
func oneShard(n int, shard func(i int) uint32) int {
	for i := range min(n, perLock) {
		if shard(i) != shard(0) {
			return i
		}
	}
	return min(n, perLock)
}

// unlock leaves the lock. If it was taken away the whole handle is lost.
func (sh *shard) unlock(consistent bool) error {
	if err := sh.slab.forked(); err != nil { // inside a callback: the lock is the parent's
		return err
	}
	err := sh.mutex.Unlock(consistent)
	if errors.Is(err, ErrLost) {
		sh.slab.lost.Store(true)
	}
	if err != nil {
		return fmt.Errorf("shard %d: %w", sh.number, err)
	}
	return nil
}

// errBroken says that the shard's words contradict each other: rebuild it.
var errBroken = errors.New("shard needs a rebuild")

func isBroken(err error) bool {
	return err != nil && (errors.Is(err, errBroken) || errors.Is(err, lru.ErrBroken))
}
