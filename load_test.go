package flagstone_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
)

type (
	item   = flagstone.Item
	loader = flagstone.Loader
)

// got returns a result for which there is to be no error.
func got[T any](t tb) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// gives is a load of that value.
func gives(v string) loader {
	return func(context.Context) (item, error) { return item{Value: []byte(v)}, nil }
}

// noLoad is a load that must not happen.
func noLoad(t testing.TB) loader {
	return func(context.Context) (item, error) {
		err := errors.New("a load that must not happen")
		t.Error(err)
		return item{}, err
	}
}

// mustLoad wants that value of GetOrLoad.
func mustLoad(t tb, c interface {
	GetOrLoad(ctx context.Context, key []byte, load loader) ([]byte, error)
}, ctx context.Context, key, want string, load loader,
) {
	t.Helper()
	if v, err := c.GetOrLoad(ctx, []byte(key), load); err != nil || string(v) != want {
		t.Fatalf("%s is %.80q, %v, want %.80q", key, v, err, want)
	}
}

// held is a load that has begun and waits to be told how it ends.
type held struct {
	end    chan func() (item, error)
	result chan result
}

type result struct {
	value []byte
	err   error
}

// hold has a goroutine load the key, and returns when the load has begun.
func hold(t *testing.T, ctx context.Context, c interface {
	GetOrLoad(ctx context.Context, key []byte, load loader) ([]byte, error)
}, key string,
) *held {
	t.Helper()
	h := &held{make(chan func() (item, error)), make(chan result, 1)}
	begun := make(chan struct{})
	go func() {
		var r result
		defer func() { h.result <- r }()
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("panic: %v", p)
			}
		}()
		r.err = errors.New("no result")
		r.value, r.err = c.GetOrLoad(ctx, []byte(key), func(context.Context) (item, error) {
			close(begun)
			return (<-h.end)()
		})
	}()
	select {
	case <-begun:
	case r := <-h.result:
		t.Fatalf("no load: %q, %v", r.value, r.err)
	}
	return h
}

// gives ends the load with a value.
func (h *held) gives(v string) result {
	h.end <- func() (item, error) { return item{Value: []byte(v)}, nil }
	return <-h.result
}

// ask has n goroutines ask for the key, each appending to a prefix of its own, and
// returns when they wait.
func ask(t *testing.T, ctx context.Context, c *flagstone.Cache, key string, n int, load loader) chan result {
	t.Helper()
	results := make(chan result, n)
	before := c.Waiting()
	for i := range n {
		go func() {
			v, err := c.AppendOrLoad(ctx, append(make([]byte, 0, 64), byte('0'+i)), []byte(key), load)
			results <- result{v[1:], err}
		}()
	}
	eventually(t, "all wait", func() bool { return c.Waiting() >= before+uint64(n) })
	return results
}

func (r result) must(t *testing.T, want string) {
	t.Helper()
	if r.err != nil || string(r.value) != want {
		t.Fatalf("%.80q, %v, want %.80q", r.value, r.err, want)
	}
}

func patient(t *testing.T, o flagstone.Options) *flagstone.Cache {
	t.Helper()
	o.Dir, o.Regions = t.TempDir(), 16
	o.Steward.Off = true // OnEvent is to be told of loads alone
	if o.LoadTimeout == 0 {
		o.LoadTimeout = time.Hour // nobody is rescued by it
	}
	if o.Entries == 0 {
		o.Entries = 1000
	}
	return open(t, o)
}

func TestLoad_ManyGoroutinesOneKey_OneLoad(t *testing.T) {
	c := patient(t, flagstone.Options{})
	for _, value := range []string{"value", ""} {
		key := "key" + value
		h := hold(t, limited(t), c, key)
		results := ask(t, limited(t), c, key, 20, noLoad(t))
		h.gives(value).must(t, value)
		for range 20 {
			(<-results).must(t, value)
		}
		mustGet(t, c, key, value)
	}
	sound(t, c)
}

