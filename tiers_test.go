package flagstone_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/layout"
)

// The operations with several slabs. That they mean the same whichever slab holds the
// key is in property_test.go too, which moves records about between its steps.

// grown opens a cache of small values and adds n slabs of that many records.
func grown(t testing.TB, o flagstone.Options, n int, entries uint64) (*flagstone.Cache, []*flagstone.Slab) {
	t.Helper()
	c := open(t, o)
	return c, growMore(t, c, n, entries)
}

func growMore(t testing.TB, c *flagstone.Cache, n int, entries uint64) (added []*flagstone.Slab) {
	t.Helper()
	for i := range n {
		s, err := c.Grow(limited(t), fmt.Sprint("below", i+1), flagstone.Shape{Entries: entries})
		must(t, err)
		added = append(added, s)
	}
	return added
}

func small(dir string) flagstone.Options {
	o := options(dir)
	o.Entries, o.MaxValue = 1000, 1000
	return o
}

// sink moves everything into one tier.
func sink(t testing.TB, c *flagstone.Cache, to int) {
	t.Helper()
	tiers, err := c.Tiers()
	must(t, err)
	for from := range tiers {
		if from != to {
			_, err := c.Shift(limited(t), from, to, math.MaxInt)
			must(t, err)
		}
	}
	for tier, n := range heldBy(t, c) {
		if tier != to && n != 0 {
			t.Fatalf("%d records are still in tier %d", n, tier)
		}
	}
}

// heldBy returns how many records each tier has.
func heldBy(t testing.TB, c *flagstone.Cache) []uint64 {
	t.Helper()
	records, err := c.Held()
	must(t, err)
	return records
}

// Two handles: one grows, fills and drains, the other sees every key throughout.
func TestTiers_GrowFillDrain_OtherHandleMissesNothing(t *testing.T) {
	o := small(t.TempDir())
	a, b := open(t, o), open(t, o)
	below := growMore(t, a, 1, 3000)[0]
	const n = 3000
	for i := range n {
		must(t, a.Set(limited(t), fmt.Append(nil, i), fmt.Append(nil, "v", i), 0))
	}
	for i := range n {
		mustGet(t, b, fmt.Sprint(i), fmt.Sprint("v", i))
	}
	for i := range n {
		if i%5 != 0 {
			found, err := b.Delete(limited(t), fmt.Append(nil, i))
			if must(t, err); !found {
				t.Fatal(i)
			}
		}
	}
	moved, err := below.Drain(limited(t))
	must(t, err)
	if tiers, err := b.Tiers(); err != nil || len(tiers) != 1 || moved == 0 {
		t.Fatal(tiers, err, moved)
	}
	for i := range n {
		if _, ok, err := b.Get(nil, fmt.Append(nil, i)); ok != (i%5 == 0) || err != nil {
			t.Fatal(i, ok, err)
		}
	}
	sound(t, b)
}

