package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// damaged makes a cache of one shard with records, of one cell each but for the
// last, and overwrites words of its slab's file behind its back: at an offset in
// the shard's head or, from the first cell on, of cell n.
func damaged(t *testing.T, b bench, name string, cell func(cellOffset uint64) (at, word uint64)) {
	t.Helper()
	var made createdJSON
	b.run("create", name, "--entries", "100", "--shards", "1", "--max-value", "500", "--json").exits(0).decode(&made)
	for i := range 9 {
		b.run("set", name, fmt.Sprint("key", i), fmt.Sprint("value", i)).exits(0)
	}
	b.run("set", name, "long", strings.Repeat("v", 400)).exits(0)
	slabs, err := filepath.Glob(filepath.Join(made.Path, "slab-*"))
	if err != nil || len(slabs) != 1 {
		t.Fatal(slabs, err)
	}
	f, err := os.OpenFile(slabs[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var page [layout.SizeSlabHeader]byte
	if _, err := f.ReadAt(page[:], 0); err != nil {
		t.Fatal(err)
	}
	field := func(name string) uint64 {
		for _, f := range layout.Structs["SlabHeader"].Fields {
			if f.Name == name {
				return binary.LittleEndian.Uint64(page[f.Offset:])
			}
		}
		t.Fatal("no field", name)
		return 0
	}
	at, word := cell(field("CellOffset"))
	if _, err := f.WriteAt(binary.LittleEndian.AppendUint64(nil, word), int64(field("ShardOffset")+at)); err != nil {
		t.Fatal(err)
	}
}

func TestCheckRepair_DamagedWords_SoundAndNoneLostButTheDamaged(t *testing.T) {
	const head, cellSize = 0, layout.DefaultCellSize
	for name, c := range map[string]struct {
		dropped uint64
		at      func(cells uint64) (at, word uint64)
	}{
		"counts":    {0, func(uint64) (uint64, uint64) { return head + 136, 1<<32 | 77 }}, // Live, Used
		"free-list": {0, func(uint64) (uint64, uint64) { return head + 144, 3 }},          // FreeHead, Bump
		"ends":      {0, func(uint64) (uint64, uint64) { return head + 160, 999 << 32 }},  // Front, Back
		"bytes":     {0, func(uint64) (uint64, uint64) { return head + 192, 1 << 60 }},
		"index":     {0, func(uint64) (uint64, uint64) { return layout.SizeShard, 0xdeadbeef00000002 }},
		"order":     {0, func(cells uint64) (uint64, uint64) { return cells + 16, 5<<32 | 5 }},                   // Prev, Next of cell 1
		"lengths":   {1, func(cells uint64) (uint64, uint64) { return cells + 32, 0xffff<<32 | 1<<20 }},          // of cell 1
		"version":   {0, func(cells uint64) (uint64, uint64) { return cells + 20*cellSize, 0xffffffffffffff00 }}, // of a cell never used
		"chain":     {1, func(cells uint64) (uint64, uint64) { return cells + 9*cellSize + 40, 1 }},              // of the long record
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			damaged(t, b, "c", c.at)
			b.run("check", "c").exits(exitNegative).says("shard 0").warns("problems", "flagstone check c --repair")
			var out checkedJSON
			b.run("check", "c", "--repair", "--json").exits(0).decode(&out)
			if !out.Sound || len(out.Problems) == 0 || out.Repair == nil || out.Repair.Dropped != c.dropped ||
				out.Repair.Rebuilt == 0 || out.Repair.Records != 10-c.dropped || len(out.Repair.Remaining) != 0 {
				t.Errorf("%+v, %+v", out, out.Repair)
			}
			b.run("check", "c", "--repair").exits(0).says("c is sound") // nothing to do
			found := uint64(0)
			for i := range 9 {
				if o := b.run("get", "c", fmt.Sprint("key", i)); o.code == 0 && o.out == fmt.Sprint("value", i) {
					found++
				}
			}
			if o := b.run("get", "c", "long"); o.code == 0 && o.out == strings.Repeat("v", 400) {
				found++
			}
			if found != 10-c.dropped {
				t.Errorf("%d records are readable", found)
			}
			b.run("set", "c", "key0", "again").exits(0)
		})
	}
}

func TestCheckRepair_ForPeople_SaysWhatWasGivenUp(t *testing.T) {
	b := newBench(t)
	damaged(t, b, "c", func(cells uint64) (uint64, uint64) { return cells + 32, 0xffff<<32 | 1<<20 })
	b.run("check", "c", "--repair").exits(0).
		says("cell 1: lengths or chain of a live record are damaged", "repaired: 1 shards rebuilt, 1 damaged records given up, 9 records remain", "c is sound")
	b.run("stat", "c").exits(0).says("1 shards rebuilt, 1 damaged records dropped")
}

// The directory says nothing that the cache could be opened by.
func TestCheckRepair_DirectoryEntryDamaged_CacheIsBack(t *testing.T) {
	b := newBench(t)
	var made createdJSON
	b.run("create", "c", "--entries", "100", "--json").exits(0).decode(&made)
	b.run("set", "c", "key", "value").exits(0)
	f, err := os.OpenFile(filepath.Join(made.Path, "control"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var at [8]byte
	if _, err := f.ReadAt(at[:], layout.OffsetControlHeaderEntryOffset); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{77}, int64(binary.LittleEndian.Uint64(at[:]))); err != nil { // the first entry's state
		t.Fatal(err)
	}
	b.run("get", "c", "key").exits(exitError)
	b.run("check", "c").exits(exitNegative).says("state 77 is none").warns("flagstone check c --repair")
	b.run("check", "c", "--repair").exits(0).says("state 77 is none", "c is sound")
	b.run("get", "c", "key").exits(0).says("value")
	b.run("check", "c").exits(0).says("c is sound")

	if _, err := f.WriteAt([]byte{1, 2, 3}, layout.OffsetControlHeaderChecksum); err != nil {
		t.Fatal(err)
	}
	b.run("check", "c", "--repair").exits(exitError).warns("checksum", "flagstone destroy c")
}
