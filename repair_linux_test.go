//go:build linux

package flagstone_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/table"
)

// Wrong words in the directory, in each case of tier 0 or the tier below it: what is
// said, and whether the records of both are there when it is put right.
func TestRepair_DirectorySaysNonsense_SoundAndRecordsThere(t *testing.T) {
	type entries struct{ top, below *layout.Entry }
	const both, top = 2, 1
	for what, damage := range map[string]struct {
		damage func(e entries)
		says   string
		keeps  int
	}{
		"state unknown":        {func(e entries) { e.top.State.Store(e.top.State.Load() | 0xff) }, "state 255 is none", both},
		"free":                 {func(e entries) { e.top.State.Store(e.top.State.Load() &^ layout.EntryStateMask) }, "FREE, but file", both},
		"below, state unknown": {func(e entries) { e.below.State.Store(77) }, "state 77 is none", top},
		"below, free":          {func(e entries) { e.below.State.Store(0) }, "FREE, but file", top},
		"size":                 {func(e entries) { e.top.Size.Add(8) }, "the file has", both},
		"below, size":          {func(e entries) { e.below.Size.Store(1 << 60) }, "the file has", both},
		"stack":                {func(e entries) { e.top.Stack.Store(5) }, "tier 0 of stack", both},
		"below, stack":         {func(e entries) { e.below.Stack.Store(5) }, "which has no tier 0", top},
		"tier":                 {func(e entries) { e.top.Tier.Store(9) }, "of a stack of its own", both},
		"below, tier":          {func(e entries) { e.below.Tier.Store(0) }, "which has another", top},
		"id":                   {func(e entries) { e.top.SegmentID.Store(5) }, "no such file", both},
		"below, id":            {func(e entries) { e.below.SegmentID.Store(5) }, "no such file", top},
		"kind":                 {func(e entries) { e.top.Kind.Store(0xffffff) }, "no such file of kind 0xffffff", both},
		"draining":             {func(e entries) { e.top.State.Add(layout.EntryDraining - layout.EntryOpen) }, "is being retired", both},
		"name":                 {func(e entries) { e.top.Name[0].Store('x') }, `no slab "primary"`, both},
		"two of one file":      {func(e entries) { e.below.SegmentID.Store(e.top.SegmentID.Load()) }, "names the file too", top},
		"creating by nobody": {
			func(e entries) { e.below.State.Store(0xffff<<layout.EntryRegionShift | layout.EntryCreating) },
			"made by region 65534 of 16", top,
		},
	} {
		t.Run(what, func(t *testing.T) {
			o := bystander(options(t.TempDir()))
			c := open(t, o)
			_, err := c.Grow(limited(t), "below", flagstone.Shape{})
			must(t, err)
			for i := range 40 {
				set(t, c, i)
			}
			if n := got[int](t)(c.Shift(limited(t), 0, 1, 20)); n != 20 {
				t.Fatalf("%d moved", n)
			}
			control := c.Table()
			w := mapped(t, filepath.Join(control.Dir(), "control"))
			at := func(tier uint32) *layout.Entry {
				for _, e := range control.Entries() {
					if e.Tier == tier {
						return shm.At[layout.Entry](w, control.Geometry().EntryOffset+uint64(e.Index)*layout.SizeEntry)
					}
				}
				t.Fatalf("no tier %d", tier)
				return nil
			}
			e := entries{at(0), at(1)}
			must(t, c.Close()) // who is there goes on with what is attached
			damage.damage(e)

			control, err = table.Open(limited(t), table.Options{Dir: o.Dir, Name: name, MustExist: true})
			must(t, err)
			found := got[[]string](t)(control.Check())
			if !strings.Contains(strings.Join(found, "\n"), damage.says) {
				t.Errorf("found %q", found)
			}
			if remaining := got[[]string](t)(control.Repair(limited(t))); len(remaining) > 0 {
				t.Errorf("remains %q", remaining)
			}
			must(t, control.Close())
			o.MustExist = true
			c = open(t, o)
			must(t, c.Repair(limited(t)))
			sound(t, c)
			there := 0
			for i := range 40 {
				if v, ok, err := c.Get(nil, fmt.Append(nil, "key", i)); err != nil || ok && string(v) != fmt.Sprint("value", i) {
					t.Errorf("key %d is %q, %v", i, v, err)
				} else if ok {
					there++
				}
			}
			if there != 20*damage.keeps {
				t.Errorf("%d records", there)
			}
			files := got[[]string](t)(filepath.Glob(filepath.Join(c.Table().Dir(), "slab-*")))
			if len(files) != damage.keeps {
				t.Errorf("files %q", files)
			}
			set(t, c, 1000)
		})
	}
}

