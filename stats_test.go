package flagstone_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/layout"
)

func mustStats(t testing.TB, c *flagstone.Cache) flagstone.Stats {
	t.Helper()
	st, err := c.Stats()
	must(t, err)
	return st
}

func TestStats_EachKindOfOperation_Counted(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	key, other := []byte("key"), []byte("other")
	load := func(context.Context) (flagstone.Item, error) { return flagstone.Item{Value: []byte("loaded")}, nil }
	fail := func(context.Context) (flagstone.Item, error) { return flagstone.Item{}, errors.New("no") }

	must(t, cache.Set(limited(t), key, []byte("value"), 0))
	mustGet(t, cache, "key", "value")
	mustMiss(t, cache, "other")
	_, err := cache.Delete(limited(t), key)
	must(t, err)
	_, err = cache.GetOrLoad(limited(t), other, load) // a miss
	must(t, err)
	if _, err := cache.GetOrLoad(limited(t), key, fail); err == nil { // another
		t.Fatal("no error")
	}
	_, err = cache.GetOrLoad(limited(t), []byte("lost"), func(ctx context.Context) (flagstone.Item, error) {
		return flagstone.Item{Value: []byte("late")}, cache.Set(ctx, []byte("lost"), []byte("newer"), 0)
	})
	must(t, err)
	must(t, cache.Rebuild(limited(t)))

	st := mustStats(t, cache)
	own := st.Own
	if own.Hits != 1 || own.Misses < 4 || own.Sets != 3 || own.Deletes != 1 || own.Rebuilds < shards || own.Loads != 3 || own.LoadErrors != 1 || own.Refused != 1 {
		t.Errorf("%+v", own)
	}
	if own.Rebuilds != st.Rebuilds || own.Deletes != st.Deletes {
		t.Errorf("own %+v, the slab's %+v", own, st.Stats)
	}
	if st.Total != own || len(st.Processes) != 1 || st.Processes[0].Counters != own || !st.Processes[0].Self {
		t.Errorf("own %+v, all %+v, %+v", own, st.Total, st.Processes)
	}
	shared := st.Processes[0].Region.Counters
	for counter, want := range map[int]uint64{
		layout.CounterHits: own.Hits, layout.CounterMisses: own.Misses, layout.CounterSets: own.Sets, layout.CounterDeletes: own.Deletes,
		layout.CounterLockWaits: own.LockWaits, layout.CounterSteals: own.Steals, layout.CounterRebuilds: own.Rebuilds,
		layout.CounterLoads: own.Loads, layout.CounterLoadErrors: own.LoadErrors, layout.CounterLoadWaits: own.LoadWaits,
		layout.CounterStale: own.Stale, layout.CounterRefused: own.Refused,
	} {
		if shared[counter] != want {
			t.Errorf("counter %d is %d, want %d", counter, shared[counter], want)
		}
	}
	must(t, cache.Clear(limited(t)))
	if st := mustStats(t, cache); st.Cleared != 3 || st.Records != 0 {
		t.Errorf("%+v", st.Stats)
	}
}

func TestStats_LoadWaitsAndStale_Counted(t *testing.T) {
	cache := open(t, options(t.TempDir()))
	key := []byte("key")
	_, err := cache.SetItem(limited(t), key, flagstone.Item{Value: []byte("old"), TTL: time.Millisecond, StaleFor: time.Hour})
	must(t, err)
	eventually(t, "expired", func() bool { _, ok, err := cache.Get(nil, key); must(t, err); return !ok })
	loading, goOn := make(chan struct{}), make(chan struct{})
	done := make(chan error, 2)
	slow := func(name string) {
		_, err := cache.GetOrLoad(limited(t), []byte(name), func(context.Context) (flagstone.Item, error) {
			loading <- struct{}{}
			<-goOn
			return flagstone.Item{Value: []byte("new")}, nil
		})
		done <- err
	}
	go slow("key")
	<-loading
	if v, err := cache.GetOrLoad(limited(t), key, nil); err != nil || string(v) != "old" {
		t.Fatalf("%q, %v", v, err)
	}
	go slow("cold")
	<-loading
	if _, err := cache.GetOrLoad(brief(t), []byte("cold"), nil); !errors.Is(err, flagstone.ErrBusy) {
		t.Fatal(err)
	}
	close(goOn)
	must(t, <-done)
	must(t, <-done)
	if own := mustStats(t, cache).Own; own.Stale != 1 || own.LoadWaits != 1 || own.Loads != 2 || own.LoadErrors != 0 {
		t.Errorf("%+v", own)
	}
}

