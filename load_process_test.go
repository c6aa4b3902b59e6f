//go:build linux

package flagstone_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
)

func init() { obeyMore = obeyLoad }

// obeyLoad is obey for what concerns loads. A load says "loading", and then does as
// the next line says: "give VALUE" or "fail TEXT [NEGATIVE-TTL]".
func obeyLoad(ctx context.Context, c **flagstone.Cache, dir, order string, arg []string) (answer string, err error) {
	switch order {
	case "opentimeout": // opens with a LoadTimeout
		o := options(dir)
		if o.LoadTimeout, err = time.ParseDuration(arg[0]); err != nil {
			return "", err
		}
		o.OnEvent = func(e flagstone.Event) {
			if e.Kind == flagstone.EventUnstored {
				fmt.Println("event:", e.Kind, string(e.Key), e.Err)
			}
		}
		*c, err = flagstone.Open(ctx, name, o)
		return "ok", err
	case "load": // KEY [PATIENCE [STALE-FOR]]; says "waiting" when it has to wait
		if arg[1] != "" {
			d, err := time.ParseDuration(arg[1])
			if err != nil {
				return "", err
			}
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, d)
			defer cancel()
		}
		stale, _ := time.ParseDuration(arg[2])
		defer sayWaiting(*c)()
		v, err := (*c).GetOrLoad(ctx, []byte(arg[0]), func(context.Context) (flagstone.Item, error) {
			fmt.Println("loading")
			if !orders.Scan() {
				return flagstone.Item{}, orders.Err()
			}
			words := append(strings.Fields(orders.Text()), "", "")
			if words[0] == "fail" {
				negative, _ := time.ParseDuration(words[2])
				return flagstone.Item{NegativeTTL: negative}, errors.New(words[1])
			}
			return flagstone.Item{Value: []byte(words[1]), StaleFor: stale}, nil
		})
		if other := new(flagstone.LoadError); errors.As(err, &other) && errors.Is(err, flagstone.ErrLoad) {
			return "elsewhere: " + other.Text, nil
		}
		return "got " + string(v), err
	case "delete":
		ok, err := (*c).Delete(ctx, []byte(arg[0]))
		return strconv.FormatBool(ok), err
	}
	return "", errors.New("unknown order " + order)
}

// sayWaiting says "waiting" once the handle waits for a load, until it is stopped.
func sayWaiting(c *flagstone.Cache) (stop func()) {
	done, ended, before := make(chan struct{}), make(chan struct{}), c.Waiting()
	go func() {
		defer close(ended)
		for c.Waiting() == before {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Microsecond):
			}
		}
		fmt.Println("waiting")
	}()
	return func() { close(done); <-ended }
}

// loaders starts processes with a LoadTimeout.
func loaders(t *testing.T, dir string, n int, timeout time.Duration) []*child {
	t.Helper()
	all := make([]*child, n)
	for i := range all {
		all[i] = start(t, dir)
		all[i].expect("ok", "opentimeout", timeout)
	}
	return all
}

// hears wants that line next.
func (c *child) hears(want string) {
	c.t.Helper()
	if got := c.hear(); got != want {
		c.t.Fatalf("got %q, want %q", got, want)
	}
}

// hearsLost wants the event of a value that was not stored as its claim was lost.
func (c *child) hearsLost(key string) {
	c.t.Helper()
	if got := c.hear(); !strings.HasPrefix(got, "event: unstored "+key+" "+flagstone.ErrClaimLost.Error()) {
		c.t.Fatalf("got %q", got)
	}
}

// allLoad has all of them ask for a key that is not there, until one loads and the
// others wait for it.
func allLoad(t *testing.T, all []*child, key string) (loader *child, waiters []*child) {
	t.Helper()
	for _, c := range all {
		c.tell("load", key)
	}
	for _, c := range all {
		switch got := c.hear(); {
		case got == "loading" && loader == nil:
			loader = c
		case got == "waiting":
			waiters = append(waiters, c)
		default:
			t.Fatalf("got %q, a loader before: %v", got, loader != nil)
		}
	}
	if loader == nil {
		t.Fatal("nobody loads")
	}
	return loader, waiters
}

