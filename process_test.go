//go:build linux

package flagstone_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/table"
)

func TestProcesses_StartTogether_OneCacheForAll(t *testing.T) {
	const n = 8
	dir := t.TempDir()
	var all [n]*child
	for i := range all {
		all[i] = start(t, dir)
	}
	for _, c := range all {
		c.tell("open")
	}
	regions := map[string]bool{}
	for _, c := range all {
		regions[c.hear()] = true
	}
	if len(regions) != n {
		t.Fatalf("regions: %v", regions)
	}
	for i, c := range all {
		c.expect("ok", "set", fmt.Sprint("key", i), fmt.Sprint("value", i))
	}
	for _, c := range all {
		for i := range all {
			c.expect(fmt.Sprint("true value", i), "get", fmt.Sprint("key", i))
		}
	}
	cache := open(t, options(dir)) // attaches late
	mustGet(t, cache, "key7", "value7")
	slabFile(t, dir) // is the only one
	if entries := cache.Table().Entries(); len(entries) != 1 {
		t.Fatalf("entries: %+v", entries)
	}
	st, err := cache.Stats()
	if err != nil || len(st.Processes) != n+1 || st.Records != n {
		t.Fatalf("%+v, %v", st, err)
	}
	sound(t, cache)
}

func TestProcesses_KilledAmongSets_AcknowledgedSurvive(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	for round := range 5 {
		c := opened(t, dir)
		c.tell("count")
		last := 0
		for last < laps+20*round {
			var err error
			if last, err = strconv.Atoi(c.hear()); err != nil {
				t.Fatal(err)
			}
		}
		must(t, c.cmd.Process.Kill())
		for c.lines.Scan() { // what it had said already
			if n, err := strconv.Atoi(c.lines.Text()); err == nil {
				last = n
			}
		}
		c.kill()
		for i := last - laps + 1; i <= last; i++ {
			want := numberedValue(i)
			if v, ok, err := cache.Get(nil, numbered(i)); i == last-laps+1 && ok && bytes.Equal(v, numberedValue(last+1)) {
				continue // the one it did not live to acknowledge
			} else if !ok || err != nil || !bytes.Equal(v, want) {
				t.Fatalf("number %d of %d: %.40q, %v, %v, want %.40q", i, last, v, ok, err, want)
			}
		}
		for shard := range shards {
			must(t, cache.Set(limited(t), keyIn(cache, shard), nil, 0))
		}
	}
	sound(t, cache)
}

func TestProcesses_KilledHoldingAShardLock_NextSetRepairs(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	for range 3 {
		must(t, cache.Set(limited(t), []byte("hot"), letters(0), 0))
		before, err := cache.Stats()
		must(t, err)
		c := opened(t, dir)
		c.expect("ok", "hammer", "hot")
		shard := c.stopHolding(cache)
		c.kill()
		if v, ok, err := cache.Get(nil, []byte("hot")); !ok || err != nil || !whole(v) {
			t.Fatalf("before repair: %d bytes, %v, %v", len(v), ok, err)
		}
		must(t, cache.Set(limited(t), keyIn(cache, shard), []byte("x"), 0))
		if v, ok, err := cache.Get(nil, []byte("hot")); !ok || err != nil || !whole(v) {
			t.Fatalf("after repair: %d bytes, %v, %v", len(v), ok, err)
		}
		after, err := cache.Stats()
		if err != nil || after.Own.Steals != before.Own.Steals+1 || after.Rebuilds == before.Rebuilds {
			t.Fatalf("%+v, before %+v, %v", after, before, err)
		}
		sound(t, cache)
	}
}

func TestProcesses_WriterStoppedInSet_OthersGoOn(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	for i := range 100 {
		must(t, cache.Set(limited(t), fmt.Append(nil, i), fmt.Append(nil, "value", i), 0))
	}
	must(t, cache.Set(limited(t), []byte("hot"), letters(0), 0))
	c := opened(t, dir)
	c.expect("ok", "hammer", "hot")
	shard := c.stopHolding(cache)
	for i := range 100 {
		mustGet(t, cache, fmt.Sprint(i), fmt.Sprint("value", i))
	}
	if v, ok, err := cache.Get(nil, []byte("hot")); !ok || err != nil || !whole(v) {
		t.Fatalf("%d bytes, %v, %v", len(v), ok, err)
	}
	seen := 0
	for _, err := range cache.All(limited(t)) {
		must(t, err)
		seen++
	}
	if seen != 101 {
		t.Fatalf("%d records", seen)
	}
	for other := range shards {
		if other != shard {
			must(t, cache.Set(limited(t), keyIn(cache, other), nil, 0))
		}
	}
	key := keyIn(cache, shard)
	ctx := brief(t)
	err := cache.Set(ctx, key, nil, 0)
	mustFail(t, err, flagstone.ErrBusy, ctx.Err())
	if !strings.Contains(err.Error(), fmt.Sprint("region ", c.region)) {
		t.Fatalf("%v does not name the holder", err)
	}
	_, err = cache.Delete(brief(t), key)
	mustFail(t, err, flagstone.ErrBusy)
	mustFail(t, cache.Rebuild(brief(t)), flagstone.ErrBusy)
	_, err = cache.Check(brief(t))
	mustFail(t, err, flagstone.ErrBusy)
	c.resume()
	must(t, cache.Set(limited(t), key, []byte("x"), 0))
	c.kill()
	sound(t, cache)
	if st, err := cache.Stats(); err != nil || st.Dropped != 0 {
		t.Fatalf("%+v, %v", st, err)
	}
}

