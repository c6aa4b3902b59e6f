package slab

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone/internal/format"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

func anyOptions(t *rapid.T) Options {
	o := Options{
		CellSize: 64 * rapid.OneOf(rapid.IntRange(0, 8), rapid.IntRange(0, layout.MaxCellSize/64)).Draw(t, "cell/64"),
		MaxKey:   rapid.IntRange(0, layout.MaxKeyLength).Draw(t, "key"),
		MaxValue: rapid.OneOf(rapid.IntRange(0, 1<<17), rapid.IntRange(0, layout.MaxValueLength)).Draw(t, "value"),
		OnFull:   rapid.SampledFrom([]Policy{Evict, Refuse}).Draw(t, "policy"),
		Order:    rapid.SampledFrom([]Order{0, LRU, S3FIFO}).Draw(t, "order"),
	}
	if rapid.Bool().Draw(t, "shards given") {
		o.Shards = 1 << rapid.IntRange(0, 8).Draw(t, "log shards")
	}
	if rapid.Bool().Draw(t, "size given") {
		o.Size = rapid.OneOf(rapid.Uint64Range(0, 1<<32), rapid.Uint64Range(0, 1<<50)).Draw(t, "size")
	} else {
		o.Entries = rapid.OneOf(rapid.Uint64Range(1, 1000), rapid.Uint64Range(1, 1<<32)).Draw(t, "entries")
	}
	return o
}

func TestGeometry_AnyLegal_NothingOverlapsAndDecodesAsEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := anyOptions(t)
		g, err := Plan(o)
		if errors.Is(err, ErrOptions) && (o.Entries == 0 || o.Entries > 1<<20) {
			return // no room for one record, or too many
		}
		if err != nil {
			t.Fatal(err)
		}
		if o.Size != 0 && g.FileSize() > o.Size {
			t.Fatalf("file of %d bytes, at most %d were asked for", g.FileSize(), o.Size)
		}
		if o.Entries != 0 && g.Capacity != o.Entries || g.Capacity == 0 {
			t.Fatalf("capacity %d, asked for %d", g.Capacity, o.Entries)
		}
		if o.Shards != 0 && g.Shards != uint32(o.Shards) {
			t.Fatalf("%d shards, asked for %d", g.Shards, o.Shards)
		}
		// In the order of the file; each part ends before the next starts.
		end := uint64(0)
		part := func(name string, from, n, align uint64) {
			if from < end || from%align != 0 || n == 0 || from+n > g.FileSize() || from+n < from {
				t.Fatalf("%s: %d bytes at %d, after %d of %d: %+v", name, n, from, end, g.FileSize(), g)
			}
			end = from + n
		}
		part("header", 0, layout.SizeSlabHeader, layout.PageSize)
		for i := range uint64(g.Shards) {
			base := g.shardOffset() + i*g.shardStride()
			part("shard head", base, layout.SizeShard, layout.PageSize)
			part("buckets", base+g.indexOffset(), uint64(g.Buckets)*layout.SizeBucket, layout.LineSize)
			part("overflow buckets", base+g.indexOffset()+uint64(g.Buckets)*layout.SizeBucket, uint64(g.Overflow)*layout.SizeBucket, layout.LineSize)
			if g.Order == S3FIFO {
				part("ghosts", base+g.ghostOffset(), g.ghostSize(), layout.LineSize)
			}
			part("cells", base+g.cellOffset(), g.cellBytes(), layout.PageSize)
		}
		if pages(end) != g.FileSize() {
			t.Fatalf("%d bytes at the end belong to nothing: %+v", g.FileSize()-end, g)
		}
		if g.CellSize%layout.LineSize != 0 || uint64(g.Buckets)*layout.SlotsPerBucket < uint64(g.Cells) {
			t.Fatalf("%+v", g)
		}
		// Even if all records were in one bucket.
		if layout.SlotsPerBucket*(1+uint64(g.Overflow)) < uint64(g.Cells) {
			t.Fatalf("too few overflow buckets: %+v", g)
		}
		if g.Order != max(o.Order, LRU) || g.Order == LRU && g.ghostSize() != 0 {
			t.Fatalf("order %d was asked for: %+v", o.Order, g)
		}
		if g.Headroom() < uint64(g.Shards)*uint64(g.Reserve) || uint64(g.Cells) < 2*uint64(g.Reserve) {
			t.Fatalf("no reserve: %+v", g)
		}

		page := shm.Heap(layout.PageSize)
		w := page.Window()
		h := shm.At[layout.SlabHeader](w, 0)
		format.Stamp(w, layout.SlabMagic, g.FileSize())
		h.SegmentID.Store(testID.SegmentID)
		h.DomainUUID[0].Store(testID.Domain[0])
		h.DomainUUID[1].Store(testID.Domain[1])
		h.HashSeed.Store(testID.HashSeed)
		g.store(h)
		h.Checksum.Store(format.Checksum(w, layout.SlabHeaderChecksummed))
		h.Ready.Store(1)
		got, id, err := readHeader("f", w, g.FileSize(), false)
		if err != nil || got != g || id != testID {
			t.Fatalf("%+v, %+v, %v; want %+v", got, id, err, g)
		}
	})
}

