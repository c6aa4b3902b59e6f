package dump

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/format"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cache makes a cache with something of everything, left open.
func cache(t *testing.T) (dir string, c *flagstone.Cache) {
	t.Helper()
	dir = t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	c, err := flagstone.Open(ctx, "c", flagstone.Options{
		Dir: dir, Entries: 50, Shards: 1, CellSize: 128, MaxKey: 100, MaxValue: 1000, Regions: 3,
		Wake: signal.Options{Mode: signal.ModePoll, Poll: time.Hour},
	})
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_, err = c.SetItem(ctx, []byte("key"), flagstone.Item{Value: []byte("value"), Tag: 77, TTL: time.Hour, StaleFor: 9 * time.Second})
	must(t, err)
	must(t, c.Set(ctx, []byte("long"), []byte(strings.Repeat("0123456789", 40)), 0))
	must(t, c.SetHash(ctx, 255, nil, 0))
	_, err = c.Claim(ctx, []byte("claimed"), time.Hour)
	must(t, err)
	must(t, c.Namespace("ns").Set(ctx, []byte("inner"), nil, 0))
	must(t, c.Set(ctx, []byte("gone"), []byte("text"), 0))
	_, err = c.Delete(ctx, []byte("gone"))
	must(t, err)
	return dir, c
}

func find(t *testing.T, dir, segment string) string {
	t.Helper()
	path, err := Find(dir, "c", segment)
	must(t, err)
	return path
}

// show returns all sections as text, and as they are.
func show(path string, o Options) (text string, all []Section, err error) {
	var b strings.Builder
	err = Run(path, o, func(s Section) error {
		all = append(all, s)
		fmt.Fprintf(&b, "%s|%s|%d\n", s.Name, s.Struct, s.Offset)
		for _, f := range s.Fields {
			value := "-"
			if f.Value != nil {
				value = fmt.Sprintf("%#x", *f.Value)
			}
			fmt.Fprintf(&b, "  %s|%s|%s|%x\n", f.Name, value, f.Means, f.Bytes)
		}
		return nil
	})
	return b.String(), all, err
}

func parsed(t *testing.T, text string) (r Range) {
	t.Helper()
	must(t, r.Set(text))
	return r
}

func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
}

func TestRun_Control_EveryWordWithItsMeaning(t *testing.T) {
	dir, c := cache(t)
	text, all, err := show(find(t, dir, "control"), Options{})
	must(t, err)
	self := c.Table().Self()
	says(t, text, "header|ControlHeader|0", "Checksum|", "|as expected|", "Ready|0x1|ready|", "entry 0|Entry|",
		"open, generation 0", `Name|-|"primary"|`, fmt.Sprintf("region %d|Region|", self), "claimed, generation 1",
		fmt.Sprintf("Pid|%#x|%d|", os.Getpid(), os.Getpid()), "WakeMode|0x0|polls|", "mapped[0]|", "Totals|")
	if len(all) != 3 || all[0].Fields[0].Doc == "" || len(all[0].Fields[0].Bytes) != 0 {
		t.Errorf("%d sections: %+v", len(all), all)
	}
	// Named ones are shown though they are empty, and nothing else.
	text, all, err = show(find(t, dir, "control"), Options{Regions: parsed(t, "0..1"), Mutexes: parsed(t, "5")})
	must(t, err)
	if len(all) != 3 || !strings.HasPrefix(text, "mutex 5|") || !strings.Contains(text, "Word|0x0|free") {
		t.Error(text)
	}
	if _, _, err := show(find(t, dir, "control"), Options{Entries: parsed(t, "64..99")}); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
}

