package flagstone_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

func init() {
	next := obeyMore
	obeyMore = func(ctx context.Context, c **flagstone.Cache, dir, order string, arg []string) (string, error) {
		if answer, err := obeyTiers(ctx, c, dir, order, arg); err != errUnknown {
			return answer, err
		}
		return next(ctx, c, dir, order, arg)
	}
}

var errUnknown = fmt.Errorf("unknown order")

// news are the events about slabs that this child was told.
var news = make(chan flagstone.Event, 1000)

// obeyTiers are the orders for children that share slabs which come and go.
func obeyTiers(ctx context.Context, c **flagstone.Cache, dir, order string, arg []string) (answer string, err error) {
	n, _ := strconv.Atoi(arg[1])
	switch order {
	case "join": // MODE: signal, futex or poll; nothing but that wakes it, as long as it is idle
		o := small(dir)
		modes := map[string]signal.Mode{"signal": signal.ModeSignal, "futex": signal.ModeFutex, "poll": signal.ModePoll}
		o.Wake.Mode, o.NoPromotion = modes[arg[0]], true
		o.OnEvent = func(e flagstone.Event) {
			if e.Kind >= flagstone.EventSlabAdded {
				news <- e
			}
		}
		if *c, err = flagstone.Open(ctx, name, o); err != nil {
			return "", err
		}
		return strconv.Itoa((*c).Table().Self()), nil
	case "heard": // says the next event
		return heard(<-news), nil
	case "hits": // KEY: looks it up until there is an event, and says that
		for {
			if _, ok, err := (*c).Get(nil, []byte(arg[0])); !ok || err != nil {
				return fmt.Sprint("not there: ", ok), err
			}
			select {
			case e := <-news:
				return heard(e), nil
			default:
				runtime.Gosched()
			}
		}
	case "all": // PREFIX N: wants the n keys and no others
		for i := range n {
			k := fmt.Sprint(arg[0], i)
			if v, ok, err := (*c).Get(nil, []byte(k)); string(v) != k || !ok || err != nil {
				return fmt.Sprint(k, " is ", string(v), " ", ok), err
			}
		}
		seen := 0
		for r, err := range (*c).All(ctx) {
			if err != nil || string(r.Value) != string(r.Key) {
				return fmt.Sprintf("%+v", r), err
			}
			seen++
		}
		return fmt.Sprint(seen), nil
	case "maps":
		return fmt.Sprint(mappedSlabs(nil)), nil
	case "grow":
		s, err := (*c).Grow(ctx, arg[0], flagstone.Shape{Entries: uint64(n)})
		if err != nil {
			return "", err
		}
		return fmt.Sprint(s.Tier()), nil
	case "drain": // NAME
		moved, err := tierNamed(*c, arg[0]).Drain(ctx)
		return fmt.Sprint(moved), err
	case "make": // NAME STEP: goes as far with a new slab as it says, and stays there
		return "", (*c).Table().Exclusive(ctx, func() error { return makeHalf(*c, arg[0], arg[1]) })
	case "limit": // nofile or as: leaves room for nothing large; "none": all that is allowed
		return "ok", limit(arg[0])
	case "live": // SEED SLOT: see tiers_stress_linux_test.go
		return "done", live(dir, arg[0], arg[1])
	}
	return "", errUnknown
}

// told puts an event about a slab into words.
func heard(e flagstone.Event) string {
	return strings.ReplaceAll(fmt.Sprint(e.Kind, " ", e.Slab, " ", e.Tier, " ", e.How, " ", e.Err), "\n", "; ")
}

func tierNamed(c *flagstone.Cache, name string) *flagstone.Slab {
	tiers, _ := c.Tiers()
	for _, s := range tiers {
		if s.Name() == name {
			return s
		}
	}
	panic("no slab " + name)
}

