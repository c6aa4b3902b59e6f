//go:build linux

package vandal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/hostile"
	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/vandal"
)

func open(t *testing.T, o flagstone.Options) *flagstone.Cache {
	t.Helper()
	c, err := flagstone.Open(limited(t), name, o)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

const inSlabs = vandal.Locks | vandal.Epochs | vandal.Heads | vandal.Buckets | vandal.Cells

// What is hit is one shard: the others give every record, whole and new, without an
// error, and are still sound in the end.
func TestHostile_OneShardHit_OthersNoticeNothing(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	o := options(t.TempDir())
	o.Steward.Off = true
	// The last of them works in the shard that is hit, for which the vandal may take its
	// locks away: then a handle says so for all shards.
	handles := []*flagstone.Cache{open(t, o), open(t, o), open(t, o)}
	v, err := vandal.Open(vandal.Options{
		Dir: handles[0].Table().Dir(), Seed: seed, What: inSlabs, Pause: 100 * time.Microsecond,
		Hits: func(p vandal.Place) bool { return p.Shard == 0 },
	})
	must(t, err)
	defer v.Close()
	ctx, cancel := context.WithTimeout(limited(t), long(time.Second))
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { _, _ = v.Run(ctx, 0) })
	for h, c := range handles {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(h)))
			for i := 0; ctx.Err() == nil; i++ {
				k := fmt.Append(nil, "handle", h, "key", random.IntN(40))
				if hit := c.HashOf(k)%shards == 0; hit != (h == 2) {
					continue
				} else if hit {
					brief, done := context.WithTimeout(ctx, 50*time.Millisecond)
					err := c.Set(brief, k, k, 0)
					done()
					if _, _, e := c.Get(nil, k); !hostile.Typed(err) || !hostile.Typed(e) {
						t.Errorf("%s: %v, %v", k, err, e)
					}
					continue
				}
				value := bytes.Repeat(fmt.Append(nil, i, ";"), 1+random.IntN(300))
				if err := c.Set(context.Background(), k, value, 0); err != nil {
					t.Errorf("%s: %v", k, err)
					return
				}
				for _, reader := range handles[:2] {
					if got, ok, err := reader.Get(nil, k); err != nil || !ok || !bytes.Equal(got, value) {
						t.Errorf("%s: %.40q, %v, %v; want %.40q", k, got, ok, err, value)
						return
					}
				}
			}
		})
	}
	all.Wait()
	must(t, handles[0].Repair(limited(t)))
	sound(t, handles[0])
}

// What is hit is anything but the header pages. Then the repair leaves every record
// whose cells were not hit.
func TestHostile_RecordsNotHit_ThereAfterRepair(t *testing.T) {
	for range 5 {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		o := options(t.TempDir())
		o.Steward.Off = true
		c := open(t, o)
		value := func(k string) []byte { return bytes.Repeat([]byte(k), 1+len(k)) } // of one cell
		for i := range 200 {
			k := fmt.Sprint("key", i)
			must(t, c.Set(limited(t), []byte(k), value(k), 0))
		}
		type spot struct{ shard, cell int }
		hit := map[spot]bool{}
		v, err := vandal.Open(vandal.Options{
			Dir: c.Table().Dir(), Seed: seed, What: vandal.Everything &^ (vandal.Entries | vandal.Clocks),
			// Words of the directory and clocks are hit elsewhere: they hit all records.
			Hits: func(p vandal.Place) bool { return p.What != vandal.Anywhere || p.Shard >= 0 },
			Log:  func(w vandal.Write) { hit[spot{w.Shard, w.Cell}] = true },
		})
		must(t, err)
		where := map[string]spot{}
		v.Records(func(shard, cell int, key []byte) { where[string(key)] = spot{shard, cell} })
		if len(where) != 200 {
			t.Fatalf("%d records", len(where))
		}
		_, err = v.Run(limited(t), 400)
		must(t, err)
		must(t, v.Close())
		if err := c.Repair(limited(t)); errors.Is(err, flagstone.ErrLost) { // its lock was hit
			c = open(t, o)
			must(t, c.Repair(limited(t)))
		} else {
			must(t, err)
		}
		sound(t, c)
		lost := 0
		for k, at := range where {
			got, ok, err := c.Get(nil, []byte(k))
			switch {
			case err != nil || !hit[at] && (!ok || !bytes.Equal(got, value(k))):
				t.Errorf("%s: %q, %v, %v", k, got, ok, err)
			case hit[at] && !ok:
				lost++
			}
		}
		t.Logf("%d of 200 lost", lost)
	}
}

// A handle that nobody has waited for, and clock words in the far future: the first who
// looks sets them back, and what was stamped meanwhile is aged again after a rebuild.
func TestHostile_ClockWordsFarAhead_SetBackAndRecordsAge(t *testing.T) {
	o := options(t.TempDir())
	o.Steward.Off, o.Precision = true, time.Millisecond
	c := open(t, o)
	must(t, c.Set(limited(t), []byte("k"), []byte("v"), 0))
	v, err := vandal.Open(vandal.Options{Dir: c.Table().Dir()})
	must(t, err)
	defer v.Close()
	before := c.Table().Now()
	h := v.Control()
	h.WallClock.Store(1 << 45)
	h.DomainClock.Store(1 << 45)
	_, _, _ = c.Get(nil, []byte("k")) // stamps it
	fresh := open(t, o)               // looks at the clocks first
	if now := fresh.Table().Now(); now < before || now-before > uint64(patience/time.Millisecond) {
		t.Fatalf("domain time %d, was %d", now, before)
	}
	must(t, fresh.Repair(limited(t)))
	if got, ok, err := fresh.Get(nil, []byte("k")); !ok || err != nil || string(got) != "v" {
		t.Fatalf("%q, %v, %v", got, ok, err)
	}
	time.Sleep(200 * time.Millisecond) // domain time has to pass
	if n, err := fresh.EvictPairs(limited(t), time.Millisecond, 10); err != nil || len(n) != 1 {
		t.Fatalf("%d evicted, %v: it does not age", len(n), err)
	}
}
