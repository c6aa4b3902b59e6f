package flagstone_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// A slab that this handle cannot map: hits above it are answered, anything else is an
// error that says why, and nothing is changed.
func unattached(t *testing.T, c *flagstone.Cache, above string, cause error) {
	t.Helper()
	for range 2 {
		mustGet(t, c, above, above)
		var b flagstone.Batch
		must(t, c.GetBatch(&b, [][]byte{[]byte(above)}))
		for name, err := range everything(t, c) {
			if name == "Holders" || err == nil && name == "GetBatch of nothing" { // ask nothing of the slabs
				continue
			}
			mustFail(t, fmt.Errorf("%s: %w", name, err), flagstone.ErrUnattached, cause)
		}
		_, err := c.Tiers()
		mustFail(t, err, flagstone.ErrUnattached, cause)
		_, err = c.Grow(limited(t), "more", flagstone.Shape{})
		mustFail(t, err, flagstone.ErrUnattached, cause)
		_, err = c.GetOrLoad(limited(t), []byte("missing"), noLoad(t))
		mustFail(t, err, flagstone.ErrUnattached, cause)
		mustGet(t, c, above, above)
	}
}

// recovered is what follows when nothing keeps the handle from the slab any more.
func recovered(t *testing.T, c *flagstone.Cache, above string) {
	t.Helper()
	mustGet(t, c, above, above)
	mustGet(t, c, "k", "k")
	mustMiss(t, c, "missing")
	must(t, c.Set(limited(t), []byte("missing"), []byte("v"), 0))
	found, err := c.Delete(limited(t), []byte("missing"))
	if must(t, err); !found {
		t.Fatal("was set")
	}
	n, err := c.Len()
	if must(t, err); n != 2 {
		t.Fatalf("%d records", n)
	}
	sound(t, c)
}

func TestAttach_Impossible_ErrUnattachedUntilItIs(t *testing.T) {
	broken := map[string]func(t *testing.T, path string) (mend func(), cause error){
		"file removed": func(t *testing.T, path string) (func(), error) {
			must(t, os.Rename(path, path+".away"))
			return func() { must(t, os.Rename(path+".away", path)) }, fs.ErrNotExist
		},
		"wrong size": func(t *testing.T, path string) (func(), error) {
			info, err := os.Stat(path)
			must(t, err)
			must(t, os.Truncate(path, info.Size()+4096))
			return func() { must(t, os.Truncate(path, info.Size())) }, table.ErrSegmentSize
		},
		"no right to it": func(t *testing.T, path string) (func(), error) {
			must(t, os.Chmod(path, 0o666))
			return func() { must(t, os.Chmod(path, 0o600)) }, table.ErrUnsafeFile
		},
		"header damaged": func(t *testing.T, path string) (func(), error) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
			t.Cleanup(func() { f.Close() })
			var was [8]byte
			_, err = f.ReadAt(was[:], 0)
			must(t, err)
			write := func(b []byte) { _, err := f.WriteAt(b, 0); must(t, err) }
			write(bytes.Repeat([]byte{1}, 8))
			return func() { write(was[:]) }, new(slab.FormatError)
		},
	}
	for what, breaks := range broken {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			o := small(dir)
			a := open(t, o)
			s := growMore(t, a, 1, 100)[0]
			must(t, a.Set(limited(t), []byte("k"), []byte("k"), 0))
			sink(t, a, 1)
			must(t, a.Set(limited(t), []byte("above"), []byte("above"), 0))
			mend, cause := breaks(t, fileOf(t, dir, s.ID()))
			b := open(t, o)
			if format := new(slab.FormatError); errors.As(cause, &format) {
				_, _, err := b.Get(nil, []byte("k"))
				if !errors.As(err, &format) {
					t.Fatalf("%v says nothing of the header", err)
				}
				cause = flagstone.ErrUnattached
			}
			unattached(t, b, "above", cause)
			mustGet(t, a, "k", "k") // who has it keeps it
			mend()
			recovered(t, b, "above")
		})
	}
}

