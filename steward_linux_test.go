package flagstone_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/table"
)

func init() {
	others := obeyMore
	obeyMore = func(ctx context.Context, c **flagstone.Cache, dir, order string, arg []string) (string, error) {
		switch order {
		case "abandon": // begins to drain the last slab, and leaves it at that
			tiers, err := (*c).Tiers()
			if err != nil {
				return "", err
			}
			e, err := entryOf(*c, tiers[len(tiers)-1])
			if err == nil {
				_, err = (*c).Table().Drain(e)
			}
			return "ok", err
		}
		return others(ctx, c, dir, order, arg)
	}
}

// entryOf returns the directory entry of a slab.
func entryOf(c *flagstone.Cache, s *flagstone.Slab) (table.Entry, error) {
	for _, e := range c.Table().Entries() {
		if e.SegmentID == s.ID() {
			return e, nil
		}
	}
	return table.Entry{}, errors.New("no such slab")
}

// told are a handle's events, by kind.
type told map[flagstone.EventKind]chan flagstone.Event

// telling makes o's handle tell.
func telling(o *flagstone.Options) told {
	all := told{}
	for k := flagstone.EventStolen; k <= flagstone.EventSinkRefused; k++ {
		all[k] = make(chan flagstone.Event, 1000)
	}
	o.OnEvent = func(e flagstone.Event) {
		select {
		case all[e.Kind] <- e:
		default:
		}
	}
	return all
}

// wait returns the next event of the kind. Meanwhile, if it is set, is called again
// and again.
func (all told) wait(t *testing.T, kind flagstone.EventKind, meanwhile func()) (e flagstone.Event) {
	t.Helper()
	eventually(t, kind.String(), func() bool {
		select {
		case e = <-all[kind]:
			return true
		default:
		}
		if meanwhile != nil {
			meanwhile()
		}
		return false
	})
	return e
}

// small are the options of a cache of one shard, whose fill is easily told.
func narrow(t *testing.T) flagstone.Options {
	o := options(t.TempDir())
	o.Entries, o.Shards, o.MaxKey, o.MaxValue = 400, 1, 32, 100
	return o
}

// bystander is for handles that are not to be the steward.
func bystander(o flagstone.Options) flagstone.Options {
	o.Steward, o.OnEvent = flagstone.StewardOptions{Off: true}, nil
	return o
}

// fraction returns which part of the cells that may be in use are, in a cache of one shard.
func fraction(t *testing.T, c *flagstone.Cache) float64 {
	t.Helper()
	st, err := c.Stats()
	must(t, err)
	tiers, err := c.Tiers()
	must(t, err)
	return float64(st.Cells) / (float64(st.TotalCells) - float64(len(tiers))*float64(st.Geometry.Reserve))
}

func tiersOf(t *testing.T, c *flagstone.Cache) int {
	t.Helper()
	tiers, err := c.Tiers()
	must(t, err)
	return len(tiers)
}

func set(t *testing.T, c *flagstone.Cache, i int) {
	t.Helper()
	must(t, c.Set(limited(t), fmt.Append(nil, "key", i), fmt.Append(nil, "value", i), 0))
}

// fillTo sets keys from *n on until that part of the cells is in use.
func fillTo(t *testing.T, c *flagstone.Cache, n *int, part float64) {
	t.Helper()
	for ; fraction(t, c) < part; *n++ {
		set(t, c, *n)
	}
}

func TestSteward_Killed_AnotherTakesOver(t *testing.T) {
	dir := t.TempDir()
	watcher := open(t, bystander(options(dir)))
	byRegion := map[int]*child{}
	for range 3 { // all idle, but there to be the steward
		c := opened(t, dir)
		c.expect("ok", "lead")
		byRegion[c.region] = c
	}
	for range 2 {
		var now table.Holder
		eventually(t, "a steward", func() bool {
			h, ok := watcher.Table().Steward()
			now = h
			return ok && byRegion[h.Region] != nil
		})
		byRegion[now.Region].kill()
		delete(byRegion, now.Region)
	}
	eventually(t, "the last one", func() bool { h, ok := watcher.Table().Steward(); return ok && byRegion[h.Region] != nil })
}

