package table

import (
	"fmt"
	"math"
	"reflect"

	"github.com/zeebo/xxh3"

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

// checksummed is the number of header bytes under the checksum: those before it.
var checksummed = func() uint64 {
	f, _ := reflect.TypeFor[layout.ControlHeader]().FieldByName("Checksum")
	return uint64(f.Offset)
}()

func checksum(w shm.Window) uint64 { return xxh3.Hash(w.Append(nil, 0, checksummed)) }

// write writes the header of a segment of zeros, READY last: from then on peers
// use it. PROTOCOL.md, "Opening a domain".
func (h *header) write(w shm.Window) {
	c := shm.At[layout.ControlHeader](w, 0)
	c.Magic.Store(layout.ControlMagic)
	c.ReadVersion.Store(layout.Major)
	c.WriteVersion.Store(layout.Major)
	c.Endian.Store(layout.EndianMark)
	c.Compatible.Store(layout.KnownCompatible)
	c.Incompatible.Store(layout.KnownIncompatible)
	c.Fingerprint.Store(layout.Fingerprint)
	c.FileSize.Store(h.FileSize)
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
	h, err := readHeader(w, fileSize)
	return h.Geometry, err
}

func readHeader(w shm.Window, fileSize uint64) (header, error) {
	if size := min(w.Len(), fileSize); size < layout.PageSize {
		return header{}, &FormatError{"", "file size", size, layout.PageSize, ErrTruncated}
	}
	// A private copy cannot change between check and use.
	frozen := shm.Heap(layout.PageSize)
	w, live := frozen.Window(), w
	w.Write(0, live.Append(nil, 0, layout.PageSize))
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
	if err := first([]rule{
		equal("Magic", c.Magic.Load(), layout.ControlMagic, ErrMagic),
		equal("Endian", c.Endian.Load(), layout.EndianMark, ErrEndian),
		{c.ReadVersion.Load() <= layout.Major, "ReadVersion", uint64(c.ReadVersion.Load()), layout.Major, ErrVersion},
		{c.WriteVersion.Load() <= layout.Major, "WriteVersion", uint64(c.WriteVersion.Load()), layout.Major, ErrVersion},
		equal("Incompatible", c.Incompatible.Load(), c.Incompatible.Load()&layout.KnownIncompatible, ErrFeature),
		equal("Fingerprint", c.Fingerprint.Load(), layout.Fingerprint, ErrFingerprint),
		equal("Checksum", c.Checksum.Load(), checksum(w), ErrChecksum),
	}); err != nil {
		return header{}, err
	}
	for _, l := range h.limits() {
		if l.value < l.least || l.value > l.most {
			return header{}, &FormatError{"", l.name, uint64(l.value), uint64(min(max(l.value, l.least), l.most)), ErrGeometry}
		}
	}
	h.place() // within the limits, so nothing overflows
	if err := first([]rule{
		equal("RegionStride", uint64(c.RegionStride.Load()), uint64(h.RegionStride), ErrGeometry),
		equal("MutexOffset", c.MutexOffset.Load(), h.MutexOffset, ErrGeometry),
		equal("EntryOffset", c.EntryOffset.Load(), h.EntryOffset, ErrGeometry),
		equal("RegionOffset", c.RegionOffset.Load(), h.RegionOffset, ErrGeometry),
		equal("FileSize", c.FileSize.Load(), h.FileSize, ErrGeometry),
		{fileSize >= h.FileSize, "file size", fileSize, h.FileSize, ErrTruncated},
		{fileSize <= h.FileSize, "file size", fileSize, h.FileSize, ErrOversized},
		equal("Ready", c.Ready.Load(), layout.ControlReady, ErrNotReady),
	}); err != nil {
		return header{}, err
	}
	return h, nil
}

// rule is a condition on a field of the header.
type rule struct {
	ok        bool
	field     string
	got, want uint64
	err       error
}

func equal(field string, got, want uint64, err error) rule {
	return rule{got == want, field, got, want, err}
}

// first returns the first broken rule as an error.
func first(rules []rule) error {
	for _, r := range rules {
		if !r.ok {
			return &FormatError{"", r.field, r.got, r.want, r.err}
		}
	}
	return nil
}