// spec is what Grow asks the table for.
func spec(c *flagstone.Cache, name string, g slab.Geometry) table.Spec {
	tiers, err := c.Tiers()
	if err != nil {
		panic(err)
	}
	return table.Spec{
		Kind: table.KindSlab, Stack: tiers[0].ID(), Tier: uint32(tiers[len(tiers)-1].Tier() + 1), Name: name, Size: g.FileSize(),
		Params: [4]uint64{uint64(g.Shards), uint64(g.Cells), uint64(g.CellSize), g.Capacity},
	}
}

// makeHalf makes a slab step by step as Grow does, and dies after one of them.
func makeHalf(c *flagstone.Cache, name, step string) error {
	g, err := slab.Plan(slab.Options{Entries: 100, MaxValue: 1000, Shards: shards})
	if err != nil {
		return err
	}
	r, err := c.Table().Reserve(spec(c, name, g))
	if err != nil {
		return err
	}
	if step != "reserved" {
		seg, err := r.Create()
		if err != nil {
			return err
		}
		id := slab.Identity{SegmentID: r.Entry().SegmentID, Domain: c.Table().UUID(), HashSeed: c.Seed()}
		if step != "created" {
			if err := slab.Format(seg, g, id, c.Table().Wall()); err != nil {
				return err
			}
		}
		if step == "published" {
			if _, err := r.Publish(); err != nil {
				return err
			}
		}
	}
	fmt.Println(r.Entry().SegmentID)
	select {}
}

// mappedSlabs counts the slabs that this process, or another one, has mapped.
func mappedSlabs(c *child) (n int) {
	path := "/proc/self/maps"
	if c != nil {
		path = fmt.Sprintf("/proc/%d/maps", c.cmd.Process.Pid)
	}
	f, err := os.Open(path)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.Contains(lines.Text(), "/slab-") {
			n++
		}
	}
	return n
}

func limit(what string) error {
	var was unix.Rlimit
	for _, resource := range []int{unix.RLIMIT_NOFILE, unix.RLIMIT_AS} {
		if err := unix.Getrlimit(resource, &was); err != nil {
			return err
		}
		now := was.Max
		switch {
		case what == "nofile" && resource == unix.RLIMIT_NOFILE:
			free, err := unix.Open("/", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			unix.Close(free)
			now = uint64(free)
		case what == "as" && resource == unix.RLIMIT_AS:
			text, err := os.ReadFile("/proc/self/statm")
			if err != nil {
				return err
			}
			pages, err := strconv.ParseUint(strings.Fields(string(text))[0], 10, 64)
			if err != nil {
				return err
			}
			now = pages*uint64(os.Getpagesize()) + hugeSlab/2
		}
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: now, Max: was.Max}); err != nil {
			return err
		}
	}
	return nil
}

// hugeSlab is larger than what Go's own memory may need meanwhile.
const hugeSlab = 256 << 20

// join starts a child that is woken in that way.
func join(t *testing.T, dir, mode string) *child {
	t.Helper()
	c := start(t, dir)
	var err error
	answer := c.ask("join", mode)
	if c.region, err = strconv.Atoi(answer); err != nil {
		t.Fatal(answer)
	}
	return c
}

// slabFiles returns the domain's slab files.
func slabFiles(t testing.TB, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, name+".flagstone", "v*", "slab-*"))
	must(t, err)
	return found
}

func fileOf(t testing.TB, dir string, segment uint64) string {
	t.Helper()
	for _, f := range slabFiles(t, dir) {
		if strings.HasSuffix(f, fmt.Sprintf("%016x", segment)) {
			return f
		}
	}
	t.Fatalf("no file of segment %016x", segment)
	return ""
}

// fill sets n keys, each its own value, and moves them into one tier.
func fill(t testing.TB, c *flagstone.Cache, prefix string, n, tier int) {
	t.Helper()
	for i := range n {
		k := fmt.Append(nil, prefix, i)
		must(t, c.Set(limited(t), k, k, 0))
	}
	sink(t, c, tier)
}