// countingClock counts how often it is asked.
type countingClock struct {
	testClock
	asked atomic.Int64
}

func (c *countingClock) Monotonic() uint64 {
	c.asked.Add(1)
	return uint64(time.Now().UnixMilli())
}

func TestSteward_Idle_ResignsAndStopsTicking(t *testing.T) {
	o, clock := options(t.TempDir()), &countingClock{}
	o.Clock = clock
	events := telling(&o)
	c := open(t, o)
	for range 2 {
		set(t, c, 1)
		events.wait(t, flagstone.EventSteward, nil)
		if h, ok := c.Table().Steward(); !ok || h.Region != c.Table().Self() {
			t.Fatalf("%+v, %v", h, ok)
		}
		events.wait(t, flagstone.EventResigned, nil)
		if _, ok := c.Table().Steward(); ok {
			t.Fatal("steward still")
		}
		var before int64
		eventually(t, "the clock is not asked for", func() bool {
			before = clock.asked.Load()
			time.Sleep(600 * time.Millisecond) // some rounds of anything that ticks
			return clock.asked.Load() == before
		})
	}
}

func TestSteward_Lead_OffersUntilTheContextEnds(t *testing.T) {
	o := options(t.TempDir())
	o.Steward.Off = true
	c := open(t, o)
	set(t, c, 1)
	ctx, cancel := context.WithCancel(limited(t))
	ended := make(chan error, 1)
	go func() { ended <- c.Lead(ctx) }()
	eventually(t, "leads", func() bool { return c.Table().Leading() })
	cancel()
	must(t, <-ended)
	eventually(t, "has resigned", func() bool { return !c.Table().Leading() })
	go func() { ended <- c.Lead(limited(t)) }()
	eventually(t, "leads again", func() bool { return c.Table().Leading() })
	must(t, c.Close())
	mustFail(t, <-ended, flagstone.ErrClosed)
	mustFail(t, private(t, flagstone.Options{Entries: 10}).Lead(limited(t)), flagstone.ErrUnsupported)
}

func TestSteward_Lead_DomainDestroyed_Ends(t *testing.T) {
	o := options(t.TempDir())
	c := open(t, o)
	ended := make(chan error, 1)
	go func() { ended <- c.Lead(limited(t)) }()
	eventually(t, "leads", func() bool { return c.Table().Leading() })
	must(t, flagstone.Destroy(limited(t), o.Dir, name))
	mustFail(t, <-ended, flagstone.ErrDestroyed)
}

func TestSteward_DrainOfTheDead_FinishedIfThereIsRoom(t *testing.T) {
	o := narrow(t)
	events := telling(&o)
	other := open(t, bystander(o))
	cold := got[*flagstone.Slab](t)(other.Grow(limited(t), "cold", flagstone.Shape{}))
	n := 0
	fillTo(t, other, &n, 0.6) // the rest is below
	for i := range n * 3 / 4 {
		got[bool](t)(other.Delete(limited(t), fmt.Append(nil, "key", i)))
	}
	dead := opened(t, o.Dir)
	dead.expect("ok", "abandon")
	dead.kill()
	c := open(t, o)
	if e := events.wait(t, flagstone.EventDrained, nil); e.SlabID != cold.ID() || e.Err != nil {
		t.Fatalf("%+v", e)
	}
	for i := n * 3 / 4; i < n; i++ {
		mustGet(t, c, fmt.Sprint("key", i), fmt.Sprint("value", i))
	}
	slabFile(t, o.Dir) // is the only one
	sound(t, c)
}

