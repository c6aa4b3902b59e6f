package slab

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// sweepStack is a stack of two tiers.
func sweepStack(t *testing.T) (*Stack, *world) {
	w := newWorld()
	shape := Options{Entries: 200, Shards: 2, MaxKey: 32, MaxValue: 400}
	return newStack(t, w, StackOptions{}, shape, shape), w
}

// What is dead goes, whatever the steps in which it is looked for; nothing else does.
func TestSweep_AnyRecordsAndSteps_ExactlyTheDeadGo(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		st, w := sweepStack(t)
		type record struct{ expiry, stale, stamp uint64 }
		var records []record
		now, wall := w.now.Load(), w.wall.Load()
		for i := range rapid.IntRange(0, 250).Draw(rt, "records") {
			r := record{
				expiry: rapid.SampledFrom([]uint64{0, wall + 1000, wall + 5000}).Draw(rt, "expiry"),
				stale:  rapid.SampledFrom([]uint64{0, 1, 100}).Draw(rt, "stale"), stamp: now,
			}
			value := make([]byte, rapid.SampledFrom([]int{0, 300}).Draw(rt, "length"))
			if _, _, err := st.Put(bg, st.Key(key16(uint64(i))), &Item{Value: value, Expiry: r.expiry, Stale: uint16(r.stale)}, Anyhow); err != nil {
				rt.Fatal(err)
			}
			records = append(records, r)
			now += rapid.Uint64Range(0, 50).Draw(rt, "pause")
			w.now.Store(now)
		}
		w.wall.Add(rapid.Uint64Range(0, 10_000).Draw(rt, "wall"))
		cutoff := w.now.Load() - rapid.Uint64Range(0, 5000).Draw(rt, "cutoff")
		before, err := st.Stats()
		if err != nil {
			rt.Fatal(err)
		}
		var at, from Sweep
		expired, evicted := 0, 0
		for done := false; !done; {
			n, end, err := st.Expire(bg, &at, rapid.IntRange(1, 100).Draw(rt, "cells"))
			if err != nil {
				rt.Fatal(err)
			}
			expired, done = expired+n, end
		}
		for done := false; !done; {
			n, end, err := st.EvictSweep(bg, &from, rapid.IntRange(1, 100).Draw(rt, "cells"), cutoff)
			if err != nil {
				rt.Fatal(err)
			}
			evicted, done = evicted+n, end
		}
		there := map[string]bool{}
		if err := st.Scan(bg, func(r Record) bool { there[string(r.Key)] = true; return true }); err != nil {
			rt.Fatal(err)
		}
		gone, left := 0, 0
		for i, r := range records {
			dead := r.expiry != 0 && r.expiry+1000*r.stale <= w.wall.Load()
			old := r.stamp+clockSlack < cutoff
			if there[string(key16(uint64(i)))] {
				left++
				if dead || old {
					rt.Fatalf("record %d, %+v, is there", i, r)
				}
			} else if dead || old {
				gone++
			}
		}
		if before.EvictedFull == 0 && (gone != expired+evicted || left+gone != len(records)) {
			rt.Fatalf("%d expired, %d evicted, %d gone, %d left of %d", expired, evicted, gone, left, len(records))
		}
		after, err := st.Stats()
		if err != nil || after.Expired != uint64(expired) || after.EvictedCutoff != uint64(evicted) {
			rt.Fatalf("%+v, %v", after, err)
		}
		soundStack(t, st)
	})
}

const clockSlack = 30

// A sweep that an error interrupts leaves nothing out.
func TestSweep_StaleOrBusy_NothingIsSkipped(t *testing.T) {
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprint("busy ", busy), func(t *testing.T) {
			w := newWorld()
			shape := Options{Entries: 400, Shards: 4}
			var changes layout.Uint64
			segments := stackSegments(t, shape, shape)
			st := openStack(t, w.member(0), StackOptions{Changes: &changes}, segments...)
			other := openStack(t, w.member(1), StackOptions{}, segments...)
			const n = 200
			for i := range uint64(n) {
				must(t, st.Set(bg, key16(i), nil, w.wall.Load()+1000))
			}
			w.wall.Add(5000)
			want := ErrStale
			if busy {
				want = ErrBusy
				_, err := other.shards[1].mutex.Lock(bg)
				must(t, err)
			} else {
				changes.Add(1)
			}
			var at Sweep
			removed := 0
			sweep := func() (done bool, err error) {
				ctx, cancel := contextFor(20 * time.Millisecond)
				defer cancel()
				if !busy {
					ctx = bg
				}
				some, done, err := st.Expire(ctx, &at, 10_000)
				removed += some
				return done, err
			}
			if _, err := sweep(); !errors.Is(err, want) {
				t.Fatal(err)
			}
			if busy { // the others are not held up
				for range 3 {
					if done, _ := sweep(); done {
						t.Fatal("done, and a column was passed over")
					}
				}
				if left := st.shards[1].head.Live.Load(); removed != n-int(left) || left == 0 {
					t.Fatalf("%d removed of %d, %d behind the lock", removed, n, left)
				}
				must(t, other.shards[1].unlock(true))
			} else {
				changes.Store(0)
			}
			for done := false; !done; {
				var err error
				done, err = sweep()
				must(t, err)
			}
			if removed != n {
				t.Fatalf("%d removed of %d", removed, n)
			}
		})
	}
}

