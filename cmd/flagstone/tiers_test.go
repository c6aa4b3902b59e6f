package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/table"
)

// crowded makes a cache of two slabs with more records than the first one holds.
func crowded(b bench, name string, records int, grow ...string) (below grownJSON) {
	b.Helper()
	b.run("create", name, "--entries", "20", "--shards", "1", "--max-key", "16", "--max-value", "64").exits(0)
	b.run(append([]string{"grow", name, "--json"}, grow...)...).exits(0).decode(&below)
	for i := range records {
		b.run("set", name, fmt.Sprint("key", i), fmt.Sprint("value", i)).exits(0)
	}
	return below
}

func (b bench) stat(name string) (st statJSON) {
	b.Helper()
	b.run("stat", name, "--json").exits(0).decode(&st)
	return st
}

func TestGrow_Shape_AsAskedElseAsTheFirst(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "100", "--shards", "2", "--order", "s3fifo", "--max-value", "100").exits(0)
	b.run("grow", "c").exits(0).says("c has a new slab: tier1, tier 1, 0x", "s3fifo", "shards     2 of", "value 100 bytes")
	var out grownJSON
	b.run("grow", "c", "large", "--entries", "7", "--cell", "256", "--max-value", "1k", "--order", "lru", "--on-full", "refuse", "--json").exits(0).decode(&out)
	if s := out.Shape; out.Slab.Name != "large" || out.Slab.Tier != 2 || s.Capacity != 7 || s.CellSize != 256 || s.MaxValue != 1024 || s.Order != "lru" || s.OnFull != "refuse" || s.Shards != 2 {
		t.Errorf("%+v", out)
	}
	st := b.stat("c")
	if len(st.Tiers) != 3 || st.Tiers[1].Name != "tier1" || st.Tiers[2].MaxValue != 1024 || st.Entries[2].Stack != st.Entries[0].Segment {
		t.Errorf("%+v", st.Tiers)
	}
	b.run("grow", "c", "large").exits(exitUsage).warns("there is a slab", "another name")
	b.run("grow", "c", "--size", "1k").exits(exitUsage)
	b.run("grow", "c", "--size", "4096TiB").exits(exitError).warns("free")
	b.run("grow", "nope").exits(exitError).warns("flagstone create nope")
	b.run("grow", "c", strings.Repeat("n", 99)).exits(exitUsage)
}

func TestDrain_RoomElsewhere_AllMovedAndFileGone(t *testing.T) {
	b, began := newBench(t), time.Now()
	below := crowded(b, "c", 40)
	st := b.stat("c")
	if len(st.Tiers) != 2 || st.Tiers[0].Records+st.Tiers[1].Records != 40 || st.Tiers[1].Records == 0 ||
		st.Tiers[1].MovedIn == 0 || st.Tiers[0].MovedOut != st.Tiers[1].MovedIn || st.Content.Records != 40 {
		t.Fatalf("%+v", st.Tiers)
	}
	b.run("stat", "c").exits(0).says("TIER", "tier1", "no steward", "40 in 40 of", "OLDEST UNUSED FOR")
	for _, tier := range st.Tiers {
		if tier.Oldest <= 0 || tier.Oldest > time.Since(began).Milliseconds()+2000 { // precision
			t.Errorf("oldest unused for %d ms", tier.Oldest)
		}
	}
	b.run("check", "c").exits(0)
	if n := strings.Count(b.run("keys", "c").exits(0).out, "key"); n != 40 {
		t.Errorf("%d keys listed", n)
	}
	var all []listedJSON
	b.run("ls", "--json").exits(0).decode(&all)
	if len(all) != 1 || all[0].Records != 40 || all[0].Slabs != 2 || all[0].FileSize != st.Content.FileSizes {
		t.Errorf("%+v", all)
	}
	b.run("dump", "c", "tier1", "--shards", "0").exits(0).says("Shard at")
	// There is no room for all of them above.
	o := b.run("drain", "c", "tier1").exits(exitNegative).
		says("slab tier1, tier 1", "takes records again").warns("flagstone evict c", "flagstone grow c", "drain again")
	var out drainedJSON
	b.run("drain", "c", "1", "--json").exits(exitNegative).decode(&out)
	if out.Drained || out.Left == 0 {
		t.Errorf("%+v after %s", out, o.out)
	}
	b.run("grow", "c", "more").exits(0)
	b.run("drain", "c", below.Slab.Segment.String(), "--json", "--progress").exits(0).decode(&out)
	if !out.Drained || uint64(out.Moved) == 0 || out.Left != 0 || out.Freed == 0 || out.Slab != below.Slab {
		t.Errorf("%+v", out)
	}
	if files, _ := filepath.Glob(filepath.Join(st.Path, "slab-*")); len(files) != 2 {
		t.Errorf("%v", files)
	}
	for i := range 40 {
		b.run("get", "c", fmt.Sprint("key", i)).exits(0).says(fmt.Sprint("value", i))
	}
	b.run("check", "c").exits(0)
}