func TestSteward_DrainOfTheDead_UndoneIfThereIsNoRoom(t *testing.T) {
	o := narrow(t)
	events := telling(&o)
	other := open(t, bystander(o))
	cold := got[*flagstone.Slab](t)(other.Grow(limited(t), "cold", flagstone.Shape{}))
	n := 0
	fillTo(t, other, &n, 0.8)
	dead := opened(t, o.Dir)
	dead.expect("ok", "abandon")
	dead.kill()
	c := open(t, o)
	e := events.wait(t, flagstone.EventDrainStopped, nil)
	mustFail(t, e.Err, flagstone.ErrFull)
	if entry := got[table.Entry](t)(entryOf(c, cold)); entry.State != table.StateOpen {
		t.Fatalf("%+v", entry)
	}
	for i := range n {
		mustGet(t, c, fmt.Sprint("key", i), fmt.Sprint("value", i))
	}
	sound(t, c)
}

// growing opens a cache whose steward adds slabs, and fills the first until there are so many.
func growing(t *testing.T, o flagstone.Options, tiers int) (c *flagstone.Cache, n int) {
	t.Helper()
	c = open(t, o)
	for have := 1; have < tiers; have++ {
		fillTo(t, c, &n, 0.9)
		eventually(t, "a slab is added", func() bool {
			mustGet(t, c, fmt.Sprint("key", n-1), fmt.Sprint("value", n-1))
			return tiersOf(t, c) > have
		})
	}
	return c, n
}

func TestSteward_RecordsYoung_GrowsWithinTheBudgetAndLosesNothing(t *testing.T) {
	o := narrow(t)
	first := open(t, bystander(o)).Stats
	st := got[flagstone.Stats](t)(first())
	o.Steward = flagstone.StewardOptions{KeepFor: time.Hour, Budget: st.FileSize * 5 / 2}
	events := telling(&o)
	c, n := growing(t, o, 4) // two like the first, and half of one
	fillTo(t, c, &n, 0.9)
	e := events.wait(t, flagstone.EventNotGrown, func() { mustGet(t, c, "key1", "value1") })
	mustFail(t, e.Err, flagstone.ErrBudget)
	var below uint64
	for _, e := range c.Table().Entries() {
		if e.Tier > 0 {
			below += e.Size
		}
	}
	if n := tiersOf(t, c); n != 4 || below > o.Steward.Budget {
		t.Fatalf("%d slabs, %d bytes below the first one", n, below)
	}
	for i := range n {
		mustGet(t, c, fmt.Sprint("key", i), fmt.Sprint("value", i))
	}
	if st = got[flagstone.Stats](t)(c.Stats()); st.EvictedFull != 0 {
		t.Fatalf("%+v", st.Stats)
	}
	_, err := c.Grow(limited(t), "more", flagstone.Shape{})
	mustFail(t, err, flagstone.ErrBudget)
	sound(t, c)
}

func TestSteward_RestHasRoom_LastSlabGoesAndNothingIsMissed(t *testing.T) {
	o, clock := narrow(t), &testClock{}
	clock.pass(1_000_000)
	o.Clock, o.Steward.KeepFor, o.Steward.Budget = clock, time.Hour, 1<<20
	events := telling(&o)
	c, n := growing(t, o, 2)
	fillTo(t, c, &n, 0.7)
	for i := range n * 3 / 4 {
		got[bool](t)(c.Delete(limited(t), fmt.Append(nil, "key", i)))
	}
	i := 0
	e := events.wait(t, flagstone.EventDrained, func() {
		clock.pass(10)
		k := n*3/4 + i%(n/4)
		mustGet(t, c, fmt.Sprint("key", k), fmt.Sprint("value", k))
		i++
		time.Sleep(100 * time.Microsecond)
	})
	if e.Tier != 1 || tiersOf(t, c) != 1 {
		t.Fatalf("%+v", e)
	}
	for i := n * 3 / 4; i < n; i++ {
		mustGet(t, c, fmt.Sprint("key", i), fmt.Sprint("value", i))
	}
	slabFile(t, o.Dir)
	if st := got[flagstone.Stats](t)(c.Stats()); st.EvictedFull != 0 {
		t.Fatalf("%+v", st.Stats)
	}
	sound(t, c)
}