func TestRun_Slab_CellsDecoded(t *testing.T) {
	dir, c := cache(t)
	path := find(t, dir, "primary")
	text, all, err := show(path, Options{})
	must(t, err)
	says(t, text, "header|SlabHeader|0", "Order|0x1|lru|", "shard 0|Shard|4096", "Lock|0x0|free|", "at rest, 0 rebuilds")
	if len(all) != 2 {
		t.Error(text)
	}
	text, _, err = show(path, Options{Cells: parsed(t, "all"), Buckets: parsed(t, "all"), Hex: true})
	must(t, err)
	token := fmt.Sprintf("claim.Owner|0x1%04x0000|region %d, generation 1|", c.Table().Self()+1, c.Table().Self())
	says(t, text, "|CellHeader|", "|TailHeader|", "live, sequence ", `key|-|"long"`, `value|-|"01234567890123456789012345678901234567890`[:40],
		"(400 bytes)", "8 bytes, hash key", `key|-|"claimed"`, "7 bytes, claim", "claim.State|0x1|loading|", token,
		`key|-|"ns"`, "2 bytes, namespace", "13 bytes, in a namespace", "tail, or head being written", "cell 1, tag ",
		"UserTag|0x4d|77|", "stale for 9 s",
		"(bytes)|-|", "free, sequence", "UserTag|0x0|")
	// What no record is in is left out by all, not by its number.
	if _, sections, _ := show(path, Options{Cells: parsed(t, "all")}); len(sections) >= 50 || len(sections) < 10 {
		t.Errorf("%d cells", len(sections))
	}
	text, all, err = show(path, Options{Shards: parsed(t, "0"), Cells: parsed(t, "60")})
	if err != nil || len(all) != 1 || !strings.Contains(text, "never used") {
		t.Error(text, err)
	}
	if _, _, err := show(path, Options{Cells: parsed(t, "0")}); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
	if text, all, err := show(path, Options{Shards: parsed(t, "all")}); err != nil || len(all) != 1 || all[0].Struct != "Shard" {
		t.Error(text, err)
	}
}

// Every field of every struct is shown, with its bytes.
func TestRun_Hex_BytesOfEachField(t *testing.T) {
	dir, _ := cache(t)
	path := find(t, dir, "primary")
	whole, err := os.ReadFile(path)
	must(t, err)
	_, all, err := show(path, Options{Hex: true})
	must(t, err)
	for _, s := range all {
		for _, f := range s.Fields {
			if f.Value == nil {
				continue
			}
			at := s.Offset + f.Offset
			if string(f.Bytes) != string(whole[at:at+uint64(len(f.Bytes))]) || number(f.Bytes) != *f.Value {
				t.Errorf("%s.%s: %x, %#x", s.Name, f.Name, f.Bytes, *f.Value)
			}
		}
		if want := len(layout.Structs[s.Struct].Fields); len(s.Fields) < want {
			t.Errorf("%s: %d fields, want %d", s.Name, len(s.Fields), want)
		}
	}
}

func TestRun_DamagedHeader_ShownAndRefused(t *testing.T) {
	dir, _ := cache(t)
	for _, file := range []string{find(t, dir, "control"), find(t, dir, "primary")} {
		whole, err := os.ReadFile(file)
		must(t, err)
		damaged := filepath.Join(t.TempDir(), filepath.Base(file))
		for name, c := range map[string]struct {
			change func(b []byte) []byte
			want   error
			says   string
		}{
			"magic":     {func(b []byte) []byte { b[0] = 'X'; return b }, format.ErrMagic, "XLAG"},
			"checksum":  {func(b []byte) []byte { b[50]++; return b }, format.ErrChecksum, "expected 0x"},
			"reserved":  {func(b []byte) []byte { b[4000] = 1; return b }, nil, "(reserved)"},
			"empty":     {func([]byte) []byte { return nil }, format.ErrTruncated, "beyond the end of the file"},
			"cut":       {func(b []byte) []byte { return b[:100] }, format.ErrTruncated, "beyond the end of the file"},
			"truncated": {func(b []byte) []byte { return b[:len(b)-4096] }, format.ErrTruncated, "|4096"[:1]},
			"oversized": {func(b []byte) []byte { return append(b, 0) }, format.ErrOversized, "header"},
		} {
			must(t, os.WriteFile(damaged, c.change([]byte(string(whole))), 0o600))
			text, all, err := show(damaged, Options{})
			if !errors.Is(err, c.want) || len(all) == 0 {
				t.Errorf("%s: %v, want %v: %s", name, err, c.want, text)
			}
			says(t, text, c.says)
			if name == "truncated" && len(all) < 2 {
				t.Errorf("nothing but the header: %s", text)
			}
		}
	}
}

func everything(t *testing.T) Options {
	all := parsed(t, "all")
	return Options{
		Hex: true, Mutexes: all, Entries: all, Regions: all, Shards: all, Buckets: all, Overflow: all, Cells: all,
	}
}