// What is not to be stored reaches those who wait all the same.
func TestLoad_CannotBeStored_AllGetItAndEventTells(t *testing.T) {
	var events []flagstone.Event
	c := patient(t, flagstone.Options{MaxValue: 100, OnEvent: func(e flagstone.Event) { events = append(events, e) }})
	for i, end := range []func() (item, error){
		func() (item, error) { return item{Value: make([]byte, 101)}, nil },
		func() (item, error) { return item{Value: []byte("v"), TTL: -1}, nil },
	} {
		h := hold(t, limited(t), c, "key")
		results := ask(t, limited(t), c, "key", 5, noLoad(t))
		h.end <- end
		want, _ := end()
		(<-h.result).must(t, string(want.Value))
		for range 5 {
			(<-results).must(t, string(want.Value))
		}
		if len(events) != i+1 || events[i].Kind != flagstone.EventUnstored || string(events[i].Key) != "key" {
			t.Fatalf("%+v", events)
		}
		mustFail(t, events[i].Err, []error{flagstone.ErrValueTooLong, flagstone.ErrTTL}[i])
		mustMiss(t, c, "key")
		// Nobody waits for a claim that was left behind.
		claim := got[*flagstone.Claim](t)(c.Claim(limited(t), []byte("key"), time.Hour))
		must(t, claim.Abandon(limited(t), nil, 0))
	}
	sound(t, c)
}

func TestLoad_Fails_GoroutinesGetTheErrorItself(t *testing.T) {
	c := patient(t, flagstone.Options{})
	// Its own contexts may end in it: that is not the caller giving up.
	for _, boom := range []error{errors.New("boom"), fmt.Errorf("database: %w", context.DeadlineExceeded), flagstone.ErrBusy} {
		h := hold(t, limited(t), c, "key")
		results := ask(t, limited(t), c, "key", 5, noLoad(t))
		h.end <- func() (item, error) { return item{}, boom }
		for _, r := range append(collect(results, 5), <-h.result) {
			if r.err != boom { //nolint:errorlint // the very same
				t.Fatalf("got %v, want %v", r.err, boom)
			}
		}
		mustLoad(t, c, limited(t), "key", "v", gives("v")) // not kept
		got[bool](t)(c.Delete(limited(t), []byte("key")))
	}
}

func collect(results chan result, n int) (all []result) {
	for range n {
		all = append(all, <-results)
	}
	return all
}

func TestLoad_NegativeTTL_ErrorForAllUntilItEnds(t *testing.T) {
	clock := &testClock{}
	o := options(t.TempDir())
	o.Clock = clock
	a, b := open(t, o), open(t, o)
	step := func(ms uint64) {
		clock.pass(ms)
		a.Table().Tick()
		b.Table().Tick()
	}
	boom := errors.New("boom")
	_, err := a.GetOrLoad(limited(t), []byte("key"), func(context.Context) (item, error) { return item{NegativeTTL: 50 * time.Millisecond}, boom })
	mustFail(t, err, boom)
	for _, c := range []*flagstone.Cache{a, b} {
		_, err := c.GetOrLoad(limited(t), []byte("key"), noLoad(t))
		var elsewhere *flagstone.LoadError
		if !errors.As(err, &elsewhere) || elsewhere.Text != "boom" || !errors.Is(err, flagstone.ErrLoad) {
			t.Fatal(err)
		}
		_, err = c.Claim(limited(t), []byte("key"), time.Hour)
		mustFail(t, err, flagstone.ErrLoad)
		mustMiss(t, c, "key")
		step(24)
	}
	step(1)
	_, err = a.GetOrLoad(limited(t), []byte("key"), noLoad(t))
	mustFail(t, err, flagstone.ErrLoad)
	step(1)
	mustLoad(t, b, limited(t), "key", "v", gives("v"))
	mustLoad(t, a, limited(t), "key", "v", noLoad(t))

	// A negative one is refused, and nobody is left waiting.
	_, err = a.GetOrLoad(limited(t), []byte("other"), func(context.Context) (item, error) { return item{NegativeTTL: -1}, boom })
	mustFail(t, err, boom)
	mustLoad(t, b, limited(t), "other", "v", gives("v"))
}

func TestLoad_PanicOrGoexit_NothingLeftBehind(t *testing.T) {
	c := patient(t, flagstone.Options{})
	for name, end := range map[string]func() (item, error){
		"panic":  func() (item, error) { panic("ouch") },
		"Goexit": func() (item, error) { runtime.Goexit(); return item{}, nil },
	} {
		h := hold(t, limited(t), c, name)
		var loads atomic.Int64
		results := ask(t, limited(t), c, name, 5, func(context.Context) (item, error) {
			loads.Add(1)
			return item{Value: []byte("v")}, nil
		})
		h.end <- end
		if r := <-h.result; r.err == nil || name == "panic" && !strings.Contains(r.err.Error(), "ouch") {
			t.Fatalf("%s: %q, %v", name, r.value, r.err)
		}
		for range 5 {
			(<-results).must(t, "v")
		}
		if n := loads.Load(); n != 1 {
			t.Fatalf("%s: %d loads after it", name, n)
		}
	}
	h := hold(t, limited(t), c, "alone")
	h.end <- func() (item, error) { panic("ouch") }
	<-h.result
	got[*flagstone.Claim](t)(c.Claim(limited(t), []byte("alone"), time.Hour))
	sound(t, c)
}