// oneTakesOver has one of the waiters load, and all of them get its value.
func oneTakesOver(t *testing.T, waiters []*child, value string) {
	t.Helper()
	type said struct {
		by   *child
		line string
	}
	lines := make(chan said, len(waiters))
	for _, c := range waiters {
		go func() {
			var line string
			defer func() { lines <- said{c, line} }()
			line = c.hear()
		}()
	}
	first := <-lines
	if first.line != "loading" {
		t.Fatalf("got %q, want a second load", first.line)
	}
	first.by.tell("give", value)
	first.by.hears("got " + value)
	for range len(waiters) - 1 {
		if next := <-lines; next.line != "got "+value {
			t.Fatalf("got %q, want the second loader's value", next.line)
		}
	}
}

func TestLoad_EightProcessesColdKey_OneLoadAndAllGetIt(t *testing.T) {
	dir := t.TempDir()
	all := loaders(t, dir, 8, patience)
	for i := range 3 {
		key := fmt.Sprint("key", i)
		loader, _ := allLoad(t, all, key)
		loader.tell("give", "value")
		for _, c := range all { // a second load would say so
			c.hears("got value")
		}
		all[i].expect("got value", "load", key)
	}
	sound(t, open(t, options(dir)))
}

func TestLoad_LoaderKilled_OneMoreLoadAndAllGetIt(t *testing.T) {
	dir := t.TempDir()
	all := loaders(t, dir, 8, patience)
	loader, waiters := allLoad(t, all, "key")
	loader.kill()
	oneTakesOver(t, waiters, "second")
	cache := open(t, options(dir))
	mustGet(t, cache, "key", "second")
	sound(t, cache)
}

func TestLoad_LoaderStoppedBeyondTimeout_TakenOverAndItsFillRefused(t *testing.T) {
	dir := t.TempDir()
	slow := loaders(t, dir, 1, 300*time.Millisecond)[0]
	quick := loaders(t, dir, 3, patience)
	slow.tell("load", "key")
	slow.hears("loading")
	slow.stop()
	for _, c := range quick {
		c.tell("load", "key")
	}
	for _, c := range quick {
		c.hears("waiting")
	}
	oneTakesOver(t, quick, "second")
	slow.resume()
	slow.tell("give", "first")
	slow.hearsLost("key")
	slow.hears("got first")
	for _, c := range append(quick, slow) {
		c.expect("got second", "load", "key")
	}
	sound(t, open(t, options(dir)))
}

func TestLoad_Fails_OthersGetTheErrorAndOnlyNegativeTTLKeepsIt(t *testing.T) {
	dir := t.TempDir()
	all := loaders(t, dir, 4, patience)
	for range 2 { // the second time it is loaded anew
		loader, waiters := allLoad(t, all, "key")
		loader.tell("fail", "boom")
		loader.hears("error: boom")
		for _, c := range waiters {
			c.hears("elsewhere: boom")
		}
	}
	loader, waiters := allLoad(t, all, "key")
	loader.tell("fail", "bang", "1h")
	loader.hears("error: bang")
	for _, c := range waiters {
		c.hears("elsewhere: bang")
	}
	for _, c := range all {
		c.expect("elsewhere: bang", "load", "key")
	}
	all[0].expect("ok", "set", "key", "v")
	all[1].expect("got v", "load", "key")
	all[2].expect("true", "delete", "key")
	all[3].expect("loading", "load", "key")
	all[3].expect("got w", "give", "w")
	sound(t, open(t, options(dir)))
}