func TestRun_TruncatedAnywhere_ShowsWhatIsThere(t *testing.T) {
	dir, _ := cache(t)
	whole, err := os.ReadFile(find(t, dir, "primary"))
	must(t, err)
	path := filepath.Join(t.TempDir(), "slab-0000000000000001")
	must(t, os.WriteFile(path, whole, 0o600))
	o, before := everything(t), 1<<30
	for n := len(whole) - 4; n >= layout.PageSize; n -= 12 {
		must(t, os.Truncate(path, int64(n)))
		_, all, err := show(path, o)
		if !errors.Is(err, format.ErrTruncated) || len(all) > before {
			t.Fatalf("%d of %d bytes: %v, %d structs", n, len(whole), err, len(all))
		}
		before = len(all)
	}
	if before != 0 {
		t.Errorf("%d structs behind the end", before)
	}
}

// A sound header may say more than there is: loops follow the file.
func TestRun_HeaderOfAHugeSlab_EndsAtOnce(t *testing.T) {
	g, err := slab.Plan(slab.Options{Entries: 1 << 37, Shards: layout.MaxShards})
	must(t, err)
	page := shm.Heap(layout.PageSize)
	must(t, slab.Format(page, g, slab.Identity{SegmentID: 1}, 0))
	path := filepath.Join(t.TempDir(), "slab-0000000000000001")
	must(t, os.WriteFile(path, append(page.Window().Append(nil, 0, layout.PageSize), make([]byte, 1000)...), 0o600))
	text, all, err := show(path, everything(t))
	if !errors.Is(err, format.ErrTruncated) || len(all) != 0 {
		t.Errorf("%v: %s", err, text)
	}
	text, all, err = show(path, Options{})
	if !errors.Is(err, format.ErrTruncated) || len(all) != 2 || all[1].Struct != "Shard" {
		t.Errorf("%v: %s", err, text)
	}
}

// Whatever stands in the files, a dump ends, and shows no more than they hold.
func TestRun_AnyBytes_EndsAndStaysInside(t *testing.T) {
	dir, _ := cache(t)
	scratch := t.TempDir()
	var files [2][]byte
	for i, segment := range []string{"control", "primary"} {
		var err error
		files[i], err = os.ReadFile(find(t, dir, segment))
		must(t, err)
	}
	all := everything(t)
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, 1).Draw(t, "file")
		b := []byte(string(files[i]))
		for range rapid.IntRange(0, 200).Draw(t, "words") {
			at := rapid.IntRange(0, len(b)/8-1).Draw(t, "at") * 8
			if at < 400 {
				continue
			}
			binary.LittleEndian.PutUint64(b[at:], rapid.Uint64().Draw(t, "word"))
		}
		if rapid.Bool().Draw(t, "header") { // one of the numbers that say what lies where
			at := []int{56, 88}[i] + 4*rapid.IntRange(0, 20).Draw(t, "field")
			binary.LittleEndian.PutUint32(b[at:], rapid.Uint32().Draw(t, "number"))
		}
		if rapid.Bool().Draw(t, "sealed") {
			covered := []int{layout.ControlHeaderChecksummed, layout.SlabHeaderChecksummed}[i]
			binary.LittleEndian.PutUint64(b[covered:], xxh3.Hash(b[:covered]))
		}
		b = b[:rapid.IntRange(0, len(b)).Draw(t, "length")]
		path := filepath.Join(scratch, []string{"control", "slab-0000000000000001"}[i])
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, o := range []Options{{}, all} {
			err := Run(path, o, func(s Section) error {
				for _, f := range s.Fields {
					if n := uint64(len(f.Bytes)); n > 0 && s.Offset+f.Offset+n > uint64(len(b)) {
						t.Fatalf("%s.%s lies beyond %d bytes", s.Name, f.Name, len(b))
					}
				}
				return nil
			})
			if err != nil && !errors.Is(err, format.ErrFormat) {
				t.Fatal(err)
			}
		}
	})
}