func TestLoad_LeadersContextEnds_AnotherOneLoads(t *testing.T) {
	c := patient(t, flagstone.Options{})
	ctx, cancel := context.WithCancel(limited(t))
	h := hold(t, ctx, c, "key")
	results := ask(t, limited(t), c, "key", 5, gives("v"))
	cancel()
	h.end <- func() (item, error) { return item{}, ctx.Err() }
	mustFail(t, (<-h.result).err, context.Canceled)
	for range 5 {
		(<-results).must(t, "v")
	}
}

// A load that does not care for its context keeps others for as long as that.
func TestLoad_LeaderDeafToItsDeadline_OthersGoOnThen(t *testing.T) {
	c := patient(t, flagstone.Options{})
	h := hold(t, brief(t), c, "key")
	mustLoad(t, c, limited(t), "key", "quick", gives("quick"))
	h.gives("late").must(t, "late")
	mustGet(t, c, "key", "quick")
}

func TestLoad_WaitersContextEnds_Busy(t *testing.T) {
	c := patient(t, flagstone.Options{})
	h := hold(t, limited(t), c, "key")
	others := ask(t, limited(t), c, "key", 2, noLoad(t))
	_, err := c.GetOrLoad(brief(t), []byte("key"), noLoad(t))
	mustFail(t, err, flagstone.ErrBusy, context.DeadlineExceeded)
	h.gives("v").must(t, "v")
	for range 2 {
		(<-others).must(t, "v")
	}
}

func TestLoad_Nested_IsAnError(t *testing.T) {
	c := patient(t, flagstone.Options{})
	n := c.Namespace("n")
	key := []byte("key")
	nested := func(ctx context.Context) (item, error) {
		_, err := c.GetOrLoad(ctx, key, noLoad(t))
		mustFail(t, err, flagstone.ErrNested)
		return item{Value: []byte("v")}, nil
	}
	mustLoad(t, c, limited(t), "key", "v", nested)
	got[bool](t)(c.Delete(limited(t), key))

	via := func(ctx context.Context) (item, error) { // another key, and one of the same bytes in a namespace
		mustLoad(t, n, ctx, "key", "o", func(ctx context.Context) (item, error) {
			mustLoad(t, c, ctx, "third", "v", nested)
			return item{Value: []byte("o")}, nil
		})
		return item{Value: []byte("v")}, nil
	}
	mustLoad(t, c, limited(t), "key", "v", via)
	for _, key := range []string{"key", "third"} {
		mustGet(t, c, key, "v")
	}
	mustLoad(t, c, limited(t), "fourth", "v", func(ctx context.Context) (item, error) { // what is there can be had
		must(t, c.Set(ctx, []byte("fourth"), []byte("s"), 0))
		mustLoad(t, c, ctx, "fourth", "s", noLoad(t))
		return item{Value: []byte("v")}, nil
	})
	mustGet(t, c, "fourth", "s")
}

// Nobody can tell that a load waits for itself if it hides its context.
func TestLoad_NestedInAnotherGoroutine_WaitsNoLongerThanTheTimeout(t *testing.T) {
	c := patient(t, flagstone.Options{LoadTimeout: 50 * time.Millisecond})
	mustLoad(t, c, limited(t), "key", "outer", func(context.Context) (item, error) {
		inner := make(chan result)
		go func() {
			v, err := c.GetOrLoad(limited(t), []byte("key"), gives("inner"))
			inner <- result{v, err}
		}()
		(<-inner).must(t, "inner")
		return item{Value: []byte("outer")}, nil
	})
	mustGet(t, c, "key", "inner")
}

// A lookup that begins after the key was set or deleted does not get what a load
// returns that began before.
func TestLoad_DeletedMeanwhile_LaterLookupsLoadAnew(t *testing.T) {
	c := patient(t, flagstone.Options{})
	h := hold(t, limited(t), c, "key")
	got[bool](t)(c.Delete(limited(t), []byte("key")))
	late := ask(t, limited(t), c, "key", 3, gives("new"))
	h.gives("old").must(t, "old")
	for range 3 {
		(<-late).must(t, "new")
	}
	mustGet(t, c, "key", "new")
}

