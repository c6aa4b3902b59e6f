package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/zeebo/xxh3"

	"github.com/flagstone-shm/flagstone/conformance/internal/vectors"
	"github.com/flagstone-shm/flagstone/internal/format"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// What is the same in all images.
const (
	seed    = 42
	wall    = 1_000_000_000_000 // in 2001
	begin   = 1000              // domain time of the first write
	past    = 86_400_000        // an expiry in 1970
	future  = 190_288_396_800_000
	primary = 0x70
)

var uuid = [2]uint64{0x0102030405060708, 0x090a0b0c0d0e0f10}

// The dead process that images speak of has region 1, in generation 3.
const (
	deadRegion     = 1
	deadGeneration = 3
)

var deadToken = lock.Token(deadRegion, deadGeneration)

var bg = context.Background()

// must ends the generator: whatever fails is an error in it.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// image is a domain on the heap.
type image struct {
	control *shm.Segment
	geo     table.Geometry
	slabs   []*slabImage
	now     layout.Uint64
	wall    layout.Uint64
	extra   map[string][]byte // other files, and those that replace
	heads   map[string]bool   // file and offset of cells in state PART that are heads
}

// slabImage is a slab with its directory entry.
type slabImage struct {
	id, stack uint64
	tier      uint32
	name      string
	seg       *shm.Segment
	geo       slab.Geometry
	at        shape
	slab      *slab.Slab
	stackOf   *slab.Stack // of tier 0
}

// shape is where things are in a slab, whatever its header says by now.
type shape struct{ shard, stride, index, ghosts, cells uint64 }

// small is the shape of most slabs: 12 cells or so of 64 bytes, in one shard.
var small = slab.Options{Entries: 8, CellSize: 64, MaxKey: 16, MaxValue: 100, Shards: 1}

// dead is the owner of all locks and claims while images are made.
type dead struct{}

func (dead) Token() uint64    { return deadToken }
func (dead) Dead(uint64) bool { return false }
func (dead) Ask(uint64)       {}

// newImage returns a domain with a primary slab of that shape.
func newImage(o slab.Options) *image {
	geo, err := table.Plan(table.Options{Regions: 4, Entries: 4, Mutexes: 6, Held: 4, Mapped: 4})
	must(err)
	im := &image{control: shm.Heap(geo.FileSize), geo: geo, extra: map[string][]byte{}, heads: map[string]bool{}}
	im.now.Store(begin)
	im.wall.Store(wall)
	w := im.control.Window()
	c := shm.At[layout.ControlHeader](w, 0)
	format.Stamp(w, layout.ControlMagic, geo.FileSize)
	c.Mutexes.Store(geo.Mutexes)
	c.Entries.Store(geo.Entries)
	c.Regions.Store(geo.Regions)
	c.Held.Store(geo.Held)
	c.Mapped.Store(geo.Mapped)
	c.RegionStride.Store(geo.RegionStride)
	c.MutexOffset.Store(geo.MutexOffset)
	c.EntryOffset.Store(geo.EntryOffset)
	c.RegionOffset.Store(geo.RegionOffset)
	c.HashSeed.Store(seed)
	for i := range uuid {
		c.DomainUUID[i].Store(uuid[i])
		c.BootID[i].Store(binary.LittleEndian.Uint64(vectors.BootID[8*i:]))
	}
	c.Created.Store(wall)
	im.sumControl()
	c.Ready.Store(layout.ControlReady)
	c.Changes.Store(2)
	c.WallClock.Store(wall)
	c.DomainClock.Store(begin)
	im.add(primary, primary, 0, table.Primary, o)
	return im
}

// sumControl makes the control segment's checksum right.
func (im *image) sumControl() {
	b := im.control.Bytes()
	binary.LittleEndian.PutUint64(b[layout.OffsetControlHeaderChecksum:], xxh3.Hash(b[:layout.OffsetControlHeaderChecksum]))
}

// sum makes a slab's checksum right.
func (s *slabImage) sum() {
	b := s.seg.Bytes()
	binary.LittleEndian.PutUint64(b[layout.OffsetSlabHeaderChecksum:], xxh3.Hash(b[:layout.OffsetSlabHeaderChecksum]))
}

// add makes a slab and its entry, open. Stack is the id of its tier 0.
func (im *image) add(id, stack uint64, tier uint32, name string, o slab.Options) *slabImage {
	g, err := slab.Plan(o)
	must(err)
	s := &slabImage{id: id, stack: stack, tier: tier, name: name, seg: shm.Heap(g.FileSize()), geo: g}
	identity := slab.Identity{SegmentID: id, Domain: uuid, HashSeed: seed}
	must(slab.Format(s.seg, g, identity, wall))
	h := shm.At[layout.SlabHeader](s.seg.Window(), 0)
	s.at = shape{h.ShardOffset.Load(), h.ShardStride.Load(), h.IndexOffset.Load(), h.GhostOffset.Load(), h.CellOffset.Load()}
	if tier == 0 {
		s.slab, err = slab.Open(s.seg, slab.Domain{Owner: dead{}, Wall: &im.wall, Now: &im.now}, identity)
	} else {
		s.slab, err = slab.OpenBelow(s.seg, im.top(stack).slab, identity)
	}
	must(err)
	im.slabs = append(im.slabs, s)
	var tiers []slab.Tier
	for _, t := range im.slabs {
		if t.stack == stack {
			tiers = append(tiers, slab.Tier{Slab: t.slab})
		}
	}
	im.top(stack).stackOf = slab.NewStack(slab.StackOptions{Promote: true}, tiers...)
	e := im.entry(len(im.slabs) - 1)
	e.State.Store(layout.EntryOpen)
	e.Kind.Store(layout.KindSlab)
	e.Tier.Store(tier)
	e.SegmentID.Store(id)
	e.MutexID.Store(uint32(len(im.slabs) - 1))
	e.Size.Store(g.FileSize())
	e.Creator.Store(deadToken)
	e.Created.Store(wall)
	e.Stack.Store(stack)
	var padded [layout.NameLength]byte
	copy(padded[:], name)
	for i := range e.Name {
		e.Name[i].Store(binary.LittleEndian.Uint64(padded[8*i:]))
	}
	for i, p := range []uint64{uint64(g.Shards), uint64(g.Cells), uint64(g.CellSize), g.Capacity} {
		e.Params[i].Store(p)
	}
	return s
}