// A handle that reads the first slab alone misses what is below, and writes as
// everybody: nothing comes twice, comes back, or begins anew.
func TestReadTiers_KeyBelow_MissedButWrittenByAllRules(t *testing.T) {
	o := small(t.TempDir())
	full, _ := grown(t, o, 2, 1000)
	o.ReadTiers, o.NoPromotion = 1, true
	near := open(t, o)
	for _, where := range []store{near, near.Namespace("space")} {
		all := store(full)
		if where != store(near) {
			all = full.Namespace("space")
		}
		ctx, k := limited(t), []byte("key")
		below := func(value string) flagstone.Token {
			t.Helper()
			token, err := all.SetItem(ctx, k, flagstone.Item{Value: []byte(value)})
			must(t, err)
			sink(t, full, 2)
			return token
		}
		sees := func(s store, want string) {
			t.Helper()
			v, ok, err := s.Get(nil, k)
			if err != nil || ok != (want != "") || string(v) != want {
				t.Fatalf("%q, %v, %v, want %q", v, ok, err, want)
			}
		}
		token := below("old")
		sees(where, "")
		if stored, err := where.SetIfAbsent(ctx, k, []byte("new"), 0); stored || err != nil {
			t.Fatal("it was not absent", err)
		}
		if found, err := where.Touch(ctx, k, time.Hour); !found || err != nil {
			t.Fatal("not touched", err)
		}
		sees(all, "old")
		sink(t, full, 1)
		if _, stored, err := where.CompareAndSwap(ctx, k, token, []byte("swapped"), 0); !stored || err != nil {
			t.Fatal("not swapped", err)
		}
		sees(where, "swapped")
		sees(all, "swapped")
		below("older")
		must(t, where.Set(ctx, k, []byte("newer"), 0))
		sees(where, "newer")
		sees(all, "newer")
		sink(t, full, 1)
		if found, err := where.Delete(ctx, k); !found || err != nil {
			t.Fatal("not found to be deleted", err)
		}
		sees(all, "")
		below(string(binary.LittleEndian.AppendUint64(nil, 41)))
		if sum, err := where.Increment(ctx, k, 1, 0, 0); sum != 42 || err != nil {
			t.Fatal(sum, err)
		}
		found, err := where.Delete(ctx, k)
		if must(t, err); !found {
			t.Fatal("the counter")
		}
	}
	sound(t, full)
	if st, err := full.Stats(); err != nil || st.Records != 1 { // the namespace's id
		t.Fatalf("%+v, %v", st, err)
	}
}

// Hits are counted by tier, and a hit below moves the record up unless the handle says
// otherwise.
func TestGet_HitBelow_PromotedAndCounted(t *testing.T) {
	for _, search := range []flagstone.Search{flagstone.Interleaved, flagstone.InOrder, flagstone.Parallel} {
		o := small(t.TempDir())
		o.Search = search
		up, _ := grown(t, o, 2, 1000)
		o.NoPromotion = true
		stay := open(t, o)
		for i := range 100 {
			must(t, up.Set(limited(t), fmt.Append(nil, i), fmt.Append(nil, i), 0))
		}
		sink(t, up, 2)
		for i := range 100 {
			mustGet(t, stay, fmt.Sprint(i), fmt.Sprint(i))
		}
		if got := heldBy(t, up); !slices.Equal(got, []uint64{0, 0, 100}) {
			t.Fatal(got)
		}
		for range 2 {
			for i := range 100 {
				mustGet(t, up, fmt.Sprint(i), fmt.Sprint(i))
			}
			mustMiss(t, up, "missing")
		}
		if got := heldBy(t, up); !slices.Equal(got, []uint64{100, 0, 0}) {
			t.Fatal(got)
		}
		st, err := stay.Stats()
		must(t, err)
		if own := st.Own; own.Hits != 100 || own.TierHits[2] != 100 || own.Misses != 0 {
			t.Fatalf("%+v", own)
		}
		if st, err = up.Stats(); err != nil || st.Own.Hits != 200 || st.Own.TierHits[0] != 100 || st.Own.TierHits[2] != 100 || st.Own.Misses != 2 {
			t.Fatalf("%+v, %v", st.Own, err)
		}
		sound(t, up)
	}
}

// Misses are counted once, however often a changing directory has them looked up.
func TestStats_DirectoryChanges_MissesAndHitsCountOnce(t *testing.T) {
	o := small(t.TempDir())
	a, b := open(t, o), open(t, o)
	must(t, a.Set(limited(t), []byte("k"), []byte("v"), 0))
	var batch flagstone.Batch
	for range 3 {
		slab := growMore(t, a, 1, 100)[0]
		mustMiss(t, b, "missing")
		_, err := slab.Drain(limited(t))
		must(t, err)
		must(t, b.GetBatch(&batch, [][]byte{[]byte("missing"), []byte("k")}))
		growMore(t, a, 1, 100)
		if _, _, err := b.Namespace("none").Get(nil, []byte("k")); err != nil {
			t.Fatal(err)
		}
		tiers, err := a.Tiers()
		must(t, err)
		_, err = tiers[1].Drain(limited(t))
		must(t, err)
	}
	st, err := b.Stats()
	if err != nil || st.Own.Misses != 9 {
		t.Fatalf("%+v, %v", st.Own, err)
	}
}