// What was offered goes unless something happened to it, and oldest first.
func TestOffer_AnythingMeanwhile_OnlyTheUntouchedAreWithdrawn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		st, w := sweepStack(t)
		const n = 150
		for i := range uint64(n) {
			w.now.Add(i % 2)
			if err := st.Set(bg, key16(i), fmt.Append(nil, i), 0); err != nil {
				rt.Fatal(err)
			}
		}
		top, below := st.tiers[0].Slab, st.tiers[1].Slab
		limit := rapid.IntRange(0, n).Draw(rt, "limit")
		var offered []Offered
		for shard := range top.shards {
			some, err := st.Offer(bg, top, shard, math.MaxUint64, limit)
			if err != nil || len(some) > limit {
				rt.Fatal(len(some), err)
			}
			for i := range some {
				if i > 0 && some[i].LastUse < some[i-1].LastUse {
					rt.Fatalf("%d after %d", some[i].LastUse, some[i-1].LastUse)
				}
			}
			offered = append(offered, some...)
		}
		untouched := 0
		want := map[string]string{}
		for i := range uint64(n) {
			want[string(key16(i))] = fmt.Sprint(i)
		}
		for _, o := range offered {
			if want[string(o.Key)] != string(o.Value) {
				rt.Fatalf("%x is %q", o.Key, o.Value)
			}
			var err error
			switch rapid.IntRange(0, 5).Draw(rt, "meanwhile") {
			case 0:
				if _, _, err = st.Get(nil, o.Key); o.LastUse == w.now.Load() { // seen by nobody
					untouched++
					delete(want, string(o.Key))
				}
			case 1:
				err = st.Set(bg, o.Key, []byte("new"), 0)
				want[string(o.Key)] = "new"
			case 2:
				_, err = st.Delete(bg, o.Key)
				delete(want, string(o.Key))
			case 3:
				_, err = st.Touch(bg, st.Key(o.Key), w.wall.Load()+1000)
			default:
				untouched++
				delete(want, string(o.Key))
			}
			if err != nil {
				rt.Fatal(err)
			}
		}
		if rapid.Bool().Draw(rt, "rebuild") {
			if err := st.Rebuild(bg); err != nil {
				rt.Fatal(err)
			}
		}
		removed, err := st.Deliver(bg, top, offered)
		if err != nil || removed != untouched {
			rt.Fatalf("%d removed of %d: %v", removed, untouched, err)
		}
		if again, err := st.Deliver(bg, top, offered); again != 0 || err != nil {
			rt.Fatal(again, err)
		}
		if other, err := st.Deliver(bg, below, offered); other != 0 || err != nil {
			rt.Fatal(other, err)
		}
		for i := range uint64(n) {
			v, ok, err := st.Get(nil, key16(i))
			if value, there := want[string(key16(i))]; ok != there || string(v) != value || err != nil {
				rt.Fatalf("%d is %q, %v, %v, want %q", i, v, ok, err, value)
			}
		}
		soundStack(t, st)
	})
}

// Demote keeps a part of each shard free as long as there is room below, loses nothing and
// stops where there is none.
func TestDemote_AnyFill_RoomAboveAndNothingLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		shape := Options{Entries: 200, Shards: 2, MaxKey: 32, MaxValue: 400, Order: rapid.SampledFrom([]Order{LRU, S3FIFO}).Draw(rt, "order")}
		lower := shape
		lower.Entries = rapid.Uint64Range(1, 200).Draw(rt, "entries below")
		w := newWorld()
		st := newStack(t, w, StackOptions{}, shape, lower)
		n := rapid.IntRange(0, 600).Draw(rt, "records")
		for i := range n {
			w.now.Add(1)
			if err := st.Set(bg, key16(uint64(i)), make([]byte, i%3*150), 0); err != nil {
				rt.Fatal(err)
			}
		}
		before, err := st.Stats()
		if err != nil {
			rt.Fatal(err)
		}
		from := rapid.IntRange(0, 1).Draw(rt, "from")
		moved := 0
		for {
			some, err := st.Demote(bg, st.tiers[0].Slab, &from, rapid.IntRange(1, 100).Draw(rt, "limit"))
			if err != nil {
				rt.Fatal(err)
			}
			if moved += some; some == 0 {
				break
			}
		}
		after, err := st.Stats()
		if err != nil || after.Records != before.Records || after.EvictedFull != before.EvictedFull {
			rt.Fatalf("%+v, before %+v, %v", after, before, err)
		}
		for i := range st.columns {
			col := &st.columns[i]
			down := col.tiers[1]
			if room := down.usable() - uint64(down.head.Used.Load()); col.tiers[0].tight() && room >= uint64(down.slab.geo.Reserve) {
				rt.Fatalf("shard %d is tight, with %d cells free below", i, room)
			}
		}
		soundStack(t, st)
	})
}

// Who may move nothing down leaves the order as it is, however often it looks.
func TestDemote_TierBelowFull_UsesStayCounted(t *testing.T) {
	w := newWorld()
	shape := Options{Entries: 1000, Shards: 4, MaxValue: 100, Order: S3FIFO}
	st := newStack(t, w, StackOptions{}, shape, shape)
	const n = 6000
	for i := range uint64(n) {
		w.now.Add(1)
		must(t, st.Set(bg, key16(i), []byte("v"), 0))
	}
	for range 4 {
		for i := range uint64(n) {
			_, _, err := st.Get(nil, key16(i))
			must(t, err)
		}
	}
	uses := func() (n uint64) {
		for i := range st.shards {
			sh := &st.shards[i]
			for c := uint32(1); c <= sh.head.Bump.Load(); c++ {
				if isLive(sh.cell(c).Version.Load()) {
					n += sh.cell(c).Recency.Load() & layout.RecencyCountMask
				}
			}
		}
		return n
	}
	before, from := uses(), 0
	for range 50 {
		if moved, err := st.Demote(bg, st.tiers[0].Slab, &from, 2048); moved != 0 || err != nil {
			t.Fatal(moved, err)
		}
	}
	if after := uses(); before == 0 || after != before {
		t.Fatalf("%d uses, %d before", after, before)
	}
	soundStack(t, st)
}
