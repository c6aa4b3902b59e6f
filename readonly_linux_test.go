package flagstone_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/table"
)

func observe(t testing.TB, dir string) *flagstone.Cache {
	t.Helper()
	return open(t, flagstone.Options{Dir: dir, ReadOnly: true})
}

// contents returns what is in all files below dir.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	}))
	return all
}

// The exporter's view: the writer is another process, and stands still while its
// files are compared.
func TestReadOnly_AnotherProcessWrites_SeenWithoutAByteWritten(t *testing.T) {
	dir := t.TempDir()
	c := opened(t, dir)
	c.expect("ok", "set", "k", "v1")
	looking := observe(t, dir)
	mustGet(t, looking, "k", "v1")
	c.expect("ok", "set", "k", "v2")
	mustGet(t, looking, "k", "v2")
	c.tell("count", 20*laps) // fills the cache over and over: turns pass
	for range 20 * laps {
		n, err := strconv.Atoi(c.hear())
		must(t, err)
		if v, ok, err := looking.Get(nil, numbered(n)); err != nil || !ok || !bytes.HasSuffix(v, []byte(";")) {
			t.Fatalf("%d: %q, %v, %v", n, v, ok, err)
		}
	}
	if said := c.hear(); said != "done" { // so that it is not stopped halfway through a Set
		t.Fatal(said)
	}
	c.stop()
	before := contents(t, dir)
	if st, err := looking.Stats(); err != nil || len(st.Processes) != 1 || st.Records != laps+1 || st.Sets != 20*laps+2 {
		t.Errorf("%+v, %v", st, err)
	}
	keys := [][]byte{[]byte("k"), []byte("none")}
	for i := range laps {
		keys = append(keys, numbered(i))
		if _, ok, err := looking.Get(nil, numbered(i)); !ok || err != nil {
			t.Errorf("%d: %v, %v", i, ok, err)
		}
	}
	var b flagstone.Batch
	if err := looking.GetBatch(&b, keys); err != nil || b.Hits() != len(keys)-1 {
		t.Errorf("%d hits, %v", b.Hits(), err)
	}
	mustMiss(t, looking, "none")
	_, _, err := looking.GetHash(nil, 7)
	must(t, err)
	seen := 0
	must(t, scan(limited(t), looking, func(flagstone.Record) bool { seen++; return true }))
	if seen != laps+1 {
		t.Errorf("%d records", seen)
	}
	_, err = looking.Holders()
	must(t, err)
	refusesWrites(t, looking)
	ctx, cancel := context.WithCancel(context.Background())
	events := looking.Watch(ctx)
	if e := <-events; e.Kind != table.Joined && e.Kind != table.Published {
		t.Errorf("%+v", e)
	}
	cancel()
	for range events {
	}
	must(t, looking.Close())
	_, _, err = looking.Get(nil, []byte("k"))
	mustFail(t, err, flagstone.ErrClosed)
	if !maps.Equal(before, contents(t, dir)) {
		t.Error("bytes changed")
	}
	c.resume()
}

func refusesWrites(t *testing.T, c *flagstone.Cache) {
	t.Helper()
	key := []byte("k")
	for name, write := range map[string]func() error{
		"set":    func() error { return c.Set(limited(t), key, nil, time.Hour) },
		"hash":   func() error { return c.SetHash(limited(t), 1, nil, 0) },
		"batch":  func() error { _, err := c.SetBatch(limited(t), []flagstone.KeyItem{{Key: key}}); return err },
		"absent": func() error { _, err := c.SetIfAbsent(limited(t), key, nil, 0); return err },
		"incr":   func() error { _, err := c.Increment(limited(t), key, 1, 0, 0); return err },
		"touch":  func() error { _, err := c.Touch(limited(t), key, 0); return err },
		"tag":    func() error { _, err := c.EvictTag(limited(t), 1, 1); return err },
		"near":   func() error { _, err := c.EvictNear(limited(t), key, 0, 1); return err },
		"clear":  func() error { return c.Clear(limited(t)) },
		"scope":  func() error { return c.Namespace("n").Set(limited(t), key, nil, 0) },
		"scopes": func() error { return c.Namespace("n").Clear(limited(t)) },
		"claim":  func() error { _, err := c.Claim(limited(t), []byte("missing"), time.Second); return err },
		"load": func() error {
			_, err := c.GetOrLoad(limited(t), []byte("missing"), func(context.Context) (flagstone.Item, error) { return flagstone.Item{}, nil })
			return err
		},
		"delete":  func() error { _, err := c.Delete(limited(t), key); return err },
		"evict":   func() error { _, err := c.Evict(limited(t), time.Hour, 1); return err },
		"pairs":   func() error { _, err := c.EvictPairs(limited(t), 0, 1<<20); return err },
		"check":   func() error { _, err := c.Check(limited(t)); return err },
		"rebuild": func() error { return c.Rebuild(limited(t)) },
	} {
		t.Run(name, func(t *testing.T) { mustFail(t, write(), flagstone.ErrReadOnly) })
	}
	if c.Table() != nil {
		t.Error("has a table")
	}
}