// Nobody asks for what is in the last slab. What has no room elsewhere, and was unused for
// the minimum age, goes with it; what was used stays.
func TestSteward_NobodyAsks_LastSlabGoesWithTheOldest(t *testing.T) {
	o, clock := narrow(t), &testClock{}
	clock.pass(1_000_000)
	o.Clock, o.Steward.KeepFor, o.Steward.Budget = clock, time.Minute, 1<<20
	events := telling(&o)
	c, n := growing(t, o, 2)
	fillTo(t, c, &n, 0.85)
	recent := n - 100
	e := events.wait(t, flagstone.EventDrained, func() {
		clock.pass(50)
		for i := recent; i < n; i++ {
			mustGet(t, c, fmt.Sprint("key", i), fmt.Sprint("value", i))
		}
	})
	if e.Tier != 1 {
		t.Fatalf("%+v", e)
	}
	st := got[flagstone.Stats](t)(c.Stats())
	if st.Records == 0 || st.Records >= uint64(n) {
		t.Fatalf("%d of %d records", st.Records, n)
	}
	sound(t, c)
}

// With a sink nothing is given up without asking it.
func TestSteward_DrainWithoutRoom_SinkGetsWhatIsGivenUp(t *testing.T) {
	o, clock := narrow(t), &testClock{}
	clock.pass(1_000_000)
	var mu sync.Mutex // guards taken
	taken := map[string]bool{}
	o.Clock, o.Steward.KeepFor, o.Steward.Budget = clock, time.Minute, 1<<20
	o.Steward.Sink = &sinkFunc{t: t, take: func(_ context.Context, items []flagstone.SinkItem) error {
		mu.Lock()
		defer mu.Unlock()
		for _, it := range items {
			taken[string(it.Key)] = true
		}
		return nil
	}}
	events := telling(&o)
	c, n := growing(t, o, 2)
	fillTo(t, c, &n, 0.85)
	events.wait(t, flagstone.EventDrained, func() {
		clock.pass(50)
		mustGet(t, c, fmt.Sprint("key", n-1), fmt.Sprint("value", n-1))
	})
	mu.Lock()
	defer mu.Unlock()
	for i := range n {
		k := fmt.Sprint("key", i)
		if _, ok, err := c.Peek(nil, []byte(k)); !ok && !taken[k] || err != nil {
			t.Fatal(k, ok, err)
		}
	}
	if st := got[flagstone.Stats](t)(c.Stats()); st.EvictedFull != 0 || len(taken) == 0 {
		t.Fatalf("%d taken, %+v", len(taken), st.Stats)
	}
	sound(t, c)
}

func TestSteward_TwoSeeOneNeed_OneSlab(t *testing.T) {
	o := narrow(t)
	a, b := open(t, o), open(t, o)
	last := got[[]*flagstone.Slab](t)(a.Tiers())[0].ID()
	errs := make(chan error, 2)
	for _, c := range []*flagstone.Cache{a, b} {
		go func() { _, err := c.GrowBelow(limited(t), last); errs <- err }()
	}
	one, two := <-errs, <-errs
	if (one == nil) == (two == nil) || !errors.Is(errors.Join(one, two), flagstone.ErrState) {
		t.Fatal(one, two)
	}
	if n := tiersOf(t, a); n != 2 {
		t.Fatal(n)
	}
}

// everyKind runs a test on a cache that is shared and one that is private.
func everyKind(t *testing.T, test func(*testing.T, flagstone.Options)) {
	t.Run("shared", func(t *testing.T) { test(t, narrow(t)) })
	t.Run("private", func(t *testing.T) {
		o := narrow(t)
		o.Private = true
		test(t, o)
	})
}