// The header page and the READY word are put right by who has the domain open.
func TestRepair_HeaderOverwritten_WrittenAnewByWhoHasItOpen(t *testing.T) {
	o := bystander(options(t.TempDir()))
	c := open(t, o)
	set(t, c, 1)
	w := mapped(t, controlFile(t, o.Dir))
	for _, at := range []uint64{layout.OffsetControlHeaderRegions, layout.OffsetControlHeaderChecksum, layout.OffsetControlHeaderReady} {
		shm.At[layout.Uint64](w, at).Store(0xdeadbeef)
		_, err := flagstone.Open(limited(t), name, o)
		mustFail(t, err, table.ErrFormat)
		if problems := got[[]string](t)(c.Check(limited(t))); len(problems) != 1 || !strings.Contains(problems[0], "control") {
			t.Errorf("%#x: %q", at, problems)
		}
		must(t, c.Repair(limited(t)))
		mustGet(t, open(t, o), "key1", "value1")
		sound(t, c)
	}
}

// A file that belongs to nothing goes, one that somebody is making does not.
func TestRepair_LeftoverFile_RemovedButNotWhatIsBeingMade(t *testing.T) {
	o := bystander(options(t.TempDir()))
	c := open(t, o)
	r, err := c.Table().Reserve(table.Spec{Kind: table.KindApplication, Size: 4096})
	must(t, err)
	seg, err := r.Create()
	must(t, err)
	leftover := filepath.Join(c.Table().Dir(), "slab-00000000000000aa")
	must(t, os.WriteFile(leftover, make([]byte, 4096), 0o600))
	if problems := got[[]string](t)(c.Check(limited(t))); len(problems) != 1 || !strings.Contains(problems[0], "slab-00000000000000aa: no entry names it") {
		t.Errorf("%q", problems)
	}
	must(t, c.Repair(limited(t)))
	if _, err := os.Stat(leftover); !os.IsNotExist(err) {
		t.Error(err)
	}
	_, err = r.Publish()
	must(t, err)
	c.Table().Detach(r.Entry().SegmentID)
	must(t, seg.Close())
	sound(t, c)
}

// An entry of the same slab as another's is no second tier: its records would be found in
// both, and a rebuild would free them.
func TestView_TwoEntriesOfOneSlab_OneTier(t *testing.T) {
	for tier := range 2 {
		o := bystander(options(t.TempDir()))
		c := open(t, o)
		for _, name := range []string{"below", "twin"} {
			_, err := c.Grow(limited(t), name, flagstone.Shape{})
			must(t, err)
		}
		for i := range 40 {
			set(t, c, i)
		}
		if n := got[int](t)(c.Shift(limited(t), 0, 1, 20)); n != 20 {
			t.Fatalf("%d moved", n)
		}
		tiers := got[[]*flagstone.Slab](t)(c.Tiers())
		twin := got[table.Entry](t)(entryOf(c, tiers[2]))
		w := mapped(t, filepath.Join(c.Table().Dir(), "control"))
		e := shm.At[layout.Entry](w, c.Table().Geometry().EntryOffset+uint64(twin.Index)*layout.SizeEntry)
		e.SegmentID.Store(tiers[tier].ID())
		must(t, c.Table().SetFlags(1, 0)) // moves `changes`
		must(t, c.Rebuild(limited(t)))
		if n := tiersOf(t, c); n != 2 {
			t.Errorf("%d tiers", n)
		}
		for i := range 40 {
			mustGet(t, c, fmt.Sprint("key", i), fmt.Sprint("value", i))
		}
	}
}