// The same where the load has ended and its value is about to be shared.
func TestLoad_EndedButNotLanded_LaterLookupsLoadAnew(t *testing.T) {
	var c *flagstone.Cache
	c = patient(t, flagstone.Options{MaxValue: 100, OnEvent: func(flagstone.Event) {
		mustLoad(t, c, limited(t), "key", "new", gives("new"))
	}})
	long := strings.Repeat("x", 101)
	h := hold(t, limited(t), c, "key")
	early := ask(t, limited(t), c, "key", 3, noLoad(t))
	h.gives(long).must(t, long)
	for range 3 {
		(<-early).must(t, long)
	}
	mustGet(t, c, "key", "new")
}

func TestLoad_DeletedMeanwhile_JoinersDoNotGetTheError(t *testing.T) {
	c := patient(t, flagstone.Options{})
	h := hold(t, limited(t), c, "key")
	got[bool](t)(c.Delete(limited(t), []byte("key")))
	late := ask(t, limited(t), c, "key", 3, gives("new"))
	boom := errors.New("boom")
	h.end <- func() (item, error) { return item{NegativeTTL: time.Hour}, boom }
	mustFail(t, (<-h.result).err, boom)
	for range 3 {
		(<-late).must(t, "new")
	}
	mustGet(t, c, "key", "new")
}

// Where there is no claim that a Delete could end, nobody joins a load under way.
func TestLoad_NoRoomAndDeletedMeanwhile_LoadedAnew(t *testing.T) {
	c := patient(t, flagstone.Options{OnFull: flagstone.Refuse, Entries: 10, Shards: 1})
	fillUp(t, c)
	for _, end := range []func() (item, error){
		func() (item, error) { return item{Value: []byte("old")}, nil },
		func() (item, error) { return item{}, errors.New("boom") },
	} {
		h := hold(t, limited(t), c, "key")
		got[bool](t)(c.Delete(limited(t), []byte("key")))
		mustLoad(t, c, limited(t), "key", "new", gives("new"))
		h.end <- end
		want, err := end()
		if r := <-h.result; string(r.value) != string(want.Value) || (r.err == nil) != (err == nil) {
			t.Fatalf("%q, %v", r.value, r.err)
		}
	}
	sound(t, c)
}

// fillUp sets keys until there is no room.
func fillUp(t *testing.T, c *flagstone.Cache) {
	t.Helper()
	for i := 0; ; i++ {
		if err := c.Set(limited(t), fmt.Append(nil, "filler", i), nil, 0); errors.Is(err, flagstone.ErrFull) {
			return
		} else {
			must(t, err)
		}
	}
}

func TestLoad_StaleFor_OthersGetTheExpiredValue(t *testing.T) {
	clock := &testClock{}
	o := options(t.TempDir())
	o.Clock = clock
	c, other := open(t, o), open(t, o)
	got[flagstone.Token](t)(c.SetItem(limited(t), []byte("key"), item{Value: []byte("old"), TTL: 10 * time.Millisecond, StaleFor: time.Second}))
	clock.pass(10)
	c.Table().Tick()
	h := hold(t, limited(t), c, "key")
	for _, c := range []*flagstone.Cache{c, other} {
		mustLoad(t, c, limited(t), "key", "old", noLoad(t))
		mustMiss(t, c, "key")
		v, err := c.AppendOrLoad(limited(t), []byte("is "), []byte("key"), noLoad(t))
		if err != nil || string(v) != "is old" {
			t.Fatalf("%q, %v", v, err)
		}
	}
	clock.pass(1000) // beyond StaleFor they wait
	c.Table().Tick()
	results := ask(t, limited(t), other, "key", 2, noLoad(t))
	h.gives("new").must(t, "new")
	for range 2 {
		(<-results).must(t, "new")
	}
}

func TestLoad_NamespaceClearedMeanwhile_LoadedAnew(t *testing.T) {
	c := patient(t, flagstone.Options{})
	n, other := c.Namespace("n"), c.Namespace("other")
	mustLoad(t, n, limited(t), "key", "v", gives("v"))
	mustLoad(t, other, limited(t), "key", "o", gives("o"))
	mustLoad(t, c, limited(t), "key", "c", gives("c"))
	mustLoad(t, n, limited(t), "key", "v", noLoad(t))
	must(t, n.Clear(limited(t)))
	h := hold(t, limited(t), n, "key")
	must(t, n.Clear(limited(t)))
	mustLoad(t, n, limited(t), "key", "new", gives("new")) // does not join the other
	h.gives("old").must(t, "old")
	mustLoad(t, n, limited(t), "key", "new", noLoad(t))
	mustLoad(t, other, limited(t), "key", "o", noLoad(t))
	mustGet(t, c, "key", "c")
}