func (im *image) entry(i int) *layout.Entry {
	return shm.At[layout.Entry](im.control.Window(), im.geo.EntryOffset+uint64(i)*layout.SizeEntry)
}

func (im *image) top(stack uint64) *slabImage {
	for _, s := range im.slabs {
		if s.id == stack {
			return s
		}
	}
	panic(fmt.Sprintf("no slab %#x", stack))
}

// main is the primary slab, st its stack.
func (im *image) main() *slabImage { return im.slabs[0] }
func (im *image) st() *slab.Stack  { return im.slabs[0].stackOf }

// set stores a record in tier 0 of the primary slab, a millisecond after the last one.
func (im *image) set(k, v string) { im.put(im.st().Key([]byte(k)), slab.Item{Value: []byte(v)}) }

func (im *image) put(k slab.Key, it slab.Item) {
	_, _, err := im.st().Put(bg, k, &it, slab.Anyhow)
	must(err)
	im.now.Add(1)
}

// hit uses a record.
func (im *image) hit(k string) {
	if _, found, err := im.st().Get(nil, []byte(k)); !found || err != nil {
		panic(fmt.Sprintf("%s: %v %v", k, found, err))
	}
	im.now.Add(1)
}

// settle moves records down that were used before the cutoff.
func (im *image) settle(cutoff uint64) {
	tiers := im.st().Tiers()
	_, err := im.st().Move(bg, tiers[0].Slab, tiers[1].Slab, cutoff, math.MaxInt)
	must(err)
}

// died writes the region of the dead process.
func (im *image) died() {
	at := im.geo.RegionOffset + deadRegion*uint64(im.geo.RegionStride)
	r := shm.At[layout.Region](im.control.Window(), at)
	r.State.Store(deadGeneration<<layout.StateGenerationShift | layout.RegionClaimed)
	r.Pid.Store(4_000_000) // beyond what a kernel gives
	r.Joined.Store(wall)
}

// lockedByDead is the lock word that the dead process leaves.
func (im *image) lockedByDead() {
	im.died()
	im.main().shard(0).Lock.Store(deadToken)
}

func (s *slabImage) shard(i int) *layout.Shard {
	return shm.At[layout.Shard](s.seg.Window(), s.at.shard+uint64(i)*s.at.stride)
}

// cellAt returns the offset of a cell of shard 0 in the file.
func (s *slabImage) cellAt(n uint32) uint64 {
	return s.at.shard + s.at.cells + uint64(n-1)*uint64(s.geo.CellSize)
}

func (s *slabImage) cell(n uint32) *layout.CellHeader {
	return shm.At[layout.CellHeader](s.seg.Window(), s.cellAt(n))
}

// bucket returns index bucket n of shard 0.
func (s *slabImage) bucket(n uint64) *layout.Bucket {
	return shm.At[layout.Bucket](s.seg.Window(), s.at.shard+s.at.index+n*layout.SizeBucket)
}

// find returns the cell of a record.
func (s *slabImage) find(k string) uint32 {
	for n := uint32(1); n <= s.geo.Cells; n++ {
		c := s.cell(n)
		v := c.Version.Load()
		at := s.cellAt(n) + layout.SizeCellHeader
		length := uint64(c.KeyFlags.Load() & layout.KeyLengthMask)
		if v != 0 && v&layout.VersionStateMask == layout.VersionLive && length == uint64(len(k)) && string(s.seg.Bytes()[at:at+length]) == k {
			return n
		}
	}
	panic("no record " + k)
}

// slot returns the index slot that names a cell.
func (s *slabImage) slot(cell uint32) *layout.Uint64 {
	for n := range uint64(s.geo.Buckets + s.geo.Overflow) {
		b := s.bucket(n)
		for i := range b.Slots {
			if uint32(b.Slots[i].Load()) == cell {
				return &b.Slots[i]
			}
		}
	}
	panic(fmt.Sprintf("no slot names cell %d", cell))
}

// files returns the image's files.
func (im *image) files() (all []vectors.File) {
	add := func(name string, b []byte) {
		if other, replaced := im.extra[name]; replaced {
			b = other
		}
		all = append(all, vectors.File{Name: name, Bytes: b})
	}
	add("control", im.control.Bytes()[:im.geo.FileSize])
	for _, s := range im.slabs {
		add(s.file(), s.seg.Bytes()[:s.geo.FileSize()])
	}
	return all
}

func (s *slabImage) file() string { return fmt.Sprintf("slab-%016x", s.id) }

// saved is a copy of a slab's bytes.
func (s *slabImage) saved() []byte { return append([]byte(nil), s.seg.Bytes()...) }

// back puts some bytes of an earlier state back.
func (s *slabImage) back(from []byte, at, n uint64) { copy(s.seg.Bytes()[at:at+n], from[at:at+n]) }