// Each lookup that finds nothing is one miss: also in a namespace without id, where
// no record is looked up, and where the directory has changed, when it is twice.
func TestStats_Misses_CountedOnceEach(t *testing.T) {
	o := options(t.TempDir())
	c := open(t, o)
	key, keys := []byte("none"), [][]byte{[]byte("a"), []byte("b"), []byte("c")}
	used := c.Namespace("used")
	must(t, used.Set(limited(t), []byte("key"), nil, 0))
	for name, s := range map[string]store{"cache": c, "namespace": used, "without id": c.Namespace("none")} {
		for _, changed := range []bool{false, true} {
			for _, op := range []struct {
				name   string
				misses uint64
				look   func() error
			}{
				{"Get", 1, func() error { _, _, err := s.Get(nil, key); return err }},
				{"GetItem", 1, func() error { _, _, err := s.GetItem(nil, key); return err }},
				{"GetBatch", 3, func() error { return s.GetBatch(new(flagstone.Batch), keys) }},
				{"GetHash", 1, func() error { _, _, err := c.GetHash(nil, 7); return err }},
				{"Peek", 0, func() error { _, _, err := s.Peek(nil, key); return err }},
				{"TTL", 0, func() error { _, _, err := s.TTL(key); return err }},
			} {
				before := mustStats(t, c).Own.Misses
				if changed {
					must(t, open(t, o).Close())
				}
				must(t, op.look())
				if n := mustStats(t, c).Own.Misses - before; n != op.misses {
					t.Errorf("%s, %s, directory changed %v: %d misses, want %d", name, op.name, changed, n, op.misses)
				}
			}
		}
	}
}

// A lookup counts once, though it first waits for a goroutine and then for a claim.
func TestStats_LoadWaitsTwice_CountedOnce(t *testing.T) {
	c := patient(t, flagstone.Options{})
	ctx, cancel := context.WithCancel(limited(t))
	h := hold(t, ctx, c, "key")
	waiter := ask(t, limited(t), c, "key", 1, gives("v"))
	_, err := c.Delete(limited(t), []byte("key")) // ends the claim
	must(t, err)
	_, err = c.Claim(limited(t), []byte("key"), 50*time.Millisecond)
	must(t, err)
	cancel()
	h.end <- func() (item, error) { return item{}, ctx.Err() }
	(<-waiter).must(t, "v")
	if own := mustStats(t, c).Own; own.LoadWaits != 1 {
		t.Errorf("%+v", own)
	}
}

func TestStats_SeveralProcesses_EachAndSummed(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	var want flagstone.Counters
	did := map[int]flagstone.Counters{} // by region
	children := map[int]*child{}
	for i := range 3 {
		c := opened(t, dir)
		children[c.region] = c
		key := fmt.Sprint("key", i)
		for range i + 1 {
			c.expect("ok", "set", key, "value")
		}
		c.expect("true value", "get", key)
		c.expect("false ", "get", "none")
		did[c.region] = flagstone.Counters{Sets: uint64(i + 1), Hits: 1, Misses: 1, TierHits: [8]uint64{1}}
		want.Sets += uint64(i + 1)
		want.Hits++
		want.TierHits[0]++
		want.Misses++
	}
	agree := func(st flagstone.Stats) bool {
		for _, p := range st.Processes {
			mine, ok := did[p.Index]
			if !ok && p.Self {
				continue
			}
			if p.Counters != mine || !p.Alive || p.Pid != uint32(children[p.Index].cmd.Process.Pid) {
				return false
			}
		}
		return len(st.Processes) == len(did)+1 && st.Total == want
	}
	// They publish once a second, and this handle when it asks.
	eventually(t, "all have published", func() bool { return agree(mustStats(t, cache)) })
	mustGet(t, cache, "key0", "value")
	want.Hits++
	want.TierHits[0]++
	if st := mustStats(t, cache); !agree(st) || st.Own != (flagstone.Counters{Hits: 1, TierHits: [8]uint64{1}}) {
		t.Errorf("%+v", st)
	}
}

func TestStats_Evictions_ByReasonWithAges(t *testing.T) {
	clock := &testClock{}
	o := options(t.TempDir())
	o.Entries, o.Shards, o.Clock = 10, 1, clock
	cache := open(t, o)
	set := func(i int, tag uint32) {
		_, err := cache.SetItem(limited(t), fmt.Append(nil, i), flagstone.Item{Value: []byte("v"), Tag: tag})
		must(t, err)
	}
	for i := range 10 {
		set(i, 7)
	}
	st := mustStats(t, cache)
	room := int(st.Geometry.Cells - st.Geometry.Reserve)
	for i := 10; i < room; i++ {
		set(i, 0)
	}
	clock.pass(5000)
	cache.Table().Tick()
	for i := range 3 {
		set(room+i, 0) // evicts 0, 1 and 2
	}
	if st := mustStats(t, cache); st.EvictedFull != 3 || st.AgeMean != 5000 || st.AgeLast != 5000 {
		t.Errorf("%+v", st.Stats)
	}
	if hashes, err := cache.EvictTag(limited(t), 7, 100); err != nil || len(hashes) != 7 {
		t.Fatal(hashes, err)
	}
	left, err := cache.Len()
	must(t, err)
	clock.pass(5000)
	if hashes, err := cache.Evict(limited(t), time.Second, 1000); err != nil || len(hashes) != int(left) {
		t.Fatal(len(hashes), left, err)
	}
	if st := mustStats(t, cache); st.EvictedTag != 7 || st.EvictedCutoff != left || st.EvictedFull != 3 || st.Records != 0 {
		t.Errorf("%+v", st.Stats)
	}
}

// What a handle did since it last published is not lost with its Close.
func TestStats_HandleCloses_StaysInTotal(t *testing.T) {
	dir := t.TempDir()
	looking := open(t, options(dir))
	c, err := flagstone.Open(limited(t), name, options(dir))
	must(t, err)
	for range 5 {
		mustMiss(t, c, "none")
	}
	must(t, c.Close())
	if st := mustStats(t, looking); st.Total.Misses != 5 || len(st.Processes) != 1 {
		t.Errorf("%+v", st)
	}
}