func TestAttach_EachWay_SaysHowItHeard(t *testing.T) {
	for _, how := range []string{"signal", "futex", "poll", "miss", "write"} {
		t.Run(how, func(t *testing.T) {
			for try := 1; ; try++ { // a miss may come later than the first tick after a pause
				dir := t.TempDir()
				cache := open(t, small(dir))
				must(t, cache.Set(limited(t), []byte("above"), []byte("v"), 0))
				mode := map[string]string{"signal": "signal", "futex": "futex"}[how]
				if mode == "" {
					mode = "poll"
				}
				c := join(t, dir, mode)
				if how == "poll" {
					c.tell("hits", "above")
				}
				s := growMore(t, cache, 1, 100)[0]
				switch how {
				case "signal", "futex":
					c.tell("heard")
				case "miss":
					c.expect("false ", "get", "missing")
					c.tell("heard")
				case "write":
					c.expect("ok", "set", "key", "value")
					c.tell("heard")
				}
				heard := c.hear()
				if heard == "slab added below1 1 poll <nil>" && how != "poll" && try < 10 && (how == "miss" || how == "write") {
					continue
				}
				if heard != fmt.Sprint("slab added below1 1 ", how, " <nil>") {
					t.Fatal(heard)
				}
				if n := mappedSlabs(c); n != 2 {
					t.Fatalf("%d slabs mapped", n)
				}
				must(t, drained(t, s))
				if how == "poll" {
					c.tell("hits", "above")
				} else {
					if how == "miss" || how == "write" {
						c.expect("false ", "get", "missing")
					}
					c.tell("heard")
				}
				if heard = c.hear(); !strings.HasPrefix(heard, "slab gone below1 1 ") {
					t.Fatal(heard)
				}
				eventually(t, "unmapped", func() bool { return mappedSlabs(c) == 1 })
				return
			}
		})
	}
}

// Blocks and mappings go though one process is stopped, which answers right when it
// goes on.
func TestDrain_OneProcessStopped_MemoryGivenBackByAll(t *testing.T) {
	const n = 500
	dir := t.TempDir()
	cache := open(t, small(dir))
	awake := []*child{join(t, dir, "signal"), join(t, dir, "futex")}
	stopped := join(t, dir, "futex")
	s := growMore(t, cache, 1, n*2)[0]
	fill(t, cache, "k", n, 1)
	for _, c := range append(awake, stopped) {
		c.expect(fmt.Sprint(n), "all", "k", n)
		c.expect("2", "maps")
	}
	f, err := os.Open(fileOf(t, dir, s.ID()))
	must(t, err)
	defer f.Close()
	blocks := func() int64 {
		var st unix.Stat_t
		must(t, unix.Fstat(int(f.Fd()), &st))
		return st.Blocks
	}
	before := blocks()
	stopped.stop()
	moved, err := s.Drain(limited(t))
	if must(t, err); moved != n {
		t.Fatalf("%d moved", moved)
	}
	if after := blocks(); after*100 > before {
		t.Fatalf("%d blocks of %d are still there", after, before)
	}
	slabFile(t, dir) // is the only one
	for _, c := range awake {
		eventually(t, "unmapped", func() bool { return mappedSlabs(c) == 1 })
		c.expect(fmt.Sprint(n), "all", "k", n)
	}
	eventually(t, "unmapped here", func() bool { return mappedSlabs(nil) == 1 })
	if e := cache.Table().Entries(); len(e) != 2 || e[1].State != table.StateRetired {
		t.Fatalf("%+v", e)
	}
	// Another slab takes another entry while a living process may have the old one.
	next := growMore(t, cache, 1, n*2)[0]
	sink(t, cache, 1)
	if e := cache.Table().Entries(); len(e) != 3 || e[2].SegmentID != next.ID() {
		t.Fatalf("%+v", e)
	}
	stopped.resume()
	stopped.expect(fmt.Sprint(n), "all", "k", n)
	eventually(t, "old unmapped", func() bool { return mappedSlabs(stopped) == 2 })
	eventually(t, "the entry is free", func() bool { return len(cache.Table().Entries()) == 2 })
	sound(t, cache)
}

