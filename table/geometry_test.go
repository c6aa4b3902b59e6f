//go:build linux

package table

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

func anyOptions(t *rapid.T) Options {
	o := Options{
		Regions: rapid.IntRange(0, layout.MaxRegions).Draw(t, "regions"),
		Entries: rapid.IntRange(0, layout.MaxEntries).Draw(t, "entries"),
		Held:    rapid.IntRange(0, layout.MaxHeld).Draw(t, "held"),
		Mapped:  rapid.IntRange(0, layout.MaxMapped).Draw(t, "mapped"),
	}
	if least := max(o.Entries, layout.DefaultEntries); rapid.Bool().Draw(t, "mutexes given") {
		o.Mutexes = rapid.IntRange(least, layout.MaxMutexes).Draw(t, "mutexes")
	}
	return o
}

func TestGeometry_AnyLegal_NothingOverlaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, err := Plan(anyOptions(t))
		if err != nil {
			t.Fatal(err)
		}
		// In the order of the file, each part starts where the one before ends, or
		// after that.
		end := uint64(layout.SizeControlHeader)
		part := func(name string, from, to uint64) {
			if from < end || to <= from || from%8 != 0 || to > g.FileSize {
				t.Fatalf("%s at %d to %d, after %d: %+v", name, from, to, end, g)
			}
			end = to
		}
		part("mutexes", g.mutex(0), g.mutex(g.Mutexes))
		part("entries", g.entry(0), g.entry(int(g.Entries)))
		for i := range int(g.Regions) {
			part("region", g.region(i), g.region(i)+layout.SizeRegion)
			part("held", g.held(i, 0), g.held(i, int(g.Held)))
			part("mapped", g.mapped(i, 0), g.mapped(i, int(g.Mapped)))
		}
		// Lines of different writers: tables and regions start on their own.
		for _, off := range []uint64{g.mutex(0), g.mutex(1), g.entry(0), g.entry(1), g.region(0), g.region(1)} {
			if off%layout.LineSize != 0 {
				t.Fatalf("%d is not the start of a line: %+v", off, g)
			}
		}
		if g.FileSize%layout.PageSize != 0 {
			t.Fatalf("file of %d bytes", g.FileSize)
		}
	})
}

func TestHeader_DecodeOfEncode_Identity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, err := Plan(anyOptions(t))
		if err != nil {
			t.Fatal(err)
		}
		u64 := rapid.Uint64()
		h := header{
			Geometry: g, seed: u64.Draw(t, "seed"), created: u64.Draw(t, "created"),
			uuid: [2]uint64{u64.Draw(t, "uuid"), u64.Draw(t, "uuid")},
			boot: [2]uint64{u64.Draw(t, "boot"), u64.Draw(t, "boot")},
		}
		seg := shm.Heap(layout.PageSize)
		h.write(seg.Window())
		got, err := readHeader(seg.Window(), g.FileSize, false)
		if err != nil || got != h {
			t.Fatalf("%+v, %v, want %+v", got, err, h)
		}
		// Any byte under the checksum that changes is noticed.
		at := rapid.Uint64Range(0, layout.ControlHeaderChecksummed-1).Draw(t, "at")
		b := seg.Window().Append(nil, at, 1)
		seg.Window().Write(at, []byte{b[0] ^ byte(rapid.IntRange(1, 255).Draw(t, "flip"))})
		if _, err := ReadGeometry(seg.Window(), g.FileSize); err == nil {
			t.Fatalf("byte %d changed unnoticed", at)
		}
	})
}

func TestReadGeometry_AnyBytes_NoPanic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seg := shm.Heap(layout.PageSize)
		(&header{Geometry: mustPlan(t)}).write(seg.Window())
		for range rapid.IntRange(0, 4).Draw(t, "patches") {
			bytes := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "bytes")
			seg.Window().Write(rapid.Uint64Range(0, layout.PageSize-64).Draw(t, "at"), bytes)
		}
		if rapid.Bool().Draw(t, "sealed") {
			shm.At[layout.ControlHeader](seg.Window(), 0).Checksum.Store(checksum(seg.Window()))
		}
		size := rapid.Uint64().Draw(t, "size")
		g, err := ReadGeometry(seg.Window(), size)
		if err == nil && (g.FileSize != size || g.region(int(g.Regions)) > size) {
			t.Fatalf("accepted %+v for a file of %d", g, size)
		}
		_, _ = ReadGeometry(seg.Window().Sub(0, 8), size)
		_, _ = ReadGeometry(shm.Window{}, size)
	})
}

func mustPlan(t *rapid.T) Geometry {
	g, err := Plan(Options{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}