func TestDrain_NoSuchSlab_SaysWhichThereAre(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "20").exits(0)
	b.run("drain", "c", "none").exits(exitError).warns("no such slab", "primary, tier 0, 0x", "flagstone stat c")
	b.run("drain", "c", "1").exits(exitError).warns("no such slab")
	b.run("drain", "c", "primary").exits(exitUsage).warns("tier 0")
	b.run("drain", "c").exits(exitUsage)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := flagstone.Open(ctx, "c", modest(flagstone.Options{Dir: b.dir, MustExist: true, Wake: noWake}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateSlab(ctx, "own", flagstone.Shape{Entries: 10}); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	b.run("drain", "c", "own").exits(exitError).warns("no such slab", "independent slab", "Slab.Retire")
	b.run("move", "c", "primary", "own").exits(exitError).warns("independent slab", "Cache.Move")
	b.run("drain", "nope", "1").exits(exitError)
	// A name comes before a number.
	b.run("grow", "c", "2").exits(0)
	b.run("grow", "c", "other").exits(0)
	b.run("drain", "c", "2").exits(0).says("slab 2, tier 1")
	b.run("drain", "c", "2").exits(0).says("slab other, tier 2")
}

// Through the first slab nothing gets below that it could not take: this is about what
// is said.
func TestDrain_RecordTooLargeElsewhere_SaysWhatHelps(t *testing.T) {
	a := &app{out: io.Discard}
	err := a.showDrained(drainedJSON{Name: "c"}, flagstone.ErrTooLarge)
	if !errors.Is(err, errNegative) || !strings.Contains(err.Error(), "flagstone grow c --max-key") {
		t.Error(err)
	}
}

func TestCompletion_Slabs_Names(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "20").exits(0)
	b.run("grow", "c", "cold").exits(0)
	b.run("__complete", "drain", "c", "").exits(0).says("primary\n", "cold\n")
	b.run("__complete", "drain", "").exits(0).says("c\n")
	if o := b.run("__complete", "drain", "c", "cold", "").exits(0); strings.Contains(o.out, "primary") {
		t.Error(o.out)
	}
}

func TestStat_Steward_MutexesAndMappers(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "20").exits(0)
	b.run("grow", "c", "cold").exits(0)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := flagstone.Open(ctx, "c", modest(flagstone.Options{Dir: b.dir, MustExist: true, Wake: noWake}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if leading, err := c.Table().Lead(); !leading || err != nil {
		t.Fatal(leading, err)
	}
	cold, _ := c.Table().Find(table.KindSlab, "cold")
	m, err := c.Table().Mutex(cold.MutexID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	st := b.stat("c")
	self := c.Table().Self()
	if st.Steward == nil || st.Steward.Region != self || st.Steward.Pid != uint32(os.Getpid()) {
		t.Errorf("%+v", st.Steward)
	}
	if len(st.Mutexes) != 1 || st.Mutexes[0].Slab != "cold" || !st.Mutexes[0].Owned || st.Mutexes[0].Region != self {
		t.Errorf("%+v", st.Mutexes)
	}
	for _, tier := range st.Tiers {
		if fmt.Sprint(tier.MappedBy, tier.NotMapped) != fmt.Sprintf("[%d] []", self) {
			t.Errorf("%+v", tier)
		}
	}
	b.run("stat", "c").exits(0).says(fmt.Sprintf("steward: process %d, region %d", os.Getpid(), self), "OF SLAB", "cold", "held", "BEHIND")
	if err := m.Unlock(true); err != nil {
		t.Fatal(err)
	}
}

func TestWatch_SlabsAndSteward_Told(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "20").exits(0)
	watcher := b.start("watch", "c", "--json")
	watcher.await("published")
	b.run("grow", "c", "cold").exits(0)
	if e := watcher.await("published"); e.Entry == nil || e.Entry.Name != "cold" || e.Entry.Tier != 1 {
		t.Errorf("%+v", e)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := flagstone.Open(ctx, "c", modest(flagstone.Options{Dir: b.dir, MustExist: true, Wake: noWake}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if leading, err := c.Table().Lead(); !leading || err != nil {
		t.Fatal(leading, err)
	}
	if e := watcher.await("steward"); e.Steward == nil || e.Steward.Pid != uint32(os.Getpid()) {
		t.Errorf("%+v", e)
	}
	cold, _ := c.Table().Find(table.KindSlab, "cold")
	draining, err := c.Table().Drain(cold)
	if err != nil {
		t.Fatal(err)
	}
	if e := watcher.await("draining"); e.Entry == nil || e.Entry.Drains != 1 {
		t.Errorf("%+v", e)
	}
	if _, err := c.Table().Reopen(draining); err != nil {
		t.Fatal(err)
	}
	watcher.await("reopened")
	if err := c.Table().Resign(); err != nil {
		t.Fatal(err)
	}
	if e := watcher.await("steward"); e.Steward != nil {
		t.Errorf("%+v", e)
	}
	b.run("drain", "c", "cold").exits(0)
	watcher.await("draining") // however fast it was
	if e := watcher.await("retired"); e.Entry == nil || e.Entry.Name != "cold" {
		t.Errorf("%+v", e)
	}
	b.run("watch", "c", "--count", "2").exits(0).says("slab primary, tier 0")
	if text := (eventJSON{Time: time.Now(), Event: "steward"}).text(); !strings.HasSuffix(text, "nobody") {
		t.Error(text)
	}
}
