package table

import (
	"fmt"
	"math"

	"github.com/flagstone-shm/flagstone/internal/format"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Geometry is how a control segment is divided. A handle reads it once, checks
// it and keeps it; a peer that changes it later is not believed.
type Geometry struct {
	Regions, Entries, Mutexes uint32 // lengths of the tables
	Held, Mapped              uint32 // most mutexes and segments that a region lists
	RegionStride              uint32 // bytes from one region to the next
	MutexOffset               uint64 // bytes from the start of the file, as the next three
	EntryOffset               uint64
	RegionOffset              uint64
	FileSize                  uint64
}

// Plan returns the geometry of a control segment made with these options, or
// ErrOptions.
func Plan(o Options) (Geometry, error) {
	g := Geometry{Entries: orDefault(o.Entries, layout.DefaultEntries)}
	g.Regions = orDefault(o.Regions, layout.DefaultRegions)
	g.Mutexes = orDefault(o.Mutexes, max(layout.DefaultMutexes, g.Entries))
	g.Held = orDefault(o.Held, layout.DefaultHeld)
	g.Mapped = orDefault(o.Mapped, layout.DefaultMapped)
	for _, l := range g.limits() {
		if l.value < l.least || l.value > l.most {
			return Geometry{}, fmt.Errorf("%s: %d, allowed are %d to %d: %w", l.name, l.value, l.least, l.most, ErrOptions)
		}
	}
	g.place()
	return g, nil
}

func orDefault(n int, unset uint32) uint32 {
	switch {
	case n == 0:
		return unset
	case n < 0 || n > math.MaxUint32:
		return math.MaxUint32 // out of every range
	}
	return uint32(n)
}

type limit struct {
	name               string
	value, least, most uint32
}

// limits lists the free choices of a geometry with their ranges.
func (g *Geometry) limits() []limit {
	return []limit{
		{"Regions", g.Regions, 1, layout.MaxRegions},
		{"Entries", g.Entries, 1, layout.MaxEntries},
		{"Mutexes", g.Mutexes, g.Entries, layout.MaxMutexes}, // the first ones belong to the entries
		{"Held", g.Held, 1, layout.MaxHeld},
		{"Mapped", g.Mapped, 1, layout.MaxMapped},
	}
}

// place computes everything that follows from the choices.
func (g *Geometry) place() {
	g.RegionStride = uint32(roundUp(layout.SizeRegion+8*uint64(g.Held)+8*uint64(g.Mapped), layout.LineSize))
	g.MutexOffset = layout.PageSize
	g.EntryOffset = g.MutexOffset + layout.SizeMutex*uint64(g.Mutexes)
	g.RegionOffset = g.EntryOffset + layout.SizeEntry*uint64(g.Entries)
	g.FileSize = roundUp(g.RegionOffset+uint64(g.RegionStride)*uint64(g.Regions), layout.PageSize)
}

func roundUp(n, unit uint64) uint64 { return (n + unit - 1) / unit * unit }

func (g *Geometry) mutex(i uint32) uint64 { return g.MutexOffset + layout.SizeMutex*uint64(i) }
func (g *Geometry) entry(i int) uint64    { return g.EntryOffset + layout.SizeEntry*uint64(i) }
func (g *Geometry) region(i int) uint64   { return g.RegionOffset + uint64(g.RegionStride)*uint64(i) }

func (g *Geometry) held(i, slot int) uint64 {
	return g.region(i) + layout.SizeRegion + 8*uint64(slot)
}
func (g *Geometry) mapped(i, slot int) uint64 { return g.held(i, int(g.Held)+slot) }

// header is what the header page says, besides the geometry.
type header struct {
	Geometry
	seed    uint64
	uuid    [2]uint64
	boot    [2]uint64
	created uint64
}

func checksum(w shm.Window) uint64 { return format.Checksum(w, layout.ControlHeaderChecksummed) }

// write writes the header of a segment of zeros, READY last: from then on peers
// use it. PROTOCOL.md, "Opening a domain".
func (h *header) write(w shm.Window) {
	c := shm.At[layout.ControlHeader](w, 0)
	format.Stamp(w, layout.ControlMagic, h.FileSize)
	c.Mutexes.Store(h.Mutexes)
	c.Entries.Store(h.Entries)
	c.Regions.Store(h.Regions)
	c.Held.Store(h.Held)
	c.Mapped.Store(h.Mapped)
	c.RegionStride.Store(h.RegionStride)
	c.MutexOffset.Store(h.MutexOffset)
	c.EntryOffset.Store(h.EntryOffset)
	c.RegionOffset.Store(h.RegionOffset)
	c.HashSeed.Store(h.seed)
	c.DomainUUID[0].Store(h.uuid[0])
	c.DomainUUID[1].Store(h.uuid[1])
	c.BootID[0].Store(h.boot[0])
	c.BootID[1].Store(h.boot[1])
	c.Created.Store(h.created)
	c.Checksum.Store(checksum(w))
	c.Ready.Store(layout.ControlReady) // pairs with the openers' look at READY
}

// ReadGeometry checks the header page at the start of w, which is the beginning
// of a file of fileSize bytes, and returns the geometry; everything it describes
// lies inside the file. It fails with a FormatError and changes nothing. The
// bytes may be anything and may change meanwhile.
func ReadGeometry(w shm.Window, fileSize uint64) (Geometry, error) {
	h, err := readHeader(w, fileSize, true)
	return h.Geometry, err
}

func readHeader(live shm.Window, fileSize uint64, reading bool) (header, error) {
	w, err := format.Freeze(controlFile, live, layout.ControlMagic, layout.ControlHeaderChecksummed, fileSize, reading)
	if err != nil {
		return header{}, err
	}
	c := shm.At[layout.ControlHeader](w, 0)
	h := header{
		Geometry: Geometry{
			Regions: c.Regions.Load(), Entries: c.Entries.Load(), Mutexes: c.Mutexes.Load(),
			Held: c.Held.Load(), Mapped: c.Mapped.Load(),
		},
		seed:    c.HashSeed.Load(),
		uuid:    [2]uint64{c.DomainUUID[0].Load(), c.DomainUUID[1].Load()},
		boot:    [2]uint64{c.BootID[0].Load(), c.BootID[1].Load()},
		created: c.Created.Load(),
	}
	for _, l := range h.limits() {
		within := format.Within(l.name, uint64(l.value), uint64(l.least), uint64(l.most), ErrGeometry)
		if err := format.Check(controlFile, within); err != nil {
			return header{}, err
		}
	}
	h.place() // within the limits, so nothing overflows
	return h, format.Check(controlFile,
		format.Equal("RegionStride", uint64(c.RegionStride.Load()), uint64(h.RegionStride), ErrGeometry),
		format.Equal("MutexOffset", c.MutexOffset.Load(), h.MutexOffset, ErrGeometry),
		format.Equal("EntryOffset", c.EntryOffset.Load(), h.EntryOffset, ErrGeometry),
		format.Equal("RegionOffset", c.RegionOffset.Load(), h.RegionOffset, ErrGeometry),
		format.Equal("FileSize", c.FileSize.Load(), h.FileSize, ErrGeometry),
		format.Size(fileSize, h.FileSize),
		format.Equal("Ready", c.Ready.Load(), layout.ControlReady, ErrNotReady),
	)
}