// A handle that lists as many segments as it may finds what is above until it lists
// one less, and tells of both.
func TestAttach_TooManyMapped_ErrUnattachedUntilOneGoes(t *testing.T) {
	dir := t.TempDir()
	domain, err := table.Open(limited(t), table.Options{Dir: dir, Name: name, Mapped: 3, Entries: 8})
	must(t, err)
	defer domain.Close()
	a := open(t, small(dir))
	events := make(chan flagstone.Event, 100)
	o := small(dir)
	o.Steward.Off = true // becoming it is an event too
	o.OnEvent = func(e flagstone.Event) { events <- e }
	b := open(t, o)
	var all []*table.Reservation
	for range 2 {
		r, err := b.Table().Reserve(table.Spec{Kind: table.KindApplication, Size: 4096})
		must(t, err)
		seg, err := r.Create()
		must(t, err)
		t.Cleanup(func() { must(t, seg.Close()) })
		all = append(all, r)
	}
	growMore(t, a, 1, 100)
	must(t, a.Set(limited(t), []byte("k"), []byte("k"), 0))
	sink(t, a, 1)
	must(t, a.Set(limited(t), []byte("above"), []byte("above"), 0))
	unattached(t, b, "above", table.ErrTooManyMapped)
	mustGet(t, a, "k", "k")
	must(t, all[0].Abort())
	recovered(t, b, "above")
	first, second := <-events, <-events
	if first.Kind != flagstone.EventUnattached || !errors.Is(first.Err, table.ErrTooManyMapped) || second.Kind != flagstone.EventSlabAdded || len(events) != 0 {
		t.Fatalf("%+v, %+v and %d more", first, second, len(events))
	}
}

// foreign publishes a slab as another implementation might, and returns its entry.
func foreign(t *testing.T, c *flagstone.Cache, o slab.Options) table.Entry {
	t.Helper()
	g, err := slab.Plan(o)
	must(t, err)
	r, err := c.Table().Reserve(spec(c, "foreign", g))
	must(t, err)
	seg, err := r.Create()
	must(t, err)
	id := r.Entry().SegmentID
	must(t, slab.Format(seg, g, slab.Identity{SegmentID: id, Domain: c.Table().UUID(), HashSeed: c.Seed()}, c.Table().Wall()))
	e, err := r.Publish()
	must(t, err)
	c.Table().Detach(id)
	must(t, seg.Close())
	return e
}

// Another number of shards cannot be a tier: nobody guesses what is in it. Trying
// again and again costs no mappings.
func TestAttach_OtherShardCount_ErrShapeUntilItIsRetired(t *testing.T) {
	dir := t.TempDir()
	c := open(t, small(dir))
	must(t, c.Set(limited(t), []byte("k"), []byte("k"), 0))
	must(t, c.Set(limited(t), []byte("above"), []byte("above"), 0))
	e := foreign(t, c, slab.Options{Entries: 100, Shards: 2 * shards, MaxValue: 1000})
	for range 2 {
		_, err := c.Delete(limited(t), []byte("above"))
		mustFail(t, err, flagstone.ErrUnattached, slab.ErrShape)
		_, _, err = c.Get(nil, []byte("missing"))
		mustFail(t, err, flagstone.ErrUnattached, slab.ErrShape)
		mustGet(t, c, "above", "above")
	}
	lines := func() int {
		maps, err := os.ReadFile("/proc/self/maps")
		must(t, err)
		return strings.Count(string(maps), "\n")
	}
	before := lines()
	for range 5000 {
		if _, _, err := c.Get(nil, []byte("missing")); err == nil {
			t.Fatal("a miss")
		}
	}
	if after := lines(); after > before+1000 {
		t.Fatalf("%d mappings, there were %d", after, before)
	}
	must(t, c.Table().Retire(e))
	recovered(t, c, "above")
	eventually(t, "the entry is free", func() bool { return len(c.Table().Entries()) == 1 })
}

// More slabs than a stack may have: the rest is not ignored.
func TestAttach_MoreThanMaxTiers_ErrUnattached(t *testing.T) {
	dir := t.TempDir()
	domain, err := table.Open(limited(t), table.Options{Dir: dir, Name: name, Mapped: 100, Entries: 100})
	must(t, err)
	defer domain.Close()
	c := open(t, small(dir))
	must(t, c.Set(limited(t), []byte("k"), []byte("k"), 0))
	must(t, c.Set(limited(t), []byte("above"), []byte("above"), 0))
	var last table.Entry
	for range layout.MaxTiers {
		last = foreign(t, c, slab.Options{Entries: 1, Shards: shards, MaxKey: 8, MaxValue: 40})
	}
	_, _, err = c.Get(nil, []byte("missing"))
	mustFail(t, err, flagstone.ErrUnattached)
	mustGet(t, c, "above", "above")
	must(t, c.Table().Retire(last))
	recovered(t, c, "above")
}