// What has expired and how long something was idle is told by the reader's
// clocks, though nobody keeps the domain's.
func TestReadOnly_NobodyBusy_OwnClocks(t *testing.T) {
	dir := t.TempDir()
	var clock testClock
	clock.pass(1000)
	o := options(dir)
	o.Clock = &clock
	c := open(t, o)
	must(t, c.Set(limited(t), []byte("hour"), []byte("v"), time.Hour))
	must(t, c.Set(limited(t), []byte("kept"), []byte("v"), 0))
	must(t, c.Close())

	late := testClock{}
	late.pass(1000 + uint64((2*time.Hour)/time.Millisecond))
	o.ReadOnly, o.Clock = true, &late
	looking := open(t, o)
	mustMiss(t, looking, "hour")
	mustGet(t, looking, "kept", "v")
	records := 0
	must(t, scan(limited(t), looking, func(r flagstone.Record) bool {
		if records++; string(r.Key) != "kept" || r.Idle != 2*time.Hour {
			t.Errorf("%+v", r)
		}
		return true
	}))
	if records != 1 {
		t.Errorf("%d records", records)
	}
}

func TestReadOnly_DestroyedUnderIt_ErrDestroyed(t *testing.T) {
	dir := t.TempDir()
	c := open(t, options(dir))
	must(t, c.Set(limited(t), []byte("k"), []byte("v"), 0))
	looking := observe(t, dir)
	must(t, flagstone.Destroy(limited(t), dir, name))
	mustGet(t, looking, "k", "v") // still mapped
	_, _, err := looking.Get(nil, []byte("none"))
	mustFail(t, err, flagstone.ErrDestroyed)
	_, err = looking.Stats()
	mustFail(t, err, flagstone.ErrDestroyed)
	mustFail(t, scan(limited(t), looking, nil), flagstone.ErrDestroyed)
	last := table.Event{}
	for last = range looking.Watch(limited(t)) {
	}
	if last.Kind != table.Destroyed {
		t.Errorf("%+v", last)
	}
}

func TestReadOnly_SlabRetired_ErrDestroyed(t *testing.T) {
	dir := t.TempDir()
	c := open(t, options(dir))
	looking := observe(t, dir)
	e, ok := c.Table().Find(table.KindSlab, "primary")
	if !ok {
		t.Fatal("no slab")
	}
	must(t, c.Table().Retire(e))
	_, _, err := looking.Get(nil, []byte("none"))
	mustFail(t, err, flagstone.ErrDestroyed)
}