func TestFind_Names(t *testing.T) {
	dir, c := cache(t)
	id := c.Table().Entries()[0].SegmentID
	for _, name := range []string{"primary", fmt.Sprintf("%x", id), fmt.Sprintf("0x%016x", id), fmt.Sprintf("slab-%016x", id)} {
		if path, err := Find(dir, "c", name); err != nil || !strings.HasSuffix(path, fmt.Sprintf("slab-%016x", id)) {
			t.Error(name, path, err)
		}
	}
	_, err := c.Table().PublishSegment(table.Spec{Kind: table.KindApplication, Name: "mine", Size: 4096}, func([]byte) error { return nil })
	must(t, err)
	mine, _ := c.Table().Find(table.KindApplication, "mine")
	for name, want := range map[string]error{
		"12": ErrSegment, "nonsense": ErrSegment, fmt.Sprintf("%x", mine.SegmentID): ErrSegment,
	} {
		if _, err := Find(dir, "c", name); !errors.Is(err, want) {
			t.Error(name, err)
		}
	}
	if _, err := Find(dir, "nope", "control"); !errors.Is(err, table.ErrNotFound) {
		t.Error(err)
	}
	// With several slabs the directory says which is which, as long as it can be read.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cold, err := c.Grow(ctx, "cold", flagstone.Shape{})
	must(t, err)
	for name, id := range map[string]uint64{"primary": id, "cold": cold.ID(), fmt.Sprintf("%x", cold.ID()): cold.ID()} {
		if path, err := Find(dir, "c", name); err != nil || !strings.HasSuffix(path, fmt.Sprintf("slab-%016x", id)) {
			t.Error(name, path, err)
		}
	}
	control := find(t, dir, "control")
	elsewhere := t.TempDir()
	folder := filepath.Join(elsewhere, "c.flagstone", filepath.Base(filepath.Dir(control)))
	must(t, os.MkdirAll(folder, 0o700))
	for _, file := range []string{"control", "slab-0000000000000007", "slab-0000000000000008"} {
		must(t, os.WriteFile(filepath.Join(folder, file), nil, 0o600))
	}
	if _, err := Find(elsewhere, "c", "primary"); !errors.Is(err, ErrSegment) || !strings.Contains(err.Error(), "slab-0000000000000007") {
		t.Error(err)
	}
	if path, err := Find(elsewhere, "c", "7"); err != nil || filepath.Base(path) != "slab-0000000000000007" {
		t.Error(path, err)
	}
}

// Words that say something else once there are tiers.
func TestRun_Tiers_WordsWithTheirMeaning(t *testing.T) {
	dir, c := cache(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cold, err := c.Grow(ctx, "cold", flagstone.Shape{})
	must(t, err)
	e, _ := c.Table().Find(table.KindSlab, "cold")
	e, err = c.Table().Drain(e)
	must(t, err)
	text, _, err := show(find(t, dir, "control"), Options{})
	must(t, err)
	says(t, text, "draining, drain 1, generation", fmt.Sprintf("Stack|%#x|of segment %016x|", e.Stack, e.Stack))
	_, err = c.Table().Reopen(e)
	must(t, err)
	leading, err := c.Table().Lead()
	must(t, err)
	text, _, err = show(find(t, dir, "control"), Options{})
	must(t, err)
	says(t, text, "open, drain 1, generation")
	if leading {
		says(t, text, fmt.Sprintf("|region %d, generation 1|", c.Table().Self()))
	}
	if text, _, err := show(find(t, dir, fmt.Sprintf("%x", cold.ID())), Options{}); err != nil || !strings.Contains(text, "shard 0|Shard|") {
		t.Error(text, err)
	}
	for want, word := range map[string]struct {
		of, field string
		index, v  uint64
	}{
		"at rest, 2 rebuilds, 3 removals from tiers below": {"Shard", "Epoch", 0, 3*layout.EpochRemoval | 4},
		"creating by region 6, generation 0":               {"Entry", "State", 0, 7<<layout.EntryRegionShift | layout.EntryCreating},
		"9 hits in tier 2":                                 {"Region", "Counters", layout.CounterTierHits + 2, 9},
		"9 hits in tier 7 and below":                       {"ControlHeader", "Totals", layout.CounterTierHits + 7, 9},
		"nobody":                                           {"ControlHeader", "Steward", 0, 0},
		"none":                                             {"Entry", "Stack", 0, 0},
	} {
		if got := meaning(word.of, word.field, word.index, word.v, nil); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestRange_Texts(t *testing.T) {
	for _, text := range []string{"", "x", "3..", "..3", "5..4", "-1"} {
		var r Range
		if err := r.Set(text); !errors.Is(err, ErrRange) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, want := range map[string]string{"all": "[1 2 3 4]", "2": "[2]", "0x2..3": "[2 3]", "0..2": "[1 2]", "3..18446744073709551615": "[3 4]"} {
		var got []uint64
		err := parsed(t, text).each("thing", 1, 4, func(i uint64, asked bool) error {
			if asked == (text == "all") {
				t.Errorf("%s: asked %v", text, asked)
			}
			got = append(got, i)
			return nil
		})
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}