// Words of different writers: of the lock's line, of the lines that readers load,
// and of the lines that only the lock holder touches.
func TestGeometry_Shard_WritersHaveLinesOfTheirOwn(t *testing.T) {
	kind := func(field string) string {
		switch field {
		case "Lock", "Futex":
			return "lock"
		case "Epoch", "Turn":
			return "readers"
		}
		return "holder"
	}
	lines := map[uintptr]string{}
	shard := reflect.TypeOf(layout.Shard{})
	for i := range shard.NumField() {
		f := shard.Field(i)
		if f.Name == "_" {
			continue
		}
		line := f.Offset / layout.LineSize
		if other, ok := lines[line]; ok && other != kind(f.Name) {
			t.Errorf("%s shares line %d with words of %s", f.Name, line, other)
		}
		lines[line] = kind(f.Name)
	}
}

func TestPlan_ImpossibleOptions_SayWhich(t *testing.T) {
	for want, o := range map[string]Options{
		"cells of 100 bytes":         {CellSize: 100},
		"cells of -64 bytes":         {CellSize: -64},
		"cells of 2097152 bytes":     {CellSize: 2 << 20},
		"keys of 65536 bytes":        {MaxKey: 1 << 16},
		"keys of -1 bytes":           {MaxKey: -1},
		"values of 1073741825 bytes": {MaxValue: 1<<30 + 1},
		"values of -1 bytes":         {MaxValue: -1},
		"3 shards":                   {Shards: 3},
		"512 shards":                 {Shards: 512},
		"-1 shards":                  {Shards: -1},
		"policy 7":                   {OnFull: 7},
		"order 3":                    {Order: 3},
		"both Size and Entries":      {Size: 1 << 20, Entries: 1},
		"too large":                  {Entries: 1 << 60},
		"1000 bytes are too few":     {Size: 1000},
		"cells per shard, the limit": {Entries: 1 << 33, Shards: 1},
	} {
		if g, err := Plan(o); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %+v, %v; want %q", o, g, err, want)
		}
	}
}

func TestPlan_ZeroOptions_Defaults(t *testing.T) {
	g, err := Plan(Options{})
	if err != nil || g.FileSize() > DefaultSize || g.FileSize() < DefaultSize*15/16 || g.CellSize != layout.DefaultCellSize ||
		g.MaxKey != DefaultMaxKey || g.MaxValue != DefaultMaxValue || g.OnFull != Evict {
		t.Fatalf("%+v, %d bytes, %v", g, g.FileSize(), err)
	}
}

