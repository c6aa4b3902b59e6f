package flagstone_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/table"
)

// create makes an independent slab and closes it with the test.
func create(t testing.TB, c *flagstone.Cache, name string, shape flagstone.Shape) *flagstone.Slab {
	t.Helper()
	s, err := c.CreateSlab(limited(t), name, shape)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func openSlab(t testing.TB, c *flagstone.Cache, name string) *flagstone.Slab {
	t.Helper()
	s, err := c.OpenSlab(limited(t), name)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// shapeOfSlab is a slab for tests.
var shapeOfSlab = flagstone.Shape{Entries: 1000, MaxValue: 200, Shards: shards}

type getter interface {
	Get(dst, key []byte) ([]byte, bool, error)
}

// wantValue checks what a key has; "" is nothing.
func wantValue(t testing.TB, g getter, key, value string) {
	t.Helper()
	if v, ok, err := g.Get(nil, []byte(key)); err != nil || ok != (value != "") || string(v) != value {
		t.Fatalf("%s: %q %v %v, want %q", key, v, ok, err, value)
	}
}

func TestSlab_Independent_IsACacheOfItsOwn(t *testing.T) {
	o := options(t.TempDir())
	a, b := open(t, o), open(t, o)
	mine := create(t, a, "own", shapeOfSlab)
	theirs := openSlab(t, b, "own")
	must(t, a.Set(limited(t), []byte("k"), []byte("primary"), 0))
	must(t, mine.Set(limited(t), []byte("k"), []byte("own"), 0))
	wantValue(t, b, "k", "primary")
	wantValue(t, theirs, "k", "own")

	must(t, mine.Cache().Namespace("n").Set(limited(t), []byte("k"), []byte("scoped"), 0))
	wantValue(t, theirs.Cache().Namespace("n"), "k", "scoped")
	wantValue(t, b.Namespace("n"), "k", "")
	v, err := theirs.GetOrLoad(limited(t), []byte("loaded"), func(context.Context) (flagstone.Item, error) {
		return flagstone.Item{Value: []byte("once")}, nil
	})
	if must(t, err); string(v) != "once" {
		t.Fatal(v)
	}
	wantValue(t, mine, "loaded", "once")

	below, err := mine.Cache().Grow(limited(t), "below", flagstone.Shape{})
	must(t, err)
	if tiers, err := theirs.Cache().Tiers(); err != nil || len(tiers) != 2 || tiers[1].ID() != below.ID() {
		t.Fatal(tiers, err)
	}
	if tiers, err := b.Tiers(); err != nil || len(tiers) != 1 {
		t.Fatal(tiers, err)
	}
	st, err := mine.Cache().Stats()
	if must(t, err); st.Own.Sets == 0 || st.Own.Sets >= st.Total.Sets {
		t.Fatal(st.Own, st.Total)
	}
	before := st.Total.Sets
	must(t, mine.Close())
	st, err = a.Stats()
	if must(t, err); st.Total.Sets < before {
		t.Fatalf("%d sets after the slab was closed, %d before", st.Total.Sets, before)
	}
	mustFail(t, mine.Set(limited(t), []byte("k"), nil, 0), flagstone.ErrClosed)
	_, _, err = mine.Get(nil, []byte("k"))
	mustFail(t, err, flagstone.ErrClosed)
	must(t, mine.Close())
	wantValue(t, theirs, "k", "own")
	again := openSlab(t, a, "own")
	wantValue(t, again, "k", "own")
	sound(t, a)
	sound(t, again.Cache())
}

// Handles of one slab share its locks: each with an end of its own would rob the other.
func TestOpenSlab_Twice_OneMappingUntilTheLastClose(t *testing.T) {
	c := open(t, options(t.TempDir()))
	a := create(t, c, "own", shapeOfSlab)
	b := openSlab(t, c, "own")
	if a.Cache() != b.Cache() {
		t.Fatal("two mappings")
	}
	must(t, a.Close())
	must(t, a.Close())
	must(t, b.Set(limited(t), []byte("k"), []byte("v"), 0))
	must(t, b.Close())
	mustFail(t, b.Set(limited(t), []byte("k"), nil, 0), flagstone.ErrClosed)
	first, err := c.Tiers()
	must(t, err)
	must(t, first[0].Close()) // a tier is closed with its cache
	must(t, c.Set(limited(t), []byte("k"), nil, 0))
}

func TestCreateSlab_BadInput_TypedErrors(t *testing.T) {
	c := open(t, options(t.TempDir()))
	create(t, c, "own", shapeOfSlab)
	for name, want := range map[string]error{
		"": flagstone.ErrOptions, "primary": flagstone.ErrOptions, strings.Repeat("x", 33): flagstone.ErrOptions,
		"a\x00": flagstone.ErrOptions, "own": flagstone.ErrSlabExists,
	} {
		_, err := c.CreateSlab(limited(t), name, shapeOfSlab)
		mustFail(t, err, want)
	}
	_, err := c.CreateSlab(limited(t), "odd", flagstone.Shape{CellSize: 100})
	mustFail(t, err, flagstone.ErrOptions)
	_, err = c.OpenSlab(limited(t), "none")
	mustFail(t, err, flagstone.ErrNoSlab)
	tiers, err := c.Tiers()
	must(t, err)
	mustFail(t, tiers[0].Retire(limited(t)), flagstone.ErrOptions)

	p := open(t, flagstone.Options{Private: true})
	_, err = p.CreateSlab(limited(t), "own", shapeOfSlab)
	mustFail(t, err, flagstone.ErrUnsupported)
	if !errors.Is(err, errors.ErrUnsupported) || strings.Contains(err.Error(), "Linux") {
		t.Error(err)
	}
	_, err = p.Move(limited(t), nil, nil, 0, 1)
	mustFail(t, err, flagstone.ErrOptions)
	tiers, err = p.Tiers()
	must(t, err)
	_, err = tiers[0].Lock(limited(t))
	mustFail(t, err, flagstone.ErrUnsupported)
}

// While some read, write and load, a slab is retired: every answer is the value or
// ErrRetired, never a miss, and its place and memory come free.
func TestRetire_UnderLoad_RetiredNeverAMiss(t *testing.T) {
	o := options(t.TempDir())
	a, b := open(t, o), open(t, o)
	for round := range 5 {
		s := create(t, a, "own", flagstone.Shape{Entries: 2000, MaxValue: 4000, Shards: shards})
		if _, err := s.Cache().Grow(limited(t), "below", flagstone.Shape{}); round%2 == 0 {
			must(t, err)
		}
		const n = 200
		value := func(i int) []byte { return bytes.Repeat(fmt.Append(nil, i, ";"), 100+i%400) }
		for i := range n {
			must(t, s.Set(limited(t), fmt.Append(nil, i), value(i), 0))
		}
		var group sync.WaitGroup
		var begun sync.WaitGroup
		for _, c := range []*flagstone.Cache{a, b} {
			other := openSlab(t, c, "own")
			begun.Add(2)
			group.Go(func() {
				for i := 0; ; i++ {
					v, ok, err := other.Get(nil, fmt.Append(nil, i%n))
					switch {
					case errors.Is(err, flagstone.ErrRetired):
						return
					case errors.Is(err, flagstone.ErrBusy):
					case err != nil || !ok || !bytes.Equal(v, value(i%n)):
						t.Error(i, ok, err, len(v))
						return
					}
					if i == 0 {
						begun.Done()
					}
				}
			})
			group.Go(func() {
				for i := 0; ; i++ {
					err := other.Set(limited(t), fmt.Append(nil, i%n), value(i%n), 0)
					if errors.Is(err, flagstone.ErrRetired) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					if i == 0 {
						begun.Done()
					}
				}
			})
		}
		begun.Wait()
		must(t, s.Retire(limited(t)))
		group.Wait()
		mustFail(t, s.Set(limited(t), []byte("k"), nil, 0), flagstone.ErrRetired)
		_, err := s.Cache().Len()
		mustFail(t, err, flagstone.ErrRetired)
		mustFail(t, s.Retire(limited(t)), flagstone.ErrRetired)
		_, err = s.EvictPairs(limited(t), 0, 1)
		mustFail(t, err, flagstone.ErrRetired)
		if !strings.HasPrefix(err.Error(), `evict from slab "own": `) {
			t.Error(err)
		}
		_, err = b.OpenSlab(limited(t), "own")
		mustFail(t, err, flagstone.ErrNoSlab)
		_, err = s.Lock(limited(t))
		mustFail(t, err, flagstone.ErrRetired)
	}
	eventually(t, "the retired entries come free", func() bool { // both let go of all that was retired
		used := 0
		for _, e := range a.Table().Entries() {
			if e.State != table.StateFree {
				used++
			}
		}
		_, _ = a.Table().Reap()
		return used == 1
	})
}

// Who dies in Retire leaves a slab that finds nothing and says so; the next who makes
// one finishes it.
func TestRetire_DiedInside_TheNextFinishesIt(t *testing.T) {
	o := options(t.TempDir())
	a, b := open(t, o), open(t, o)
	s, other := create(t, a, "own", shapeOfSlab), openSlab(t, b, "own")
	must(t, s.Set(limited(t), []byte("k"), []byte("v"), 0))
	for _, e := range a.Table().Entries() {
		if e.SegmentID == s.ID() {
			_, err := a.Table().Drain(e) // as far as it came
			must(t, err)
		}
	}
	_, _, err := other.Get(nil, []byte("missing"))
	mustFail(t, err, flagstone.ErrRetired)
	mustFail(t, other.Set(limited(t), []byte("k"), nil, 0), flagstone.ErrRetired)
	_, err = b.OpenSlab(limited(t), "own")
	mustFail(t, err, flagstone.ErrNoSlab)
	next := create(t, b, "own", shapeOfSlab)
	wantValue(t, next, "k", "")
	_, _, err = s.Get(nil, []byte("k"))
	mustFail(t, err, flagstone.ErrRetired)
	if next.ID() == s.ID() {
		t.Fatal("the same slab")
	}
}

func TestLock_ExcludesOtherLockHoldersOnly(t *testing.T) {
	o := options(t.TempDir())
	a, b := open(t, o), open(t, o)
	s := create(t, a, "own", shapeOfSlab)
	other := openSlab(t, b, "own")
	for _, pair := range [][2]*flagstone.Slab{{s, other}, {first(t, a), first(t, b)}} {
		mine, theirs := pair[0], pair[1]
		mustFail(t, mine.Unlock(true), flagstone.ErrNotHeld)
		if consistent, err := mine.Lock(limited(t)); err != nil || !consistent {
			t.Fatal(consistent, err)
		}
		if ok, _, err := theirs.TryLock(); ok || err != nil {
			t.Fatal(ok, err)
		}
		_, err := theirs.Lock(brief(t))
		mustFail(t, err, flagstone.ErrBusy, context.DeadlineExceeded)
		_, err = theirs.LockWriters(brief(t))
		mustFail(t, err, flagstone.ErrBusy)
		must(t, theirs.Set(limited(t), []byte("k"), []byte("v"), 0))
		wantValue(t, theirs, "k", "v")
		must(t, mine.Unlock(false))
		eventually(t, "it is free", func() bool { // the way of who starved, and has given up, at first
			ok, consistent, err := theirs.TryLock()
			if must(t, err); ok && consistent {
				t.Fatal("what the last holder said is lost")
			}
			return ok
		})
		must(t, theirs.Unlock(true))
	}
}

// first returns tier 0.
func first(t testing.TB, c *flagstone.Cache) *flagstone.Slab {
	t.Helper()
	tiers, err := c.Tiers()
	must(t, err)
	return tiers[0]
}

func TestLockWriters_WritersWait_ReadersDoNot(t *testing.T) {
	o := options(t.TempDir())
	a, b := open(t, o), open(t, o)
	below, err := a.Grow(limited(t), "below", flagstone.Shape{})
	must(t, err)
	for i := range 50 {
		must(t, a.Set(limited(t), fmt.Append(nil, i), []byte("v"), 0))
	}
	// The view may be stale, and be so again: a tier that has just come.
	_, err = b.Grow(limited(t), "deeper", flagstone.Shape{})
	must(t, err)
	if consistent, err := below.LockWriters(limited(t)); err != nil || !consistent {
		t.Fatal(consistent, err)
	}
	mustFail(t, b.Set(brief(t), []byte("k"), []byte("v"), 0), flagstone.ErrBusy)
	_, err = b.Delete(brief(t), []byte("0"))
	mustFail(t, err, flagstone.ErrBusy)
	_, err = b.Move(brief(t), first(t, b), first(t, a), 0, 1)
	mustFail(t, err, flagstone.ErrOptions)
	mustFail(t, b.Clear(brief(t)), flagstone.ErrBusy)
	mustFail(t, a.Set(brief(t), []byte("k"), []byte("v"), 0), flagstone.ErrBusy) // its own too
	wantValue(t, a, "1", "v")
	wantValue(t, b, "1", "v")
	n := 0
	for _, err := range a.All(limited(t)) {
		must(t, err)
		n++
	}
	if n != 50 {
		t.Fatal(n)
	}
	// Another slab of the same cache has another mutex, but not other writers: what was
	// taken is given back.
	_, err = first(t, b).LockWriters(brief(t))
	mustFail(t, err, flagstone.ErrBusy)
	if ok, _, err := first(t, b).TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	must(t, first(t, b).Unlock(true))
	done := make(chan error, 1)
	go func() { done <- b.Set(limited(t), []byte("k"), []byte("v"), 0) }()
	must(t, below.Unlock(true))
	must(t, <-done)
	mustFail(t, below.Unlock(true), flagstone.ErrNotHeld)

	_, err = below.LockWriters(limited(t)) // Close gives all back
	must(t, err)
	must(t, a.Close())
	must(t, b.Set(limited(t), []byte("k"), []byte("w"), 0))
	sound(t, b)
}

func init() {
	before := obeyMore
	obeyMore = func(ctx context.Context, c **flagstone.Cache, dir, order string, arg []string) (answer string, err error) {
		switch order {
		case "lock", "lockwriters":
			s, err := (*c).OpenSlab(ctx, arg[0])
			if err != nil {
				return "", err
			}
			lock := s.Lock
			if order == "lockwriters" {
				lock = s.LockWriters
			}
			consistent, err := lock(ctx)
			return fmt.Sprint("locked ", consistent), err
		case "transfer": // moves from slab to slab and back for ever
			s, err := (*c).OpenSlab(ctx, arg[0])
			if err != nil {
				return "", err
			}
			fmt.Println("ok")
			for a, b := first0(*c), s; ; a, b = b, a {
				if _, err := (*c).Move(context.Background(), a, b, 0, math.MaxInt); err != nil {
					return "", err
				}
				fmt.Println("moved")
			}
		}
		if before != nil {
			return before(ctx, c, dir, order, arg)
		}
		return "", errors.New("unknown order " + order)
	}
}

func first0(c *flagstone.Cache) *flagstone.Slab {
	tiers, err := c.Tiers()
	if err != nil {
		panic(err)
	}
	return tiers[0]
}

func TestLock_HolderDies_NextIsToldAndWritersGoOn(t *testing.T) {
	dir := t.TempDir()
	c := open(t, options(dir))
	s := create(t, c, "own", shapeOfSlab)
	for i := range 100 {
		must(t, s.Set(limited(t), fmt.Append(nil, i), []byte("v"), 0))
	}
	for _, how := range []string{"lock", "lockwriters"} {
		child := opened(t, dir)
		child.expect("locked true", how, "own")
		if how == "lockwriters" {
			mustFail(t, s.Set(brief(t), []byte("k"), nil, 0), flagstone.ErrBusy)
		}
		_, err := s.Lock(brief(t))
		mustFail(t, err, flagstone.ErrBusy)
		child.kill()
		if consistent, err := s.Lock(limited(t)); err != nil || consistent {
			t.Fatal(how, consistent, err)
		}
		must(t, s.Unlock(true))
		for i := range 100 {
			must(t, s.Set(limited(t), fmt.Append(nil, i), []byte(how), 0))
			wantValue(t, s, fmt.Sprint(i), how)
		}
		sound(t, s.Cache())
	}
	st, err := s.Cache().Stats()
	if must(t, err); st.Steals < shards {
		t.Fatalf("%d shards were taken from the dead", st.Steals)
	}
	if consistent, err := s.LockWriters(limited(t)); err != nil || !consistent {
		t.Fatal(consistent, err)
	}
	must(t, s.Unlock(true))
}

// age lets all that is there grow older than a cutoff can tell.
func age(c *flagstone.Cache, clock *testClock) {
	clock.pass(2000)
	c.Table().Tick()
}

func TestEvictPairs_InsertBatch_AllSurvivesIntoAnotherSlab(t *testing.T) {
	c, clock := clocked(t)
	s := create(t, c, "own", shapeOfSlab)
	tiers, err := c.Tiers()
	must(t, err)
	item := flagstone.Item{Value: []byte("v"), TTL: time.Hour, StaleFor: time.Minute, Tag: 7}
	_, err = c.SetItem(limited(t), []byte("k"), item)
	must(t, err)
	must(t, c.SetHash(limited(t), 42, []byte("by hash"), 0))
	must(t, c.Namespace("n").Set(limited(t), []byte("k"), []byte("scoped"), 0))
	id, _, err := c.Namespace("n").ID()
	must(t, err)
	must(t, s.Set(limited(t), []byte("k"), []byte("older"), 0))
	must(t, s.Cache().Namespace("n").Set(limited(t), []byte("other"), []byte("other"), 0))
	there, _, err := s.Cache().Namespace("n").ID()
	must(t, err)

	age(c, clock)
	pairs, err := tiers[0].EvictPairs(limited(t), 0, 100)
	if must(t, err); len(pairs) != 3 {
		t.Fatal(pairs)
	}
	for i := range pairs {
		if pairs[i].Scope == id {
			pairs[i].Scope = there
		}
	}
	if n, err := s.InsertBatch(limited(t), pairs); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	got, ok, err := s.GetItem(nil, []byte("k"))
	if err != nil || !ok || string(got.Value) != "v" || got.Tag != 7 || got.StaleFor != time.Minute || got.TTL > time.Hour || got.TTL < time.Minute {
		t.Fatal(got, ok, err)
	}
	if v, ok, err := s.Cache().GetHash(nil, 42); string(v) != "by hash" || !ok || err != nil {
		t.Fatal(v, ok, err)
	}
	wantValue(t, s.Cache().Namespace("n"), "k", "scoped")
	wantValue(t, c, "k", "")
	sound(t, c)
	sound(t, s.Cache())
}

// Into a tier of the same cache a record goes straight, and not past a newer one.
func TestInsertBatch_SameCache_NewerStays(t *testing.T) {
	c, clock := clocked(t)
	below, err := c.Grow(limited(t), "below", flagstone.Shape{MaxValue: 100})
	must(t, err)
	for _, k := range []string{"a", "b", "c"} {
		must(t, c.Set(limited(t), []byte(k), []byte("old"), 0))
	}
	must(t, c.Set(limited(t), []byte("long"), bytes.Repeat([]byte("x"), 101), 0))
	must(t, c.Namespace("n").Set(limited(t), []byte("deep"), []byte("v"), 0))
	age(c, clock)
	pairs, err := first(t, c).EvictPairs(limited(t), 0, 100)
	if must(t, err); len(pairs) != 5 {
		t.Fatal(pairs)
	}
	must(t, c.Set(limited(t), []byte("b"), []byte("new"), 0))
	n, err := below.InsertBatch(limited(t), pairs)
	if mustFail(t, err, flagstone.ErrTooLarge); n != 4 || string(pairs[4].Key) != "long" {
		t.Fatal(n, pairs)
	}
	for k, v := range map[string]string{"a": "old", "b": "new", "c": "old", "long": ""} {
		if it, ok, err := c.Peek(nil, []byte(k)); string(it) != v || ok != (v != "") || err != nil {
			t.Fatal(k, string(it), ok, err)
		}
	}
	wantValue(t, c.Namespace("n"), "deep", "v") // its id stayed
	age(c, clock)
	// Of one tier alone.
	if gone, err := below.Evict(limited(t), 0, 100); err != nil || len(gone) > 4 || len(gone) < 2 {
		t.Fatal(gone, err)
	}
	wantValue(t, c, "b", "new")
	sound(t, c)
}

func TestInsertBatch_Full_TheRestIsLast(t *testing.T) {
	c, clock := clocked(t)
	s := create(t, c, "own", flagstone.Shape{Entries: 100, MaxKey: 16, MaxValue: 40, Shards: 1, OnFull: flagstone.Refuse})
	for i := range 1000 {
		must(t, c.Set(limited(t), fmt.Append(nil, i), []byte("v"), 0))
	}
	age(c, clock)
	pairs, err := c.EvictPairs(limited(t), 0, 1000)
	must(t, err)
	n, err := s.InsertBatch(limited(t), pairs)
	if mustFail(t, err, flagstone.ErrFull); n < 100 || n == len(pairs) {
		t.Fatal(n)
	}
	for i, p := range pairs {
		if _, ok, err := s.Get(nil, p.Key); ok != (i < n) || err != nil {
			t.Fatal(i, n, ok, err)
		}
	}
}

func TestMove_BetweenTiersAndSlabs_KeepsAll(t *testing.T) {
	c, clock := clocked(t)
	below, err := c.Grow(limited(t), "below", flagstone.Shape{})
	must(t, err)
	own := create(t, c, "own", flagstone.Shape{Entries: 2000, Shards: 1})
	top := first(t, c)
	n := c.Namespace("n")
	for i := range 300 {
		_, err := c.SetItem(limited(t), fmt.Append(nil, i), flagstone.Item{Value: fmt.Append(nil, "v", i), TTL: time.Hour, Tag: 3})
		must(t, err)
		must(t, n.Set(limited(t), fmt.Append(nil, i), fmt.Append(nil, "n", i), 0))
	}
	must(t, c.Namespace("cleared").Set(limited(t), []byte("k"), []byte("v"), 0))
	must(t, c.Namespace("cleared").Clear(limited(t)))
	age(c, clock)
	if moved, err := c.Move(limited(t), top, below, 0, 100); moved != 100 || err != nil {
		t.Fatal(moved, err)
	}
	for _, from := range []*flagstone.Slab{top, below} {
		if _, err := c.Move(limited(t), from, own, 0, math.MaxInt); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 300 {
		key := fmt.Append(nil, i)
		it, ok, err := own.GetItem(nil, key)
		if !ok || err != nil || string(it.Value) != fmt.Sprint("v", i) || it.Tag != 3 || it.TTL == 0 {
			t.Fatal(i, it, ok, err)
		}
		wantValue(t, own.Cache().Namespace("n"), string(key), fmt.Sprint("n", i))
		wantValue(t, c, string(key), "")
	}
	wantValue(t, own.Cache().Namespace("cleared"), "k", "")
	if l, err := own.Cache().Len(); l != 601 || err != nil {
		t.Fatal(l, err)
	}
	_, err = c.Move(limited(t), own, own, 0, 1)
	mustFail(t, err, flagstone.ErrOptions)
	sound(t, c)
	sound(t, own.Cache())
}

func TestMove_TargetFullOrSmaller_TheRestStays(t *testing.T) {
	c, clock := clocked(t)
	tight := create(t, c, "tight", flagstone.Shape{Entries: 100, MaxKey: 16, MaxValue: 40, Shards: 1, OnFull: flagstone.Refuse})
	for i := range 500 {
		must(t, c.Set(limited(t), fmt.Append(nil, i), []byte("v"), 0))
	}
	must(t, c.Set(limited(t), []byte("long"), bytes.Repeat([]byte("x"), 41), 0))
	age(c, clock)
	moved, err := c.Move(limited(t), first(t, c), tight, 0, math.MaxInt)
	if mustFail(t, err, flagstone.ErrFull, flagstone.ErrTooLarge); moved < 100 || moved > 400 {
		t.Fatal(moved)
	}
	in := 0
	for i := range 500 {
		_, here, err := c.Get(nil, fmt.Append(nil, i))
		must(t, err)
		_, there, err := tight.Get(nil, fmt.Append(nil, i))
		must(t, err)
		if here == there {
			t.Fatal(i, here, there)
		}
		if there {
			in++
		}
	}
	if in != moved {
		t.Fatal(in, moved)
	}
	wantValue(t, c, "long", strings.Repeat("x", 41))
}

// A key that stays is never missed by who looks where it comes from and then where it
// goes, whatever is set meanwhile.
func TestMove_BetweenSlabsUnderLoad_NeverMissed(t *testing.T) {
	c, clock := clocked(t)
	own := create(t, c, "own", flagstone.Shape{Entries: 4000, Shards: 2})
	const n = 400
	for i := range n {
		must(t, c.Set(limited(t), fmt.Append(nil, i), []byte("0"), 0))
	}
	var stop atomic.Bool
	var total atomic.Int64
	var group sync.WaitGroup
	group.Go(func() { // one way: those who set bring back
		for !stop.Load() {
			age(c, clock)
			moved, err := c.Move(limited(t), first0(c), own, 0, math.MaxInt)
			if err != nil {
				t.Error(err)
				return
			}
			total.Add(int64(moved))
		}
	})
	for w := range 2 {
		group.Go(func() {
			for i := w; !stop.Load(); i += 2 {
				if err := c.Set(limited(t), fmt.Append(nil, i*7%n), fmt.Append(nil, i), 0); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for pass := 0; pass < 40 || total.Load() < 10*n; pass++ {
		if t.Failed() {
			break
		}
		for i := range n {
			key := fmt.Append(nil, i)
			found := has(t, c, key) || has(t, own, key)
			// Between the two looks it may have been set in the first, and the copy in the
			// second been taken back.
			if !found && !has(t, c, key) && !has(t, own, key) {
				t.Errorf("pass %d: key %d is nowhere", pass, i)
				break
			}
		}
	}
	stop.Store(true)
	group.Wait()
	sound(t, c)
	sound(t, own.Cache())
}

// has looks without a use, and again where writers keep it from being sure.
func has(t testing.TB, in interface {
	Peek(dst, key []byte) ([]byte, bool, error)
}, key []byte,
) bool {
	t.Helper()
	for {
		_, ok, err := in.Peek(nil, key)
		if !errors.Is(err, flagstone.ErrBusy) {
			must(t, err)
			return ok
		}
	}
}

// What was set last, after the copy was made, is what stays; the copy goes.
func TestMove_SetMeanwhile_NewestStaysAndNoCopy(t *testing.T) {
	c, clock := clocked(t)
	own := create(t, c, "own", flagstone.Shape{Entries: 4000, Shards: 2})
	var stop atomic.Bool
	var group sync.WaitGroup
	group.Go(func() {
		for !stop.Load() {
			age(c, clock)
			if _, err := c.Move(limited(t), first0(c), own, 0, math.MaxInt); err != nil {
				t.Error(err)
				return
			}
		}
	})
	key := []byte("k")
	for i := range 3000 {
		must(t, c.Set(limited(t), key, fmt.Append(nil, i), 0))
		v, ok, err := c.Peek(nil, key)
		if must(t, err); !ok {
			v, ok, err = own.Peek(nil, key)
		}
		if err != nil || !ok || string(v) != fmt.Sprint(i) {
			t.Errorf("%d: %q %v %v", i, v, ok, err)
			break
		}
	}
	stop.Store(true)
	group.Wait()
}

// What changes in the source between the copy and its removal stays as it is there, and
// the copy goes; unless that is replaced too, or took the place of what the target had.
func TestMove_ChangedAfterTheCopy_TakenBack(t *testing.T) {
	for name, meanwhile := range map[string]struct {
		do                     func(c *flagstone.Cache) error
		left, replaces, copied string
	}{
		"set":                     {func(c *flagstone.Cache) error { return c.Set(ctx, []byte("k"), []byte("new"), 0) }, "new", "", ""},
		"set, the target had one": {func(c *flagstone.Cache) error { return c.Set(ctx, []byte("k"), []byte("new"), 0) }, "new", "theirs", "old"},
		"delete":                  {func(c *flagstone.Cache) error { _, err := c.Delete(ctx, []byte("k")); return err }, "", "", ""},
		"nothing":                 {func(*flagstone.Cache) error { return nil }, "", "theirs", "old"},
	} {
		t.Run(name, func(t *testing.T) {
			clock := &testClock{}
			clock.pass(1_000_000_000)
			o := options(t.TempDir())
			o.Clock = clock
			c, other := open(t, o), open(t, o)
			own := create(t, c, "own", shapeOfSlab)
			must(t, c.Set(limited(t), []byte("k"), []byte("old"), 0))
			if meanwhile.replaces != "" {
				must(t, own.Set(limited(t), []byte("k"), []byte(meanwhile.replaces), 0))
			}
			age(c, clock)
			theirs := openSlab(t, other, "own")
			_, err := theirs.LockWriters(limited(t))
			must(t, err)
			done := make(chan error, 1)
			go func() {
				_, err := c.Move(limited(t), first0(c), own, 0, 10)
				done <- err
			}()
			eventually(t, "the mover has its copies, and waits for the target", func() bool {
				st, err := own.Cache().Stats()
				must(t, err)
				return st.Own.LockWaits > 0
			})
			must(t, meanwhile.do(c))
			must(t, theirs.Unlock(true))
			must(t, <-done)
			wantValue(t, c, "k", meanwhile.left)
			wantValue(t, own, "k", meanwhile.copied)
		})
	}
}

// What was in a namespace before it was cleared does not come to light in the target,
// whenever it is cleared: before a batch, or between its copy and the removal.
func TestMove_NamespaceClearedMeanwhile_NothingOfItInTheTarget(t *testing.T) {
	for _, known := range []bool{false, true} { // whether the target's namespace has an id
		t.Run(fmt.Sprint("id ", known), func(t *testing.T) {
			clock := &testClock{}
			clock.pass(1_000_000_000)
			o := options(t.TempDir())
			o.Clock = clock
			c, other := open(t, o), open(t, o)
			own := create(t, c, "own", shapeOfSlab)
			from, to := c.Namespace("n"), own.Cache().Namespace("n")
			const n = 200 // several batches
			for i := range n {
				must(t, from.Set(limited(t), fmt.Append(nil, i), []byte("cleared"), 0))
			}
			must(t, c.Namespace("").Set(limited(t), []byte("k"), []byte("v"), 0))
			if known {
				must(t, to.Set(limited(t), []byte("theirs"), []byte("v"), 0))
				must(t, own.Cache().Namespace("").Set(limited(t), []byte("theirs"), []byte("v"), 0))
			}
			age(c, clock)
			theirs := openSlab(t, other, "own")
			_, err := theirs.LockWriters(limited(t))
			must(t, err)
			done := make(chan error, 1)
			go func() {
				_, err := c.Move(limited(t), first0(c), own, 0, math.MaxInt)
				done <- err
			}()
			eventually(t, "the mover waits for the target", func() bool {
				st, err := own.Cache().Stats()
				must(t, err)
				return st.Own.LockWaits > 0
			})
			must(t, from.Clear(limited(t)))
			must(t, from.Set(limited(t), []byte("0"), []byte("new"), 0))
			must(t, theirs.Unlock(true))
			must(t, <-done)
			for i := range n {
				wantValue(t, to, fmt.Sprint(i), "")
			}
			wantValue(t, from, "0", "new")
			wantValue(t, own.Cache().Namespace(""), "k", "v")
			if known {
				wantValue(t, to, "theirs", "v")
			}
		})
	}
}

func TestMove_MoverKilled_NothingIsLost(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	o.Precision = time.Millisecond
	c := open(t, o)
	own := create(t, c, "own", flagstone.Shape{Entries: 4000, Shards: 2, Precision: time.Millisecond})
	const n = 400
	for i := range n {
		must(t, c.Set(limited(t), fmt.Append(nil, i), fmt.Append(nil, i), 0))
	}
	for range 5 {
		child := opened(t, dir)
		child.expect("ok", "transfer", "own")
		for range 20 {
			_ = child.hear() // a round
		}
		child.kill()
		for i := range n {
			key := fmt.Append(nil, i)
			if !has(t, c, key) && !has(t, own, key) {
				t.Fatalf("key %d is nowhere", i)
			}
		}
		sound(t, c)
		sound(t, own.Cache())
	}
}

func TestDescriptor_TextThereAndBack_ExactlyThatSlab(t *testing.T) {
	o := options(t.TempDir())
	a, b := open(t, o), open(t, o)
	s := create(t, a, "a name/with % and \x01", shapeOfSlab)
	must(t, s.Set(limited(t), []byte("k"), []byte("v"), 0))
	text, err := s.Descriptor().MarshalText()
	must(t, err)
	var d flagstone.Descriptor
	must(t, d.UnmarshalText(text))
	if d != s.Descriptor() || bytes.ContainsAny(text, "\n ") {
		t.Fatal(d, string(text))
	}
	other, err := b.OpenDescriptor(limited(t), d)
	must(t, err)
	defer other.Close()
	wantValue(t, other, "k", "v")

	below, err := a.Grow(limited(t), "below", flagstone.Shape{})
	must(t, err)
	tier, err := b.OpenDescriptor(limited(t), below.Descriptor())
	if must(t, err); tier.Cache() != b || tier.Tier() != 1 || tier.ID() != below.ID() {
		t.Fatal(tier)
	}
	deep, err := s.Cache().Grow(limited(t), "deep", flagstone.Shape{})
	must(t, err)
	tier, err = b.OpenDescriptor(limited(t), deep.Descriptor())
	if must(t, err); tier.Cache() != other.Cache() || tier.Tier() != 1 {
		t.Fatal(tier)
	}
	must(t, tier.Close())

	wrong := d
	wrong.Size++
	_, err = b.OpenDescriptor(limited(t), wrong)
	mustFail(t, err, flagstone.ErrOptions)
	wrong = d
	wrong.Domain[0]++
	_, err = b.OpenDescriptor(limited(t), wrong)
	mustFail(t, err, flagstone.ErrForeign)
	must(t, s.Retire(limited(t)))
	_, err = b.OpenDescriptor(limited(t), d)
	mustFail(t, err, flagstone.ErrRetired)
	wrong = d
	wrong.Entry = 1 << 30
	_, err = b.OpenDescriptor(limited(t), wrong)
	mustFail(t, err, flagstone.ErrRetired)

	for field, bad := range map[string]string{
		"version":    "flagstone:2/" + string(text[12:]),
		"7":          string(text) + "/",
		"domain":     strings.Replace(string(text), "flagstone:1/", "flagstone:1/z", 1),
		"sum":        strings.Replace(string(text), "name", "nAme", 1),
		"length":     strings.Repeat("x", 513),
		"generation": "flagstone:1/00000000000000000000000000000000/0000000000000000/1/x/1/n/00000000",
		"name":       "flagstone:1/00000000000000000000000000000000/0000000000000000/1/1/1/%zz/00000000",
	} {
		err := d.UnmarshalText([]byte(bad))
		if mustFail(t, err, flagstone.ErrDescriptor); !strings.Contains(err.Error(), field) {
			t.Fatalf("%s: %v", field, err)
		}
	}
}