func TestReadOnly_ShardBeingRebuilt_ErrBusy(t *testing.T) {
	dir := t.TempDir()
	c := open(t, options(dir))
	key := keyIn(c, 0)
	must(t, c.Set(limited(t), key, []byte("v"), 0))
	looking := observe(t, dir)
	f, err := os.OpenFile(slabFile(t, dir), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	seg, err := shm.Map(f, 2*layout.PageSize)
	must(t, err)
	defer seg.Close()
	epoch := &shm.At[layout.Shard](seg.Window(), layout.PageSize).Epoch // of shard 0
	was := epoch.Load()
	epoch.Store(was | layout.EpochRebuilding)
	_, _, err = looking.Get(nil, key)
	mustFail(t, err, flagstone.ErrBusy)
	mustFail(t, scan(limited(t), looking, func(flagstone.Record) bool { return true }), flagstone.ErrBusy)
	n := looking.Namespace(string(key)) // its id would be in the same shard
	for _, records := range []iter.Seq2[flagstone.Record, error]{n.All(limited(t)), n.Tagged(limited(t), 1)} {
		for _, err := range records {
			mustFail(t, err, flagstone.ErrBusy)
		}
	}
	epoch.Store(was)
	mustGet(t, looking, string(key), "v")
}

// What makes no id does not wait for the right to make one.
func TestNamespace_ShardBeingRebuilt_WaitsAndNothingIsMade(t *testing.T) {
	dir := t.TempDir()
	c, other := open(t, options(dir)), open(t, options(dir))
	n := c.Namespace(string(keyIn(c, 0)))
	f, err := os.OpenFile(slabFile(t, dir), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	seg, err := shm.Map(f, 2*layout.PageSize)
	must(t, err)
	defer seg.Close()
	shard := shm.At[layout.Shard](seg.Window(), layout.PageSize)
	was := shard.Epoch.Load()
	shard.Lock.Store(other.Table().Token())
	shard.Epoch.Store(was | layout.EpochRebuilding)
	ctx, cancel := context.WithCancel(limited(t))
	cancel() // who waits says so
	k := []byte("k")
	errs := map[string]error{}
	_, errs["Delete"] = n.Delete(ctx, k)
	_, errs["Touch"] = n.Touch(ctx, k, 0)
	_, _, errs["CompareAndSwap"] = n.CompareAndSwap(ctx, k, 1024, k, 0)
	for _, err := range n.All(ctx) {
		errs["All"] = err
	}
	shard.Epoch.Store(was)
	shard.Lock.Store(0)
	for _, op := range []string{"Delete", "Touch", "CompareAndSwap", "All"} {
		if err := errs[op]; !errors.Is(err, flagstone.ErrBusy) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", op, err)
		}
	}
	if id, ok, err := n.ID(); ok || err != nil {
		t.Errorf("id %x, %v", id, err)
	}
}

func TestReadOnly_NothingThere_ErrNotFoundNothingMade(t *testing.T) {
	dir := t.TempDir()
	o := flagstone.Options{Dir: dir, ReadOnly: true}
	_, err := flagstone.Open(limited(t), name, o)
	mustFail(t, err, flagstone.ErrNotFound)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("made: %v", left)
	}
	d, err := table.Open(limited(t), table.Options{Dir: dir, Name: name})
	must(t, err)
	defer d.Close()
	_, err = flagstone.Open(limited(t), name, o)
	mustFail(t, err, flagstone.ErrNotFound)
	if n := len(d.Entries()); n != 0 {
		t.Fatalf("%d entries", n)
	}
}

func TestReadOnly_OtherSizesAsked_Differences(t *testing.T) {
	dir := t.TempDir()
	open(t, options(dir))
	looking := open(t, flagstone.Options{Dir: dir, ReadOnly: true, Shards: 2 * shards, Regions: 16})
	d := looking.Differences()
	if fmt.Sprint(d) != fmt.Sprint([]flagstone.Difference{{Option: "Shards", Asked: 2 * shards, Found: shards}}) {
		t.Errorf("%+v", d)
	}
}

// A handle's figures outlive it.
func TestTotals_HandleClosed_CountersStay(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	keeper := open(t, o)
	for round := range uint64(3) {
		c, err := flagstone.Open(limited(t), name, o)
		must(t, err)
		must(t, c.Set(limited(t), []byte("k"), []byte("v"), 0))
		for range 5 {
			mustGet(t, c, "k", "v")
		}
		mustMiss(t, c, "none")
		must(t, c.Close())
		sum := keeper.Table().Totals()
		if hits, misses := sum[layout.CounterHits], sum[layout.CounterMisses]; hits != 5*(round+1) || misses != round+1 {
			t.Fatalf("%d hits, %d misses after %d rounds", hits, misses, round+1)
		}
	}
}

// An exporter looks without taking part.
func ExampleOpen_readOnly() {
	cache, done := example(flagstone.Options{Entries: 1000})
	defer done()
	check(cache.Set(ctx, []byte("key"), []byte("value"), flagstone.NoExpiry))

	exporter, err := flagstone.Open(ctx, "example", flagstone.Options{Dir: dirOf(cache), ReadOnly: true})
	check(err)
	defer exporter.Close()
	stats, err := exporter.Stats()
	fmt.Println(stats.Records, len(stats.Processes), err)
	err = exporter.Set(ctx, []byte("key"), nil, flagstone.NoExpiry)
	fmt.Println(errors.Is(err, flagstone.ErrReadOnly))
	// Output:
	// 1 1 <nil>
	// true
}