func TestProcesses_Idle_WokenBySignal(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	c := opened(t, dir)
	for bit := range 8 {
		flag := uint32(1) << bit
		c.tell("raised", flag)
		must(t, cache.Table().SetFlags(flag, 0))
		if got := c.hear(); got != "raised" {
			t.Fatal(got)
		}
		must(t, cache.Table().SetFlags(0, flag))
	}
}

func TestProcesses_RegionOfTheDead_Recycled(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir)
	first.expect("0", "open", 1)
	second := start(t, dir)
	second.refused(flagstone.ErrNoRegion, "open")
	first.expect("ok", "set", "k", "v")
	first.kill()
	second.expect("0", "open")
	second.expect("true v", "get", "k")
	second.expect("closed", "close")
	cache := open(t, options(dir))
	regions := cache.Table().Regions()
	if len(regions) != 1 || regions[0].Generation != 3 || !regions[0].Self {
		t.Fatalf("%+v", regions)
	}
	if d := cache.Differences(); len(d) != 1 || d[0] != (flagstone.Difference{Option: "Regions", Asked: 16, Found: 1}) {
		t.Fatalf("%+v", d)
	}
}

func TestProcesses_DomainDestroyed_OldOnesKeptFromTheSuccessor(t *testing.T) {
	dir := t.TempDir()
	old := opened(t, dir)
	old.expect("ok", "set", "k", "old")
	must(t, flagstone.Destroy(limited(t), dir, name))
	old.refused(flagstone.ErrDestroyed, "set", "k", "x")
	old.refused(flagstone.ErrDestroyed, "get", "missing")
	cache := open(t, options(dir))
	mustMiss(t, cache, "k")
	must(t, cache.Set(limited(t), []byte("new"), []byte("new"), 0))
	for range 2 {
		old.refused(flagstone.ErrDestroyed, "set", "k", "x")
		old.refused(flagstone.ErrDestroyed, "get", "new")
	}
	old.expect("true old", "get", "k") // its own memory stays readable
	mustMiss(t, cache, "k")
	mustGet(t, cache, "new", "new")
	old.expect("closed", "close")
	old.open()
	old.expect("true new", "get", "new")
	slabFile(t, dir) // is the only one
	sound(t, cache)
}

func TestProcesses_DestroyDuringExclusive_ErrBusyUntilDead(t *testing.T) {
	dir := t.TempDir()
	c := opened(t, dir)
	c.expect("ok", "exclude")
	mustFail(t, flagstone.Destroy(brief(t), dir, name), flagstone.ErrBusy)
	cache := open(t, options(dir)) // needs nobody's leave
	c.kill()
	must(t, flagstone.Destroy(limited(t), dir, name))
	_, _, err := cache.Get(nil, []byte("k"))
	mustFail(t, err, flagstone.ErrDestroyed)
	mustFail(t, flagstone.Destroy(limited(t), dir, name), flagstone.ErrNotFound)
}

func TestProcesses_SlabTruncated_ErrFaultAndNobodyDies(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	c := opened(t, dir)
	c.expect("ok", "set", "k", "v")
	must(t, os.Truncate(slabFile(t, dir), 4096))
	if v, ok, err := cache.Get([]byte("as it was"), []byte("k")); ok || string(v) != "as it was" {
		t.Fatalf("%q, %v, %v", v, ok, err)
	}
	for range 2 { // the first fault must not leave the handle's own queues locked
		c.refused(flagstone.ErrFault, "get", "k")
		c.refused(flagstone.ErrFault, "set", "k", "v")
		for name, err := range everything(t, cache) {
			if err == nil || name != "GetBatch of nothing" {
				mustFail(t, fmt.Errorf("%s: %w", name, err), flagstone.ErrFault)
			}
		}
	}
	c.expect("closed", "close")
	must(t, cache.Close())
	_, err := flagstone.Open(limited(t), name, options(dir))
	mustFail(t, err, table.ErrSegmentSize)
	must(t, flagstone.Destroy(limited(t), dir, name))
	c.open()
	c.expect("false ", "get", "k")
}

func TestProcesses_ControlTruncated_ErrFaultAndNobodyDies(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	c := opened(t, dir)
	c.expect("ok", "set", "k", "v")
	must(t, os.Truncate(controlFile(t, dir), 0))
	for range 2 {
		c.refused(flagstone.ErrFault, "get", "k")
		c.refused(flagstone.ErrFault, "set", "k", "v")
		for name, err := range everything(t, cache) {
			mustFail(t, fmt.Errorf("%s: %w", name, err), flagstone.ErrFault)
		}
	}
	c.refused(flagstone.ErrFault, "close")
	mustFail(t, cache.Close(), flagstone.ErrFault)
	must(t, flagstone.Destroy(limited(t), dir, name))
	c.open()
	c.expect("false ", "get", "k")
}
