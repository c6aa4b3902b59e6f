package vandal

import (
	"math/bits"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
)

// choose picks one of the kinds, a place of it and what to write there; m is nil if
// there is no such place.
func (v *Vandal) choose() (m *mapped, p Place, is uint64) {
	kind := What(1) << v.random.IntN(bits.Len(uint(Headers)))
	if kind&v.What == 0 {
		return nil, p, 0
	}
	p = Place{What: kind, Shard: -1, Cell: -1, Index: -1, Width: 8}
	inSlab := kind >= Locks && kind <= Cells || (kind == Anywhere || kind == Headers) && v.random.IntN(2) == 0
	m = v.control
	if inSlab {
		if len(v.slabs) == 0 {
			return nil, p, 0
		}
		m = v.slabs[v.random.IntN(len(v.slabs))]
	}
	p.File = m.name
	var err error
	defer func() {
		if err != nil { // it is gone
			m = nil
		}
	}()
	defer m.seg.Catch(shm.Guard(), &err)
	switch {
	case kind == Headers:
		is = v.header(inSlab, &p)
	case kind == Anywhere && !inSlab:
		// The first line after what is written once: no clock, no `changes` is too good.
		p.Name, p.At, is = "word", v.word(256, m.seg.Window().Len()), v.number(64)
	case inSlab:
		is = v.inSlab(m, &p)
	default:
		is = v.inControl(&p)
	}
	return m, p, is
}

// word returns the offset of a word between two others.
func (v *Vandal) word(from, to uint64) uint64 { return from + 8*v.random.Uint64N((to-from)/8) }

// number returns a number of at most so many bits, of any magnitude.
func (v *Vandal) number(most int) uint64 {
	return v.random.Uint64() >> (64 - most + v.random.IntN(most))
}

// one returns one of them.
func (v *Vandal) one(of ...uint64) uint64 { return of[v.random.IntN(len(of))] }

// field picks a field of a struct that starts at base, and fills its place in.
func (v *Vandal) field(name string, base uint64, p *Place) layout.Field {
	fields := layout.Structs[name].Fields
	f := fields[v.random.IntN(len(fields))]
	v.at(f, base, p)
	return f
}

func (v *Vandal) at(f layout.Field, base uint64, p *Place) {
	p.Name, p.Width = f.Name, f.Width
	p.At = base + f.Offset + f.Width*v.random.Uint64N(f.Count)
}

// fieldNamed fills the place of a field in.
func (v *Vandal) fieldNamed(structure string, base uint64, p *Place, names ...string) layout.Field {
	name := names[v.random.IntN(len(names))]
	for _, f := range layout.Structs[structure].Fields {
		if f.Name == name {
			v.at(f, base, p)
			return f
		}
	}
	panic("no field " + name)
}

func (v *Vandal) header(inSlab bool, p *Place) uint64 {
	name := "ControlHeader"
	if inSlab {
		name = "SlabHeader"
	}
	for f := v.field(name, 0, p); f.Offset >= 256 && !inSlab; {
		f = v.field(name, 0, p)
	}
	return v.number(64)
}

// owner returns a token: of a living region, of nobody, or of one out of range.
func (v *Vandal) owner() uint64 {
	region := uint32(v.random.IntN(int(v.table.Regions)))
	w := v.control.seg.Window()
	r := shm.At[layout.Region](w, v.table.RegionOffset+uint64(region)*uint64(v.table.RegionStride))
	generation := uint32(r.State.Load() >> layout.StateGenerationShift)
	switch v.random.IntN(8) {
	case 0:
		return lock.Token(region, generation+1)
	case 1:
		return lock.Token(region, generation-1)
	case 2:
		return lock.Token(v.table.Regions+uint32(v.random.IntN(10)), generation)
	case 3:
		return v.number(64)
	case 4:
		return 0
	}
	for i := range v.table.Regions { // the living, if there is one
		n := (region + i) % v.table.Regions
		r = shm.At[layout.Region](w, v.table.RegionOffset+uint64(n)*uint64(v.table.RegionStride))
		if state := r.State.Load(); uint32(state) == layout.RegionClaimed {
			return lock.Token(n, uint32(state>>layout.StateGenerationShift))
		}
	}
	return lock.Token(region, generation)
}