// A slab that Grow adds refuses what is too much if the first one does: nothing goes.
func TestGrow_CacheRefuses_SoDoesTheNewSlab(t *testing.T) {
	o := small(t.TempDir())
	o.OnFull, o.Entries = flagstone.Refuse, 100
	c, _ := grown(t, o, 1, 100)
	var err error
	stored := 0
	for ; err == nil; stored++ {
		err = c.Set(limited(t), fmt.Append(nil, stored), []byte("v"), 0)
	}
	mustFail(t, err, flagstone.ErrFull)
	if stored--; stored < 200 {
		t.Fatalf("only %d fitted", stored)
	}
	for i := range stored {
		mustGet(t, c, fmt.Sprint(i), "v")
	}
	tiers, err := c.Tiers()
	must(t, err)
	_, err = tiers[1].Drain(limited(t))
	mustFail(t, err, flagstone.ErrFull)
	for i := range stored {
		mustGet(t, c, fmt.Sprint(i), "v")
	}
	if e := c.Table().Entries()[1]; e.State.String() != "OPEN" || e.Drains != 1 {
		t.Fatalf("%+v", e)
	}
	sound(t, c)
}

func TestGrow_Impossible_TypedErrorAndNothingMade(t *testing.T) {
	o := small(t.TempDir())
	c, below := grown(t, o, 1, 100)
	grow := func(c *flagstone.Cache, name string, s flagstone.Shape) error {
		_, err := c.Grow(limited(t), name, s)
		return err
	}
	mustFail(t, grow(c, "x", flagstone.Shape{Shards: shards * 2}), flagstone.ErrOptions)
	mustFail(t, grow(c, "x", flagstone.Shape{Entries: 100, CellSize: 65}), flagstone.ErrOptions)
	mustFail(t, grow(c, strings.Repeat("x", 100), flagstone.Shape{}), flagstone.ErrOptions)
	mustFail(t, grow(c, "x", flagstone.Shape{Size: 1 << 50}), flagstone.ErrNoSpace)
	tiers, err := c.Tiers()
	must(t, err)
	_, err = tiers[0].Drain(limited(t))
	mustFail(t, err, flagstone.ErrOptions)
	o.ReadOnly = true
	looker := open(t, o)
	mustFail(t, grow(looker, "x", flagstone.Shape{}), flagstone.ErrReadOnly)
	mustFail(t, grow(private(t, flagstone.Options{}), "x", flagstone.Shape{}), flagstone.ErrUnsupported)
	if tiers, err = looker.Tiers(); err != nil || len(tiers) != 2 || tiers[1].ID() != below[0].ID() {
		t.Fatal(tiers, err)
	}
	_, err = tiers[1].Drain(limited(t))
	mustFail(t, err, flagstone.ErrReadOnly)
	for range layout.MaxTiers - 2 {
		must(t, grow(c, "more", flagstone.Shape{Entries: 1, MaxKey: 8, MaxValue: 40}))
	}
	mustFail(t, grow(c, "x", flagstone.Shape{Entries: 1}), flagstone.ErrOptions)
	if tiers, err = looker.Tiers(); err != nil || len(tiers) != layout.MaxTiers {
		t.Fatal(len(tiers), err)
	}
	for _, e := range c.Table().Entries() {
		if !e.State.Published() {
			t.Fatalf("%+v", e)
		}
	}
}