func TestSteward_Expired_GoALittleAtATime(t *testing.T) {
	everyKind(t, func(t *testing.T, o flagstone.Options) {
		clock := &testClock{}
		clock.pass(1_000_000)
		o.Clock = clock
		c := open(t, o)
		for i := range 300 {
			it := flagstone.Item{Value: []byte("v"), TTL: time.Minute}
			switch i % 3 {
			case 1:
				it.TTL = 0
			case 2:
				it.StaleFor = time.Hour
			}
			_, err := c.SetItem(limited(t), fmt.Append(nil, i), it)
			must(t, err)
		}
		after := func(ms uint64, records uint64) {
			t.Helper()
			clock.pass(ms)
			eventually(t, "expired records go", func() bool {
				mustGet(t, c, "1", "v")
				return got[flagstone.Stats](t)(c.Stats()).Records == records
			})
		}
		after(60_000, 200)
		after(uint64(hour), 100)
		if st := got[flagstone.Stats](t)(c.Stats()); st.Expired != 200 {
			t.Fatalf("%+v", st.Stats)
		}
		sound(t, c)
	})
}

func TestSteward_Schedule_EvictsWhatWasUnusedForSoLong(t *testing.T) {
	everyKind(t, func(t *testing.T, o flagstone.Options) {
		clock := &testClock{}
		clock.pass(1_000_000)
		o.Clock, o.Steward.EvictIdle = clock, time.Minute
		events := telling(&o)
		c := open(t, o)
		for i := range 100 {
			set(t, c, i)
		}
		use := func() {
			for i := range 30 {
				mustGet(t, c, fmt.Sprint("key", i), fmt.Sprint("value", i))
			}
		}
		gone := 0
		for gone < 70 {
			gone += events.wait(t, flagstone.EventEvicted, func() { clock.pass(20); use() }).Count
		}
		if gone != 70 {
			t.Fatalf("%d", gone)
		}
		use()
		if st := got[flagstone.Stats](t)(c.Stats()); st.Records != 30 || st.EvictedCutoff != 70 {
			t.Fatalf("%+v", st.Stats)
		}
		sound(t, c)
	})
}

// sinkFunc is a Sink, and sees to it that there is one call at a time.
type sinkFunc struct {
	inside sync.Mutex
	t      *testing.T
	take   func(ctx context.Context, items []flagstone.SinkItem) error
}

func (s *sinkFunc) Take(ctx context.Context, items []flagstone.SinkItem) error {
	if !s.inside.TryLock() {
		s.t.Error("two calls at once")
	}
	defer s.inside.Unlock()
	return s.take(ctx, items)
}