// lockWord returns a word for a lock, with flags that are known or not.
func (v *Vandal) lockWord() uint64 {
	return v.owner() | v.one(0, 0, layout.LockWaiters, layout.LockStarved, layout.LockInconsistent, v.number(16))
}

func (v *Vandal) inControl(p *Place) uint64 {
	g := v.table
	w := v.control.seg.Window()
	switch p.What {
	case Clocks:
		v.fieldNamed("ControlHeader", 0, p, "WallClock", "DomainClock")
		now := shm.At[layout.Uint64](w, p.At).Load()
		return v.one(0, 1, now+v.number(14), now-v.number(20), now+v.number(40), 1<<63, ^uint64(0), v.number(64))
	case Changes:
		v.fieldNamed("ControlHeader", 0, p, "Changes")
		now := shm.At[layout.Uint64](w, p.At).Load()
		return v.one(now+1, now-1, now+2, 0, ^uint64(0), v.number(64))
	case Sums:
		v.fieldNamed("ControlHeader", 0, p, "Totals", "Steward")
		return v.one(v.owner(), v.number(64), ^uint64(0))
	case Mutexes:
		p.Index = v.random.IntN(int(g.Mutexes))
		v.fieldNamed("Mutex", g.MutexOffset+uint64(p.Index)*layout.SizeMutex, p, "Word", "Word", "Futex")
		return v.lockWord()
	case Entries:
		p.Index = v.busyEntry()
		base := g.EntryOffset + uint64(p.Index)*layout.SizeEntry
		f := v.field("Entry", base, p)
		if v.random.IntN(4) == 0 {
			f = v.fieldNamed("Entry", base, p, "State")
		}
		return v.entryWord(f.Name, shm.At[layout.Entry](w, base))
	}
	p.Index = v.random.IntN(int(g.Regions))
	base := g.RegionOffset + uint64(p.Index)*uint64(g.RegionStride)
	if v.random.IntN(4) == 0 { // what it lists
		p.Name, p.At = "list", v.word(base+layout.SizeRegion, base+uint64(g.RegionStride))
		return v.one(v.number(64), uint64(v.random.IntN(int(g.Mutexes)))<<32|v.random.Uint64N(4), v.segmentID())
	}
	f := v.field("Region", base, p)
	if f.Name == "State" {
		state := shm.At[layout.Region](w, base).State.Load()
		return v.one(state+1<<layout.StateGenerationShift, state&^0xf|v.random.Uint64N(4), v.number(64), 0)
	}
	return v.one(v.number(64), v.random.Uint64N(70), 0, 1, 2)
}

// busyEntry is mostly one that is in use.
func (v *Vandal) busyEntry() int {
	n := int(v.table.Entries)
	start := v.random.IntN(n)
	for i := range n * min(v.random.IntN(4), 1) {
		e := shm.At[layout.Entry](v.control.seg.Window(), v.table.EntryOffset+uint64((start+i)%n)*layout.SizeEntry)
		if e.State.Load()&layout.EntryStateMask != layout.EntryFree {
			return (start + i) % n
		}
	}
	return start
}

// segmentID is one that stands in the directory.
func (v *Vandal) segmentID() uint64 {
	e := shm.At[layout.Entry](v.control.seg.Window(), v.table.EntryOffset+uint64(v.busyEntry())*layout.SizeEntry)
	return e.SegmentID.Load()
}