func TestLoad_SetOrDeletedMeanwhile_FillRefused(t *testing.T) {
	dir := t.TempDir()
	all := loaders(t, dir, 2, patience)
	cache := open(t, options(dir))
	for i, meddle := range []func(){
		func() { must(t, cache.Set(limited(t), []byte("key"), []byte("set"), 0)) },
		func() { _, err := cache.Delete(limited(t), []byte("key")); must(t, err) },
	} {
		_, err := cache.Delete(limited(t), []byte("key"))
		must(t, err)
		loader, waiters := allLoad(t, all, "key")
		meddle()
		want := "set"
		if i == 1 { // the waiter loads itself
			waiters[0].hears("loading")
			waiters[0].tell("give", "newer")
			want = "newer"
		}
		waiters[0].hears("got " + want)
		loader.tell("give", "older")
		loader.hearsLost("key")
		loader.hears("got older")
		mustGet(t, cache, "key", want)
	}
	sound(t, cache)
}

func TestLoad_WaitersContextEnds_BusyAndOthersUndisturbed(t *testing.T) {
	dir := t.TempDir()
	all := loaders(t, dir, 3, patience)
	loader, waiters := allLoad(t, all[:2], "key")
	all[2].tell("load", "key", 50*time.Millisecond)
	all[2].hears("waiting")
	if got := all[2].hear(); !strings.HasPrefix(got, "error: ") || !strings.Contains(got, flagstone.ErrBusy.Error()) ||
		!strings.Contains(got, context.DeadlineExceeded.Error()) {
		t.Fatal(got)
	}
	loader.tell("give", "value")
	loader.hears("got value")
	waiters[0].hears("got value")
}

func TestLoad_ExpiredWithinStaleFor_OthersGetItAtOnce(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	got[flagstone.Token](t)(cache.SetItem(limited(t), []byte("key"), flagstone.Item{Value: []byte("old"), TTL: time.Millisecond, StaleFor: time.Hour}))
	eventually(t, "expired", func() bool { _, ok, err := cache.Get(nil, []byte("key")); must(t, err); return !ok })
	all := loaders(t, dir, 3, patience)
	all[0].expect("loading", "load", "key")
	for range 3 {
		all[1].expect("got old", "load", "key")
		all[2].expect("got old", "load", "key")
		mustMiss(t, cache, "key")
		v, err := cache.GetOrLoad(limited(t), []byte("key"), noLoad(t))
		if err != nil || string(v) != "old" {
			t.Fatalf("%q, %v", v, err)
		}
	}
	all[0].expect("got new", "give", "new")
	all[1].expect("got new", "load", "key")
	mustGet(t, cache, "key", "new")
}

// Nor does that take a lock.
func TestLoad_StaleWhileAWriterIsStopped_WaitsForNobody(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	shard := int(cache.HashOf([]byte("hot")) % shards)
	key := keyIn(cache, shard)
	got[flagstone.Token](t)(cache.SetItem(limited(t), key, flagstone.Item{Value: []byte("old"), TTL: time.Millisecond, StaleFor: time.Hour}))
	eventually(t, "expired", func() bool { _, ok, err := cache.Get(nil, key); must(t, err); return !ok })
	loader := loaders(t, dir, 1, patience)[0]
	loader.expect("loading", "load", string(key))
	writer := opened(t, dir)
	writer.expect("ok", "hammer", "hot")
	if stopped := writer.stopHolding(cache); stopped != shard {
		t.Fatalf("shard %d, want %d", stopped, shard)
	}
	for range 3 {
		v, err := cache.GetOrLoad(limited(t), key, noLoad(t))
		if err != nil || string(v) != "old" {
			t.Fatalf("%q, %v", v, err)
		}
	}
	writer.resume()
	writer.kill()
	loader.expect("got new", "give", "new")
	mustGet(t, cache, string(key), "new")
}

// A claim does not need its process to do anything: it is over when it is dead.
func TestClaim_OwnerKilled_NextOneClaims(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	c := loaders(t, dir, 1, patience)[0]
	c.expect("loading", "load", "key")
	_, err := cache.Claim(limited(t), []byte("key"), time.Hour)
	mustFail(t, err, flagstone.ErrClaimed)
	c.kill()
	claim := got[*flagstone.Claim](t)(cache.Claim(limited(t), []byte("key"), time.Hour))
	got[flagstone.Token](t)(claim.Fill(limited(t), flagstone.Item{Value: []byte("v")}))
	mustGet(t, cache, "key", "v")
}