// Each field that can be wrong is named, with both values, and the file stays as
// it was.
func TestOpen_DamagedHeader_NamesTheField(t *testing.T) {
	options := Options{Entries: 100, Shards: 2}
	w := newWorld()
	for _, c := range []struct {
		field    string
		want     error
		damage   func(h *layout.SlabHeader)
		checksum bool // computed again after the damage
	}{
		{"Magic", format.ErrMagic, func(h *layout.SlabHeader) { h.Magic.Add(1) }, true},
		{"Magic", format.ErrMagic, func(h *layout.SlabHeader) { h.Magic.Store(layout.ControlMagic) }, true},
		{"ReadVersion", format.ErrVersion, func(h *layout.SlabHeader) { h.ReadVersion.Store(layout.Major + 1) }, true},
		{"WriteVersion", format.ErrVersion, func(h *layout.SlabHeader) { h.WriteVersion.Store(layout.Major + 1) }, true},
		{"Endian", format.ErrEndian, func(h *layout.SlabHeader) { h.Endian.Store(0x0102030405060708) }, true},
		{"Incompatible", format.ErrFeature, func(h *layout.SlabHeader) { h.Incompatible.Store(1 << 63) }, true},
		{"Fingerprint", format.ErrFingerprint, func(h *layout.SlabHeader) { h.Fingerprint.Add(1) }, true},
		{"FileSize", format.ErrGeometry, func(h *layout.SlabHeader) { h.FileSize.Add(4096) }, true},
		{"SegmentID", format.ErrForeign, func(h *layout.SlabHeader) { h.SegmentID.Add(1) }, true},
		{"DomainUUID[0]", format.ErrForeign, func(h *layout.SlabHeader) { h.DomainUUID[0].Add(1) }, true},
		{"DomainUUID[1]", format.ErrForeign, func(h *layout.SlabHeader) { h.DomainUUID[1].Add(1) }, true},
		{"HashSeed", format.ErrForeign, func(h *layout.SlabHeader) { h.HashSeed.Add(1) }, true},
		{"Shards", format.ErrGeometry, func(h *layout.SlabHeader) { h.Shards.Store(0) }, true},
		{"Shards", format.ErrGeometry, func(h *layout.SlabHeader) { h.Shards.Store(3) }, true},
		{"Shards", format.ErrGeometry, func(h *layout.SlabHeader) { h.Shards.Store(1 << 31) }, true},
		{"CellSize", format.ErrGeometry, func(h *layout.SlabHeader) { h.CellSize.Store(0) }, true},
		{"CellSize", format.ErrGeometry, func(h *layout.SlabHeader) { h.CellSize.Store(100) }, true},
		{"Cells", format.ErrGeometry, func(h *layout.SlabHeader) { h.Cells.Store(1<<32 - 1) }, true},
		{"Buckets", format.ErrGeometry, func(h *layout.SlabHeader) { h.Buckets.Store(0) }, true},
		{"Buckets", format.ErrGeometry, func(h *layout.SlabHeader) { h.Buckets.Store(1<<32 - 1) }, true},
		{"Overflow", format.ErrGeometry, func(h *layout.SlabHeader) { h.Overflow.Store(0) }, true},
		{"MaxKey", format.ErrGeometry, func(h *layout.SlabHeader) { h.MaxKey.Store(7) }, true},
		{"MaxValue", format.ErrGeometry, func(h *layout.SlabHeader) { h.MaxValue.Store(1 << 31) }, true},
		{"Reserve", format.ErrGeometry, func(h *layout.SlabHeader) { h.Reserve.Store(0) }, true},
		{"Order", format.ErrGeometry, func(h *layout.SlabHeader) { h.Order.Store(0) }, true},
		{"Order", format.ErrGeometry, func(h *layout.SlabHeader) { h.Order.Store(layout.OrderS3FIFO + 1) }, true},
		{"Ghosts", format.ErrGeometry, func(h *layout.SlabHeader) { h.Order.Store(layout.OrderS3FIFO) }, true},
		{"Ghosts", format.ErrGeometry, func(h *layout.SlabHeader) { h.Ghosts.Store(1<<32 - 1) }, true},
		{"GhostOffset", format.ErrGeometry, func(h *layout.SlabHeader) { h.GhostOffset.Store(8) }, true},
		{"Full", format.ErrGeometry, func(h *layout.SlabHeader) { h.Full.Store(2) }, true},
		{"Capacity", format.ErrGeometry, func(h *layout.SlabHeader) { h.Capacity.Store(0) }, true},
		{"Capacity", format.ErrGeometry, func(h *layout.SlabHeader) { h.Capacity.Store(1 << 63) }, true},
		{"ShardOffset", format.ErrGeometry, func(h *layout.SlabHeader) { h.ShardOffset.Add(8) }, true},
		{"ShardStride", format.ErrGeometry, func(h *layout.SlabHeader) { h.ShardStride.Store(1 << 63) }, true},
		{"IndexOffset", format.ErrGeometry, func(h *layout.SlabHeader) { h.IndexOffset.Store(0) }, true},
		{"CellOffset", format.ErrGeometry, func(h *layout.SlabHeader) { h.CellOffset.Store(0) }, true},
		{"Checksum", format.ErrChecksum, func(h *layout.SlabHeader) { h.Created.Add(1) }, false},
		{"Checksum", format.ErrChecksum, func(h *layout.SlabHeader) { h.Shards.Store(4) }, false},
		{"Ready", format.ErrNotReady, func(h *layout.SlabHeader) { h.Ready.Store(0) }, true},
	} {
		seg := newSegment(t, options)
		win := seg.Window()
		h := shm.At[layout.SlabHeader](win, 0)
		c.damage(h)
		if c.checksum {
			h.Checksum.Store(format.Checksum(win, layout.SlabHeaderChecksummed))
		}
		before := win.Append(nil, 0, win.Len())
		s, err := Open(seg, w.member(0).domain(), testID)
		var e *FormatError
		if s != nil || !errors.As(err, &e) || e.Field != c.field || !errors.Is(err, c.want) || e.Got == e.Want || e.File != seg.Name() {
			t.Errorf("%s: %v", c.field, err)
		}
		if !bytes.Equal(before, win.Append(nil, 0, win.Len())) {
			t.Errorf("%s: the refused file was changed", c.field)
		}
	}
}