func TestLoad_CacheCleared_FillRefused(t *testing.T) {
	c := patient(t, flagstone.Options{})
	h := hold(t, limited(t), c, "key")
	must(t, c.Clear(limited(t)))
	h.gives("old").must(t, "old")
	mustMiss(t, c, "key")
}

func TestLoad_FullAndRefuse_AnswersAndTells(t *testing.T) {
	var mu sync.Mutex
	var events []flagstone.Event
	c := patient(t, flagstone.Options{OnFull: flagstone.Refuse, Entries: 10, Shards: 1, OnEvent: func(e flagstone.Event) {
		mu.Lock()
		events = append(events, e)
		mu.Unlock()
	}})
	fillUp(t, c)
	mustLoad(t, c, limited(t), "key", "v", gives("v"))
	n := c.Namespace("n")
	mustLoad(t, n, limited(t), "key", "w", func(ctx context.Context) (item, error) {
		mustLoad(t, n, ctx, "other", "x", func(ctx context.Context) (item, error) {
			_, err := n.GetOrLoad(ctx, []byte("key"), noLoad(t))
			mustFail(t, err, flagstone.ErrNested)
			return item{Value: []byte("x")}, nil
		})
		return item{Value: []byte("w")}, nil
	})
	_, err := c.Claim(limited(t), []byte("key"), time.Hour)
	mustFail(t, err, flagstone.ErrFull)
	boom := errors.New("boom")
	_, err = c.GetOrLoad(limited(t), []byte("key"), func(context.Context) (item, error) { return item{}, boom })
	mustFail(t, err, boom)
	if len(events) != 3 || slices.ContainsFunc(events, func(e flagstone.Event) bool {
		return e.Kind != flagstone.EventUnstored || !errors.Is(e.Err, flagstone.ErrFull)
	}) {
		t.Fatalf("%+v", events)
	}
	sound(t, c)
}

func TestClaim_FillAndAbandon_AsDocumented(t *testing.T) {
	o := options(t.TempDir())
	a, b := open(t, o), open(t, o)
	ctx, key := limited(t), []byte("key")
	buf := bytes.Clone(key)
	claim := got[*flagstone.Claim](t)(a.Claim(ctx, buf, time.Hour))
	copy(buf, "other") // the caller's again
	for _, c := range []*flagstone.Cache{a, b} {
		_, err := c.Claim(ctx, key, time.Hour)
		mustFail(t, err, flagstone.ErrClaimed)
	}
	token := got[flagstone.Token](t)(claim.Fill(ctx, item{Value: []byte("v"), Tag: 7, TTL: time.Hour}))
	it, ok, err := b.GetItem(nil, key)
	if must(t, err); !ok || it.Token != token || string(it.Value) != "v" || it.Tag != 7 || it.TTL == 0 {
		t.Fatalf("%+v, %v", it, ok)
	}
	_, err = b.Claim(ctx, key, time.Hour)
	mustFail(t, err, flagstone.ErrExists)
	_, err = claim.Fill(ctx, item{})
	mustFail(t, err, flagstone.ErrClaimLost)
	mustFail(t, claim.Abandon(ctx, nil, 0), flagstone.ErrClaimLost)
	mustFail(t, claim.Abandon(ctx, errors.New("boom"), 0), flagstone.ErrClaimLost)
	mustGet(t, a, "key", "v")

	// Whatever Fill or Abandon says, the claim is over.
	for name, end := range map[string]func(c *flagstone.Claim) (want, err error){
		"long": func(c *flagstone.Claim) (error, error) {
			_, err := c.Fill(ctx, item{Value: make([]byte, 1<<20)})
			return flagstone.ErrValueTooLong, err
		},
		"stale": func(c *flagstone.Claim) (error, error) {
			_, err := c.Fill(ctx, item{StaleFor: -1})
			return flagstone.ErrTTL, err
		},
		"neg": func(c *flagstone.Claim) (error, error) {
			return flagstone.ErrTTL, c.Abandon(ctx, errors.New("boom"), -1)
		},
		"cause":  func(c *flagstone.Claim) (error, error) { return nil, c.Abandon(ctx, errors.New("boom"), 0) },
		"simply": func(c *flagstone.Claim) (error, error) { return nil, c.Abandon(ctx, nil, 0) },
	} {
		want, err := end(got[*flagstone.Claim](t)(a.Claim(ctx, []byte(name), time.Hour)))
		if !errors.Is(err, want) || errors.Is(err, flagstone.ErrClaimLost) {
			t.Fatalf("%s: %v, want %v", name, err, want)
		}
		again := got[*flagstone.Claim](t)(b.Claim(ctx, []byte(name), time.Hour))
		got[flagstone.Token](t)(again.Fill(ctx, item{Value: []byte("w")}))
		mustGet(t, a, name, "w")
	}
	_, err = a.Claim(ctx, make([]byte, 1<<12), time.Hour)
	mustFail(t, err, flagstone.ErrKeyTooLong)
	sound(t, a)
}