func (v *Vandal) entryWord(field string, e *layout.Entry) uint64 {
	switch field {
	case "State":
		now := e.State.Load()
		return v.one(now&^layout.EntryStateMask|v.random.Uint64N(7), now+1<<layout.StateGenerationShift,
			now+1<<layout.EntryDrainsShift, v.number(64))
	case "SegmentID", "Stack":
		return v.one(v.segmentID(), 0, v.number(64))
	case "Size":
		return v.one(e.Size.Load()+8, e.Size.Load()/2, 1<<62, v.number(64))
	case "Kind", "Tier", "MutexID":
		return v.one(v.random.Uint64N(4), layout.KindApplication, v.number(32))
	}
	return v.number(64)
}

func (v *Vandal) inSlab(m *mapped, p *Place) uint64 {
	g := m.geo
	p.Shard = v.random.IntN(int(g.Shards))
	base := m.first + uint64(p.Shard)*m.stride
	cell := v.random.Uint64N(uint64(g.Cells)+2) + v.one(0, 0, 0, v.number(33))
	version := v.number(52)<<layout.VersionSequenceShift | uint64(p.Shard)<<layout.VersionShardShift | v.random.Uint64N(4)
	switch p.What {
	case Anywhere:
		p.Name, p.At = "word", v.word(base, base+m.stride)
		if p.At >= base+m.cells && g.CellSize != 0 {
			p.Cell = int((p.At-base-m.cells)/uint64(g.CellSize)) + 1
		}
		return v.one(v.number(64), cell, cell<<32|cell)
	case Locks:
		v.fieldNamed("Shard", base, p, "Lock", "Lock", "Lock", "Futex")
		return v.lockWord()
	case Epochs:
		f := v.fieldNamed("Shard", base, p, "Epoch", "Turn", "Sequence")
		now := shm.At[layout.Uint64](m.seg.Window(), p.At).Load()
		if f.Name == "Sequence" {
			return v.one(now+v.number(20), now-v.number(20), layout.VersionLimit>>layout.VersionSequenceShift-v.number(8), 1<<62, ^uint64(0), 0)
		}
		return v.one(now+1, now|1, now+2, now+1<<32, 0, ^uint64(0), v.number(64))
	case Heads:
		v.field("Shard", base, p)
		for p.At < base+136 { // locks and epochs are other kinds
			v.field("Shard", base, p)
		}
		return v.one(cell, 0, ^uint64(0), v.number(64))
	case Buckets:
		count := uint64(g.Buckets) + uint64(g.Overflow)
		f := v.field("Bucket", base+m.index+layout.SizeBucket*v.random.Uint64N(count), p)
		if f.Name == "Link" { // in circles, into other chains, out of range
			return v.one(v.random.Uint64N(uint64(g.Overflow)+2), 1, v.number(64))
		}
		now := shm.At[layout.Uint64](m.seg.Window(), p.At).Load()
		return v.one(now&^0xffffffff|cell&0xffffffff, v.number(32)<<layout.SlotTagShift|cell, 0, v.number(64))
	}
	p.Cell = 1 + v.random.IntN(int(g.Cells))
	if top := shm.At[layout.Shard](m.seg.Window(), base).Bump.Load(); top > 0 && top < g.Cells && v.random.IntN(8) > 0 {
		p.Cell = 1 + v.random.IntN(int(top)) // one that was used
	}
	at := base + m.cells + uint64(p.Cell-1)*uint64(g.CellSize)
	f := v.field("CellHeader", at, p)
	other := base + m.cells + v.random.Uint64N(uint64(g.Cells))*uint64(g.CellSize)
	switch f.Name {
	case "Version": // of other cells, of states it is not in
		now := shm.At[layout.Uint64](m.seg.Window(), p.At).Load()
		return v.one(shm.At[layout.Uint64](m.seg.Window(), other).Load(), now^1, now^2, now+1<<layout.VersionSequenceShift, version, v.number(64))
	case "Recency", "Expiry":
		return v.one(v.number(64), 1, ^uint64(0), v.number(48)<<16)
	case "ValueLength", "KeyFlags", "UserTag":
		return v.one(v.number(32), 0, 1, layout.MaxKeyLength, layout.MaxValueLength)
	}
	return v.one(cell, uint64(p.Cell), 0, cell|layout.QueueSmall)
}