func TestOpen_AnyByteOfTheHeaderFlipped_RefusedOrOpenAndNeverPanics(t *testing.T) {
	w := newWorld()
	for off := range uint64(layout.SlabHeaderChecksummed) {
		for _, restamp := range []bool{false, true} {
			seg := newSegment(t, Options{Entries: 20, Shards: 1, MaxValue: 100})
			win := seg.Window()
			h := shm.At[layout.SlabHeader](win, 0)
			b := win.Append(nil, off, 1)
			win.Write(off, []byte{^b[0]})
			if restamp {
				h.Checksum.Store(format.Checksum(win, layout.SlabHeaderChecksummed))
			}
			s, err := Open(seg, w.member(0).domain(), testID)
			var e *FormatError
			switch {
			case err == nil && restamp: // features that one may ignore, times, and geometries that do describe the file
				if err := s.Set(bg, []byte("k"), []byte("v"), 0); err != nil {
					t.Fatal(off, err)
				}
				mustGet(t, s, []byte("k"), "v")
			case err == nil || !errors.As(err, &e):
				t.Fatalf("byte %d, restamped %v: %v", off, restamp, err)
			}
		}
	}
}

func TestOpen_FileShorterOrLonger_SaysSo(t *testing.T) {
	w := newWorld()
	g, err := Plan(Options{Entries: 100})
	if err != nil {
		t.Fatal(err)
	}
	for size, want := range map[uint64]error{
		4096: format.ErrTruncated, g.FileSize() - 4096: format.ErrTruncated, g.FileSize() + 4096: format.ErrOversized,
	} {
		full := newSegment(t, Options{Entries: 100})
		seg := shm.Heap(size)
		seg.Window().Write(0, full.Window().Append(nil, 0, layout.PageSize))
		if _, err := Open(seg, w.member(0).domain(), testID); !errors.Is(err, want) {
			t.Errorf("%d bytes instead of %d: %v", size, g.FileSize(), err)
		}
	}
}

// The geometry is not read again after Open.
func TestGeometry_HeaderOverwrittenAfterOpen_NoEffect(t *testing.T) {
	seg := newSegment(t, Options{Entries: 100, Shards: 2})
	w := newWorld()
	s := open(t, seg, w.member(0))
	seg.Window().Write(0, bytes.Repeat([]byte{0xff}, layout.PageSize))
	for i := range uint64(100) {
		if err := s.Set(bg, key16(i), key16(i), 0); err != nil {
			t.Fatal(err)
		}
		mustGet(t, s, key16(i), string(key16(i)))
	}
	sound(t, s)
}

// The promise behind Capacity: n distinct keys fit, however they hash. The
// tightest shards come from the fullest of many seeds.
func TestHeadroom_ManySeeds_NoShardOverflows(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, c := range []struct {
		n      uint64
		shards int
	}{{1000, 2}, {1376, 16}, {5000, 64}, {20_000, 8}, {20_000, 256}} {
		t.Run(fmt.Sprintf("%d records, %d shards", c.n, c.shards), func(t *testing.T) {
			g, err := Plan(Options{Entries: c.n, Shards: c.shards, MaxKey: 16, MaxValue: 1})
			if err != nil {
				t.Fatal(err)
			}
			room := uint64(g.Cells - g.Reserve)
			s := &Stack{}
			var fullest uint64
			for round := range uint64(effort(20)) {
				s.seed = seed + round
				fill := make([]uint64, c.shards)
				for i := range c.n {
					var h uint64
					if round%2 == 0 {
						h = s.HashOf(key16(i))
					} else { // applications' hashes may be as weak as a count
						var buf [8]byte
						k := s.HashKey(i, &buf)
						h = k.hash
					}
					fill[h%uint64(c.shards)]++
				}
				for _, n := range fill {
					fullest = max(fullest, n)
				}
			}
			mean := c.n / uint64(c.shards)
			t.Logf("mean %d, fullest %d, room %d", mean, fullest, room)
			if fullest > room {
				t.Errorf("a shard of %d records was to hold %d", room, fullest)
			}
			if room > 4*mean+64 {
				t.Errorf("room for %d records where %d are the mean", room, mean)
			}
		})
	}
}