func TestSink_ErrorKeeps_NilTakesWhatWasNotUsedMeanwhile(t *testing.T) {
	everyKind(t, func(t *testing.T, o flagstone.Options) {
		clock := &testClock{}
		clock.pass(1_000_000)
		offers, answers := make(chan []flagstone.SinkItem), make(chan error)
		o.Clock, o.OnFull = clock, flagstone.Refuse
		o.Steward.Sink = &sinkFunc{t: t, take: func(ctx context.Context, items []flagstone.SinkItem) error {
			select {
			case offers <- items:
				return <-answers
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		events := telling(&o)
		c := open(t, o)
		n := 0
		for ; fraction(t, c) < 0.95; n++ {
			must(t, c.Set(limited(t), fmt.Append(nil, "key", n), fmt.Append(nil, "value", n), time.Hour))
			clock.pass(10)
		}
		offer := func() (items []flagstone.SinkItem) {
			eventually(t, "an offer", func() bool {
				mustGet(t, c, fmt.Sprint("key", n-1), fmt.Sprint("value", n-1)) // awake
				select {
				case items = <-offers:
				default:
				}
				return items != nil
			})
			return items
		}
		all := func() {
			t.Helper()
			for i := range n {
				if _, ok, err := c.Peek(nil, fmt.Append(nil, "key", i)); !ok || err != nil {
					t.Fatal(i, ok, err)
				}
			}
		}
		boom := errors.New("boom")
		items := offer()
		for i, it := range items {
			if string(it.Key) != fmt.Sprint("key", i) || string(it.Value) != fmt.Sprint("value", i) ||
				it.TTL <= 0 || it.TTL > time.Hour || it.Idle <= 0 || it.Hash != c.HashOf(it.Key) {
				t.Fatalf("%d: %+v", i, it)
			}
		}
		answers <- boom
		mustFail(t, events.wait(t, flagstone.EventSinkRefused, nil).Err, boom)
		all()
		items = offer()
		clock.pass(10_000)
		c.Peek(nil, []byte("key2"))
		mustGet(t, c, "key0", "value0")
		must(t, c.Set(limited(t), []byte("key1"), []byte("new"), 0))
		answers <- nil
		var st flagstone.Stats
		eventually(t, "all but the two are gone", func() bool { // one by one
			st = got[flagstone.Stats](t)(c.Stats())
			return st.Records <= uint64(n-len(items)+2)
		})
		mustGet(t, c, "key0", "value0")
		mustGet(t, c, "key1", "new")
		mustMiss(t, c, "key2")
		if st.Records != uint64(n-len(items)+2) || fraction(t, c) >= 7.0/8 || st.EvictedFull != 0 || st.MovedOut != uint64(len(items)-2) {
			t.Fatalf("%d offered of %d: %+v", len(items), n, st.Stats)
		}
		sound(t, c)
	})
}

// A sink that takes its time holds up neither setters nor the steward's other work.
func TestSink_Slow_OthersGoOnAndCloseDoesNotHang(t *testing.T) {
	o, clock := narrow(t), &testClock{}
	clock.pass(1_000_000)
	inside := make(chan int, 100)
	o.Clock = clock
	o.Steward.Sink = &sinkFunc{t: t, take: func(ctx context.Context, items []flagstone.SinkItem) error {
		inside <- len(items)
		<-ctx.Done()
		return nil
	}}
	c := open(t, o)
	n := 0
	fillTo(t, c, &n, 0.95)
	if items := <-inside; items == 0 || items > 256 {
		t.Fatal(items)
	}
	for i := range 2 * n { // evicts, without asking
		set(t, c, i)
	}
	must(t, c.Set(limited(t), []byte("short"), nil, time.Second))
	clock.pass(2000)
	eventually(t, "expired records go meanwhile", func() bool {
		_, _, err := c.Get(nil, []byte("short")) // awake
		must(t, err)
		st := got[flagstone.Stats](t)(c.Stats())
		return st.Expired == 1
	})
	if len(inside) != 0 {
		t.Fatal("another offer")
	}
	must(t, c.Close())
}

func TestSteward_Options_Refused(t *testing.T) {
	for _, s := range []flagstone.StewardOptions{
		{KeepFor: -1}, {EvictIdle: -1}, {EvictEvery: time.Second}, {EvictIdle: 1, EvictEvery: -1}, {ShrinkBelow: -1},
	} {
		o := narrow(t)
		o.Steward = s
		_, err := flagstone.Open(limited(t), name, o)
		mustFail(t, err, flagstone.ErrOptions)
	}
}

// Open offers a steward by default, which has no duties of its own: it makes way for one
// that has some, and takes over again when that one is gone.
func TestSteward_OneWithDuties_GoesBeforeOneWithout(t *testing.T) {
	o := options(t.TempDir())
	plain := open(t, o)
	stop := make(chan struct{})
	defer close(stop)
	use := func(c *flagstone.Cache) {
		for {
			select {
			case <-stop:
				return
			default:
				_, _, _ = c.Get(nil, []byte("key"))
				time.Sleep(time.Millisecond)
			}
		}
	}
	go use(plain)
	leads := func(c *flagstone.Cache) func() bool {
		return func() bool { h, ok := plain.Table().Steward(); return ok && h.Region == c.Table().Self() }
	}
	eventually(t, "the first one leads", leads(plain))
	o.Steward.EvictIdle = time.Hour
	minded := open(t, o)
	used := make(chan struct{})
	go func() { defer close(used); use(minded) }()
	eventually(t, "the one with duties leads", leads(minded))
	must(t, minded.Close())
	eventually(t, "the first one leads again", leads(plain))
}
