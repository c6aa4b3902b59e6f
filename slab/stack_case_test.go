package slab

import (
	"errors"
	"fmt"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// What stacks must do in places that are hard to hit by chance.

// What goes down to make room for a value may use the cells of the old one, below,
// once.
func TestStack_LongRecordBelowReplaced_RoomItLeavesIsCountedOnce(t *testing.T) {
	w := newWorld()
	const reserve = 11 // cells of the longest record
	shape := func(entries uint64) Options {
		return Options{Entries: entries, Shards: 1, CellSize: 64, MaxKey: 16, MaxValue: 400}
	}
	st := newStack(t, w, StackOptions{}, shape(2*reserve-1), shape(reserve))
	if got := st.top.geo.Reserve; got != reserve {
		t.Fatal(got)
	}
	long := make([]byte, 400)
	must(t, st.Set(bg, key16(0), long, 0))
	if n, err := st.Move(bg, st.top, st.tiers[1].Slab, 1<<40, 1); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	for i := range uint64(reserve - 1) {
		must(t, st.Set(bg, key16(i+1), nil, 0))
	}
	must(t, st.Set(bg, key16(reserve), long, 0))
	must(t, st.Set(bg, key16(0), long, 0)) // all the others go down
	if all, err := st.Stats(); err != nil || all.Rebuilds != 0 {
		t.Fatalf("%+v, %v", all, err)
	}
	soundStack(t, st)
}

// A reader or a process that sees less than there is says so.
func TestStack_ViewIsOldOrNotWhole_ErrorAndNoAnswer(t *testing.T) {
	w := newWorld()
	shape := Options{Entries: 100, Shards: 2, MaxValue: 100}
	var changes layout.Uint64
	segments := stackSegments(t, shape, shape)
	m := w.member(0)
	old := openStack(t, m, StackOptions{Changes: &changes}, segments[0])
	why := errors.New("no such file")
	partial := NewStack(StackOptions{Missing: why}, old.tiers...)
	below, err := OpenBelow(segments[1], old.top, testID)
	must(t, err)
	changes.Add(1)
	whole := NewStack(StackOptions{Changes: &changes, Seen: 1}, old.tiers[0], Tier{Slab: below})
	for i := range uint64(20) {
		_, _, err := whole.Put(bg, whole.Key(key16(i)), &Item{Tag: 1}, Anyhow)
		must(t, err)
	}
	if n, err := whole.Move(bg, whole.top, below, 1<<40, 100); n != 20 || err != nil {
		t.Fatal(n, err)
	}
	for _, v := range []struct {
		st   *Stack
		want error
	}{{old, ErrStale}, {partial, why}} {
		for name, op := range map[string]func() error{
			"Set":      func() error { return v.st.Set(bg, key16(1), nil, 0) },
			"Delete":   func() error { _, err := v.st.Delete(bg, key16(1)); return err },
			"Evict":    func() error { _, err := v.st.Evict(bg, 1<<40, 5); return err },
			"EvictTag": func() error { _, err := v.st.EvictTag(bg, 1, 1000); return err },
			"Scan":     func() error { return v.st.Scan(bg, func(Record) bool { return true }) },
			"Clear":    func() error { return v.st.Clear(bg) },
			"Rebuild":  func() error { return v.st.Rebuild(bg) },
			"Check":    func() error { _, err := v.st.Check(bg); return err },
			"Waiting":  func() error { _, _, err := v.st.GetWaiting(bg, nil, v.st.Key(key16(1))); return err },
		} {
			if err := op(); !errors.Is(err, v.want) {
				t.Errorf("%s: %v, want %v", name, err, v.want)
			}
		}
	}
	if _, _, err := partial.Get(nil, key16(1)); !errors.Is(err, why) {
		t.Error(err)
	}
	if n, err := whole.Len(); n != 20 || err != nil {
		t.Fatal(n, err)
	}
	soundStack(t, whole)
}

// A stamp may lie behind by the grain, which is one for all tiers.
func TestEvict_TierBelowHasACoarserGrain_NothingUsedAfterTheCutoffGoes(t *testing.T) {
	w := newWorld()
	st := newStack(t, w, StackOptions{}, Options{Entries: 100, Shards: 1, StampMillis: 10}, Options{Entries: 100, Shards: 1, StampMillis: 100_000})
	must(t, st.Set(bg, key16(1), nil, 0))
	if n, err := st.Move(bg, st.top, st.tiers[1].Slab, 1<<40, 1); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	used := w.now.Add(90_000)
	if _, ok, err := st.Get(nil, key16(1)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if gone, err := st.Evict(bg, used, 1); len(gone) != 0 || err != nil {
		t.Fatal("the record was used at the cutoff", err)
	}
}

// In the order of a tier below, too, what was used goes to the front.
func TestGet_HitBelowWithoutPromotion_StaysLongest(t *testing.T) {
	w := newWorld()
	one := Options{Entries: 10, Shards: 1, MaxValue: 64, MaxKey: 16}
	st := newStack(t, w, StackOptions{}, one, Options{Entries: 40, Shards: 1, MaxValue: 64, MaxKey: 16})
	set := func(i uint64) {
		w.now.Add(1)
		must(t, st.Set(bg, key16(i), nil, 0))
	}
	for i := range uint64(11) {
		set(i)
	}
	for i := uint64(11); i < 200; i++ { // key 0 was the first to go down
		if v, ok, err := st.Get(nil, key16(0)); !ok || err != nil {
			t.Fatal(i, v, ok, err)
		}
		set(i)
	}
}

// Where there is no room for a claim it takes an expired value's place; what went
// down to make room may have been that value, and an older claim may be below.
func TestClaim_NoRoomAbove_OneClaimAndNoRebuild(t *testing.T) {
	for _, claimed := range []bool{false, true} {
		t.Run(fmt.Sprint("claimed ", claimed), func(t *testing.T) {
			w := newWorld()
			shape := func(entries uint64) Options {
				return Options{Entries: entries, Shards: 1, CellSize: 64, MaxKey: 16, MaxValue: 100, OnFull: Refuse}
			}
			st := newStack(t, w, StackOptions{}, shape(8), shape(8))
			k := st.Key(key16(0))
			must(t, st.Set(bg, k.bytes, nil, 1))                // expired: one cell, the first to go down
			must(t, st.Set(bg, key16(1), make([]byte, 100), 0)) // the next one has no room there
			for i := uint64(2); st.shards[0].head.Used.Load() < 8; i++ {
				must(t, st.Set(bg, key16(i), nil, 0))
			}
			below := st.columns[0].tiers[1]
			must(t, st.update(bg, &st.columns[0], func() error {
				insert := func(k Key, value []byte) error {
					c := st.shards[0].next(&k, &Item{Value: value}, 0)
					return below.insert(&c, k.hash)
				}
				if claimed {
					overdue := Claim{State: Loading, Owner: 9}
					must(t, insert(k.claim(), overdue.bytes(layout.ClaimText)))
				}
				for i := uint64(100); below.head.Used.Load() < 7; i++ {
					must(t, insert(st.Key(key16(i)), nil))
				}
				return nil
			}))
			soundStack(t, st)
			_, _, won, c, err := st.Claim(bg, nil, k, w.now.Load()+1000)
			if err != nil && !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			soundStack(t, st)
			if all, err := st.Stats(); err != nil || all.Rebuilds != 0 {
				t.Fatalf("%+v, %v", all, err)
			}
			if is, err := st.ClaimOf(k); won && (err != nil || is.Version != c.Version) {
				t.Fatalf("%+v, %v; want %+v", is, err, c)
			}
		})
	}
}

// A record that comes back to its cells brings its version with it, and a reader that
// was held up meanwhile has nothing but the epoch to tell by that others were there.
func TestMove_FromAnyTier_EpochTells(t *testing.T) {
	for _, way := range [][2]int{{0, 1}, {1, 0}, {0, 2}, {2, 0}, {1, 2}, {2, 1}} {
		w := newWorld()
		shape := Options{Entries: 20, Shards: 1, MaxValue: 100}
		st := newStack(t, w, StackOptions{}, shape, shape, shape)
		st.putIn(t, way[0], key16(1), nil)
		epoch := st.shards[0].head.Epoch.Load()
		up := way[1] < way[0]
		if n, err := st.Move(bg, st.tiers[way[0]].Slab, st.tiers[way[1]].Slab, 1<<40, 1); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		moved := st.shards[0].head.Epoch.Load() ^ epoch
		if up != (moved&layout.EpochRebuildMask != 0) {
			t.Errorf("from tier %d to %d: half that hits compare moved: %v", way[0], way[1], !up)
		}
		if below := way[0] > 0; below != (moved > layout.EpochRebuildMask) {
			t.Errorf("from tier %d to %d: half that misses compare moved: %v", way[0], way[1], !below)
		}
	}
}