// A process that never attached the old slab, and does not keep the entry, meets
// another slab there.
func TestDrain_EntryRecycledMeanwhile_StoppedProcessAnswersRight(t *testing.T) {
	const n = 300
	for _, idle := range []bool{true, false} {
		dir := t.TempDir()
		cache := open(t, small(dir))
		slow := join(t, dir, "futex")
		if !idle { // while a slab is in use that it has
			old := growMore(t, cache, 1, n*2)[0]
			fill(t, cache, "k", n, 1)
			slow.expect(fmt.Sprint(n), "all", "k", n)
			must(t, drained(t, old))
			slow.expect(fmt.Sprint(n), "all", "k", n)
			eventually(t, "unmapped", func() bool { return mappedSlabs(slow) == 1 && len(cache.Table().Entries()) == 1 })
		}
		slow.stop()
		first := growMore(t, cache, 1, n*2)[0]
		fill(t, cache, "k", n, 1)
		was := cache.Table().Entries()[1]
		must(t, drained(t, first))
		eventually(t, "the entry is free", func() bool { return len(cache.Table().Entries()) == 1 })
		growMore(t, cache, 1, n*2)
		sink(t, cache, 1)
		if is := cache.Table().Entries()[1]; is.Index != was.Index || is.Generation == was.Generation || is.SegmentID == was.SegmentID {
			t.Fatalf("%+v, was %+v", is, was)
		}
		slow.resume()
		slow.expect(fmt.Sprint(n), "all", "k", n)
		slow.expect("ok", "set", "k0", "k0")
		slow.expect(fmt.Sprint(n), "all", "k", n)
		sound(t, cache)
	}
}

// Whoever dies while it adds a slab leaves nothing, or a slab.
func TestGrow_KilledAtEachStep_TakenBackOrOpened(t *testing.T) {
	for _, step := range []string{"reserved", "created", "formatted", "published"} {
		dir := t.TempDir()
		cache := open(t, small(dir))
		fill(t, cache, "k", 100, 0)
		c := join(t, dir, "futex")
		c.tell("make", "half", step)
		id, err := strconv.ParseUint(c.hear(), 10, 64)
		must(t, err)
		_, err = cache.Grow(brief(t), "other", flagstone.Shape{})
		mustFail(t, err, flagstone.ErrBusy)
		for i := range 100 {
			mustGet(t, cache, fmt.Sprint("k", i), fmt.Sprint("k", i))
		}
		c.kill()
		if step == "published" {
			tiers, err := cache.Tiers()
			if must(t, err); len(tiers) != 2 || tiers[1].ID() != id {
				t.Fatal(tiers)
			}
			sink(t, cache, 1)
			must(t, drained(t, tiers[1]))
		}
		growMore(t, cache, 1, 500)
		sink(t, cache, 1)
		eventually(t, "taken back", func() bool {
			_, err := cache.Table().Reap()
			must(t, err)
			return len(cache.Table().Entries()) == 2
		})
		if files := slabFiles(t, dir); len(files) != 2 {
			t.Fatal(files)
		}
		for i := range 100 {
			mustGet(t, cache, fmt.Sprint("k", i), fmt.Sprint("k", i))
		}
		sound(t, cache)
	}
}

// Between ACTIVE and OPEN a slab takes no records; who cleans up after the dead opens it.
func TestGrow_KilledBeforeOpen_TakesNothingUntilItIsOpened(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, small(dir))
	c := join(t, dir, "futex")
	c.expect("1", "grow", "half", 500)
	fill(t, cache, "k", 100, 0)
	e := cache.Table().Entries()[1]
	state := cache.StateWord(e)
	if !state.CompareAndSwap(e.OpenWord(), e.OpenWord()-uint64(table.StateOpen)+uint64(table.StateActive)) {
		t.Fatalf("%#x", state.Load())
	}
	_, err := cache.Shift(limited(t), 0, 1, 10)
	mustFail(t, err, flagstone.ErrFull)
	c.kill()
	eventually(t, "opened", func() bool {
		_, err := cache.Table().Reap()
		must(t, err)
		return e.Open(state.Load())
	})
	sink(t, cache, 1)
	c = join(t, dir, "futex")
	c.expect("100", "all", "k", 100)
	sound(t, cache)
}