// Limits of the slab below that are smaller: what does not fit there stays above, or
// keeps it from being drained.
func TestDrain_OthersLimitsSmaller_ErrTooLargeAndReopened(t *testing.T) {
	o := small(t.TempDir())
	c := open(t, o)
	narrow, err := c.Grow(limited(t), "narrow", flagstone.Shape{Entries: 100, MaxValue: 100})
	must(t, err)
	must(t, c.Set(limited(t), []byte("large"), make([]byte, 900), 0))
	_, err = c.Shift(limited(t), 0, 1, 10)
	mustFail(t, err, flagstone.ErrTooLarge)
	mustGet(t, c, "large", string(make([]byte, 900)))
	if _, err := narrow.Drain(limited(t)); err != nil {
		t.Fatal(err)
	}
	mustGet(t, c, "large", string(make([]byte, 900)))
	sound(t, c)
}

// What namespaces and loads rest on are records too, and mean the same below.
func TestNamespace_IdBelow_SameNamespace(t *testing.T) {
	c, _ := grown(t, small(t.TempDir()), 2, 1000)
	n := c.Namespace("space")
	must(t, n.Set(limited(t), []byte("k"), []byte("v"), 0))
	id, _, err := n.ID()
	must(t, err)
	for _, to := range []int{1, 2, 0, 2} {
		sink(t, c, to)
		if now, ok, err := n.ID(); now != id || !ok || err != nil {
			t.Fatal(now, ok, err)
		}
		sink(t, c, to)
		if _, err := n.Increment(limited(t), fmt.Append(nil, "n", to), 1, 0, 0); err != nil {
			t.Fatal(err)
		}
		if v, ok, err := n.Get(nil, []byte("k")); string(v) != "v" || !ok || err != nil {
			t.Fatal(string(v), ok, err)
		}
	}
	sink(t, c, 1)
	must(t, n.Clear(limited(t)))
	if _, ok, err := n.Get(nil, []byte("k")); ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, ok, err := n.ID(); ok || err != nil {
		t.Fatal(ok, err)
	}
	sound(t, c)
}

// The claim goes down while others wait, and still is the loader's alone; the value
// that it ends with, too.
func TestLoad_ClaimMovedMeanwhile_OneLoad(t *testing.T) {
	for _, reads := range []int{0, 1} {
		o := small(t.TempDir())
		loader, below := grown(t, o, 1, 1000)
		o.ReadTiers = reads
		waiter := open(t, o)
		load := hold(t, limited(t), loader, "key")
		sink(t, loader, 1)
		_, err := waiter.Claim(limited(t), []byte("key"), time.Hour)
		mustFail(t, err, flagstone.ErrClaimed)
		results := ask(t, limited(t), waiter, "key", 3, noLoad(t))
		must(t, drained(t, below[0]))
		growMore(t, loader, 1, 1000)
		sink(t, loader, 1)
		load.gives("value").must(t, "value")
		for range 3 {
			(<-results).must(t, "value")
		}
		sink(t, loader, 1)
		mustLoad(t, waiter, limited(t), "key", "value", noLoad(t))
		sound(t, loader)
	}
}

func drained(t testing.TB, s *flagstone.Slab) error {
	t.Helper()
	_, err := s.Drain(limited(t))
	return err
}

// SetBatch goes on where it was when the directory changed, and does not begin anew:
// what it stored at first may be another's by now.
func TestSetBatch_DirectoryChangesMeanwhile_EachItemStoredOnce(t *testing.T) {
	o := small(t.TempDir())
	c, churner := open(t, o), open(t, o)
	stop, done := make(chan struct{}), make(chan struct{})
	end := sync.OnceFunc(func() { close(stop); <-done })
	defer end()
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				s, err := churner.Grow(limited(t), "short", flagstone.Shape{Entries: 10})
				if err == nil {
					err = drained(t, s)
				}
				if err != nil && !errors.Is(err, flagstone.ErrFull) {
					t.Error(err)
					return
				}
			}
		}
	}()
	items := make([]flagstone.KeyItem, 512)
	want := uint64(0)
	for round := range 100 {
		for i := range items {
			items[i] = flagstone.KeyItem{Key: fmt.Append(nil, i), Item: flagstone.Item{Value: fmt.Append(nil, round)}}
		}
		n, err := c.SetBatch(limited(t), items)
		if must(t, err); n != len(items) {
			t.Fatal(n)
		}
		want += uint64(n)
		for i := range items {
			mustGet(t, c, fmt.Sprint(i), fmt.Sprint(round))
		}
	}
	end()
	if st, err := c.Stats(); err != nil || st.Sets != want {
		t.Fatalf("%d sets, want %d: %v", st.Sets, want, err)
	}
	sound(t, c)
}