// What GetOrLoad waits for may be a claim of the application's.
func TestLoad_ClaimedByHand_WaitsForFillOrError(t *testing.T) {
	o := options(t.TempDir())
	a, b := open(t, o), open(t, o)
	claim := got[*flagstone.Claim](t)(a.Claim(limited(t), []byte("key"), time.Hour))
	results := []chan result{ask(t, limited(t), a, "key", 1, noLoad(t)), ask(t, limited(t), b, "key", 1, noLoad(t))}
	got[flagstone.Token](t)(claim.Fill(limited(t), item{Value: []byte("v")}))
	for _, r := range results {
		(<-r).must(t, "v")
	}
	claim = got[*flagstone.Claim](t)(a.Claim(limited(t), []byte("bad"), time.Hour))
	failed := ask(t, limited(t), b, "bad", 3, noLoad(t))
	must(t, claim.Abandon(limited(t), errors.New("boom"), 0))
	for range 3 {
		mustFail(t, (<-failed).err, flagstone.ErrLoad)
	}
	claim = got[*flagstone.Claim](t)(a.Claim(limited(t), []byte("late"), time.Millisecond))
	mustLoad(t, b, limited(t), "late", "w", gives("w"))
	_, err := claim.Fill(limited(t), item{Value: []byte("v")})
	mustFail(t, err, flagstone.ErrClaimLost)
	mustGet(t, a, "late", "w")
}

func TestLoad_Closed_SaysSo(t *testing.T) {
	c := patient(t, flagstone.Options{})
	claim := got[*flagstone.Claim](t)(c.Claim(limited(t), []byte("key"), time.Hour))
	waiter := ask(t, limited(t), c, "key", 1, noLoad(t))
	must(t, c.Close())
	mustFail(t, (<-waiter).err, flagstone.ErrClosed)
	_, err := c.GetOrLoad(limited(t), []byte("key"), noLoad(t))
	mustFail(t, err, flagstone.ErrClosed)
	_, err = c.Claim(limited(t), []byte("key"), time.Hour)
	mustFail(t, err, flagstone.ErrClosed)
	_, err = claim.Fill(limited(t), item{})
	mustFail(t, err, flagstone.ErrClosed)
	mustFail(t, claim.Abandon(limited(t), nil, 0), flagstone.ErrClosed)
}

// Loads of random keys from several handles, with errors, deletes and short
// timeouts between: nobody hangs, and every value is of its key.
func TestLoad_Turmoil_EverybodyGetsSomething(t *testing.T) {
	o := options(t.TempDir())
	o.LoadTimeout = 2 * time.Millisecond
	handles := []*flagstone.Cache{open(t, o), open(t, o)}
	boom := errors.New("boom")
	var wg sync.WaitGroup
	for g := range 6 {
		c := handles[g%2]
		wg.Go(func() {
			for i := range 300 {
				key := fmt.Sprint("key", i*7%5)
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				v, err := c.GetOrLoad(ctx, []byte(key), func(ctx context.Context) (item, error) {
					switch (i + g) % 5 {
					case 0:
						return item{}, boom
					case 1:
						<-ctx.Done() // overdue
					}
					return item{Value: []byte(key), TTL: time.Millisecond, StaleFor: time.Second * time.Duration(i%2)}, nil
				})
				if err != nil && !errors.Is(err, boom) && !errors.Is(err, flagstone.ErrLoad) || err == nil && string(v) != key {
					t.Errorf("%s is %q, %v", key, v, err)
				}
				if i%9 == 0 {
					if _, err := c.Delete(ctx, []byte(key)); err != nil {
						t.Error(err)
					}
				}
				cancel()
			}
		})
	}
	wg.Wait()
	sound(t, handles[0])
}