// A drainer that died is no loss: another one goes on, or opens the slab again.
func TestDrain_DrainerKilled_GoneOnWithOrReopened(t *testing.T) {
	const n = 3000
	dir := t.TempDir()
	o := small(dir)
	o.Entries = 2 * n
	cache := open(t, o)
	for round := range 6 {
		s := growMore(t, cache, 1, 2*n)[0]
		fill(t, cache, "k", n, 1)
		c := join(t, dir, "futex")
		e := cache.Table().Entries()
		c.tell("drain", "below1")
		eventually(t, "under way", func() bool {
			st, err := cache.Stats()
			must(t, err)
			return st.MovedOut > uint64(round*n/8) || len(cache.Table().Entries()) < len(e)
		})
		c.kill()
		mustGet(t, cache, "k0", "k0")
		now := cache.Table().Entries()
		for _, e := range now {
			if e.SegmentID == s.ID() && e.State == table.StateDraining && round%2 == 0 {
				_, err := cache.Table().Reopen(e)
				must(t, err)
				sink(t, cache, 1)
			}
		}
		if _, err := s.Drain(limited(t)); err != nil {
			mustFail(t, err, flagstone.ErrRetired)
		}
		for i := range n {
			mustGet(t, cache, fmt.Sprint("k", i), fmt.Sprint("k", i))
		}
		slabFile(t, dir)
		sound(t, cache)
		eventually(t, "the entry is free", func() bool {
			_, err := cache.Table().Reap()
			must(t, err)
			return len(cache.Table().Entries()) == 1
		})
	}
}

// A process that may not open more files, or map more memory, finds what is above,
// and says that it cannot know the rest, until it may.
func TestAttach_LimitsReached_ErrUnattachedUntilLifted(t *testing.T) {
	for what, cause := range map[string]string{"nofile": "too many open files", "as": "cannot allocate memory"} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			cache := open(t, small(dir))
			c := join(t, dir, "futex")
			c.expect("ok", "limit", what)
			shape := flagstone.Shape{Entries: 100}
			if what == "as" {
				shape = flagstone.Shape{Size: hugeSlab}
			}
			_, err := cache.Grow(limited(t), "below", shape)
			must(t, err)
			must(t, cache.Set(limited(t), []byte("below"), []byte("below"), 0))
			sink(t, cache, 1)
			must(t, cache.Set(limited(t), []byte("above"), []byte("above"), 0))
			heard := c.ask("heard")
			if !strings.HasPrefix(heard, "unattached") || !strings.Contains(heard, cause) {
				t.Fatal(heard)
			}
			for range 20 {
				c.expect("true above", "get", "above")
				for _, order := range [][]any{{"get", "below"}, {"get", "missing"}, {"set", "below", "x"}, {"set", "above", "x"}, {"increment", "n", 1}, {"delete", "above"}} {
					answer := c.ask(order[0].(string), order[1:]...)
					if !strings.Contains(answer, flagstone.ErrUnattached.Error()) || !strings.Contains(answer, cause) {
						t.Fatal(order, answer)
					}
				}
			}
			c.expect("ok", "limit", "none")
			c.expect("true below", "get", "below")
			c.expect("true above", "get", "above")
			c.expect("false ", "get", "missing")
			c.expect("ok", "set", "below", "new")
			mustGet(t, cache, "below", "new")
			c.expect("true", "delete", "above")
			sound(t, cache)
		})
	}
}