// Everything at once in one handle while slabs come and go: no error that should not
// be, no missed key, and Close ends all of it.
func TestTiers_GoroutinesWhileSlabsComeAndGo_NothingMissedAndCloseEnds(t *testing.T) {
	o := small(t.TempDir())
	o.Entries = 2000
	busy, churner := open(t, o), open(t, o)
	const staying = 300
	for i := range staying {
		must(t, busy.Set(limited(t), fmt.Append(nil, "stays", i), fmt.Append(nil, i), 0))
	}
	ctx, cancel := context.WithCancel(limited(t))
	defer cancel()
	var group sync.WaitGroup
	forever := func(do func(i int) error) {
		group.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := do(i); err != nil && !errors.Is(err, flagstone.ErrClosed) {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				} else if err != nil {
					return
				}
			}
		})
	}
	check := func(i int, v []byte, ok bool, err error) error {
		if err == nil && (!ok || string(v) != fmt.Sprint(i%staying)) {
			err = fmt.Errorf("stays%d: %q, %v", i%staying, v, ok)
		}
		return err
	}
	for range 2 {
		forever(func(i int) error {
			v, ok, err := busy.Get(nil, fmt.Append(nil, "stays", i%staying))
			return check(i, v, ok, err)
		})
	}
	forever(func(i int) error {
		var b flagstone.Batch
		if err := busy.GetBatch(&b, [][]byte{fmt.Append(nil, "stays", i%staying), []byte("missing")}); err != nil {
			return err
		}
		v, ok := b.Value(0)
		return check(i, v, ok, nil)
	})
	forever(func(i int) error { return busy.Set(ctx, fmt.Append(nil, "churn", i%500), make([]byte, i%150), 0) })
	forever(func(i int) error {
		_, err := busy.Delete(ctx, fmt.Append(nil, "churn", i*7%500))
		return err
	})
	forever(func(i int) error {
		seen := 0
		for r, err := range busy.All(ctx) {
			if err != nil {
				return err
			}
			if strings.HasPrefix(string(r.Key), "stays") {
				seen++
			}
		}
		if seen != staying {
			return fmt.Errorf("All has %d of %d", seen, staying)
		}
		return nil
	})
	forever(func(int) error { _, err := busy.Stats(); return err })
	forever(func(int) error { _, err := busy.Evict(ctx, time.Hour, 10); return err })
	forever(func(int) error { _, err := busy.EvictTag(ctx, 99, 10); return err })
	group.Go(func() {
		defer cancel()
		for i := range 25 {
			s, err := churner.Grow(limited(t), "short", flagstone.Shape{Entries: 1500})
			if err == nil {
				_, err = churner.Shift(limited(t), 0, 1, 400)
			}
			for errors.Is(err, flagstone.ErrRetired) { // a view that did not have it yet
				_, err = churner.Shift(limited(t), 0, 1, 400)
			}
			if err == nil && i%2 == 0 {
				_, err = churner.Shift(limited(t), 1, 0, 100)
			}
			if err == nil || errors.Is(err, flagstone.ErrFull) {
				err = drained(t, s)
			}
			if err != nil {
				t.Errorf("round %d: %v", i, err)
				return
			}
		}
		must(t, busy.Close())
	})
	group.Wait()
	sound(t, churner)
	for i := range staying {
		mustGet(t, churner, fmt.Sprint("stays", i), fmt.Sprint(i))
	}
}
