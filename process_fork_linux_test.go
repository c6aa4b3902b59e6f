package flagstone_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/shm/forktest"
	"github.com/flagstone-shm/flagstone/lock"
	"github.com/flagstone-shm/flagstone/table"
)

func init() {
	next := obeyMore
	obeyMore = func(ctx context.Context, c **flagstone.Cache, dir, order string, arg []string) (string, error) {
		switch order {
		case "fork": // says what the copy found: nothing, if all is as it should be
			return forked(ctx, *c, dir)
		case "forkclose": // forks a copy that closes the cache, and answers when it has
			copied, err := forktest.Fork(func(say func(string, ...any)) { say("%v", (*c).Close()) })
			if err != nil {
				return "", err
			}
			said, err := copied.Wait(patience)
			return strings.TrimSpace(said), err
		case "forkkeep": // forks a copy that lingers, and answers its pid
			return keeper()
		case "forkholding": // the same with the lock of the first slab's mutex and writers held
			s, err := (*c).Tiers()
			if err != nil {
				return "", err
			}
			if _, err := s[0].LockWriters(ctx); err != nil {
				return "", err
			}
			return keeper()
		case "forkleading": // the same as steward
			for !(*c).Table().Leading() {
				if _, err := (*c).Table().Lead(); err != nil {
					return "", err
				}
			}
			return keeper()
		case "forkloading": // the same with the key claimed
			if _, err := (*c).Claim(ctx, []byte(arg[0]), time.Hour); err != nil {
				return "", err
			}
			return keeper()
		case "forkexclusive": // the same in Exclusive
			var answer string
			err := (*c).Table().Exclusive(ctx, func() (err error) {
				answer, err = keeper()
				fmt.Println(answer)
				select {}
			})
			return answer, err
		}
		return next(ctx, c, dir, order, arg)
	}
}

// keeper forks a copy that lingers and returns its pid.
func keeper() (string, error) {
	copied, err := forktest.Fork(func(say func(string, ...any)) {
		say("here")
		forktest.Linger()
	})
	if err != nil {
		return "", err
	}
	if _, err := copied.Line(patience); err != nil {
		return "", err
	}
	return strconv.Itoa(copied.Pid), nil
}

// forked uses all of a handle in a forked child.
func forked(ctx context.Context, c *flagstone.Cache, dir string) (string, error) {
	private, err := flagstone.Open(ctx, "p", flagstone.Options{Private: true, Entries: 100, Steward: flagstone.StewardOptions{Off: true}})
	if err != nil {
		return "", err
	}
	defer private.Close()
	looker, err := flagstone.Open(ctx, name, flagstone.Options{Dir: dir, ReadOnly: true})
	if err != nil {
		return "", err
	}
	defer looker.Close()
	key, value := []byte("k"), []byte("v")
	if err := errors.Join(c.Set(ctx, key, value, 0), c.Set(ctx, []byte("long"), letters(1), 0), private.Set(ctx, key, value, 0)); err != nil {
		return "", err
	}
	tiers, err := c.Tiers()
	if err != nil {
		return "", err
	}
	low, err := c.Grow(ctx, "low", flagstone.Shape{})
	if err != nil {
		return "", err
	}
	slab, control := tiers[0], c.Table()
	mutex, err := control.Mutex(100)
	if err != nil {
		return "", err
	}
	if _, err := mutex.Lock(ctx); err != nil {
		return "", err
	}
	claim, err := c.Claim(ctx, []byte("claimed"), time.Hour)
	if err != nil {
		return "", err
	}
	space := c.Namespace("space")
	if err := space.Set(ctx, key, value, 0); err != nil {
		return "", err
	}
	entry := control.Entries()[0]
	other := uint64(0)
	for _, r := range control.Regions() {
		if !r.Self {
			other = lock.Token(uint32(r.Index), r.Generation)
		}
	}
	var batch flagstone.Batch
	get := func(c *flagstone.Cache, key string) error {
		_, _, err := c.Get(make([]byte, 0, 16), []byte(key))
		return err
	}
	operations := map[string]func() error{
		"Get":                 func() error { return get(c, "k") },
		"Get of a long value": func() error { return get(c, "long") },
		"Get of nothing":      func() error { return get(c, "nothing") },
		"Get read-only":       func() error { return get(looker, "k") },
		"GetItem":             func() error { _, _, err := c.GetItem(nil, key); return err },
		"GetBatch":            func() error { return c.GetBatch(&batch, [][]byte{key}) },
		"GetHash":             func() error { _, _, err := c.GetHash(nil, 7); return err },
		"GetOrLoad": func() error {
			_, err := c.GetOrLoad(ctx, key, func(context.Context) (flagstone.Item, error) { panic("loads") })
			return err
		},
		"TTL":         func() error { _, _, err := c.TTL(key); return err },
		"Set":         func() error { return c.Set(ctx, key, value, 0) },
		"Set long":    func() error { return c.Set(ctx, key, letters(1), 0) },
		"SetIfAbsent": func() error { _, err := c.SetIfAbsent(ctx, key, value, 0); return err },
		"SetBatch": func() error {
			_, err := c.SetBatch(ctx, []flagstone.KeyItem{{Key: key, Item: flagstone.Item{Value: value}}})
			return err
		},
		"SetHash":     func() error { return c.SetHash(ctx, 7, value, 0) },
		"Increment":   func() error { _, err := c.Increment(ctx, []byte("n"), 1, 0, 0); return err },
		"Touch":       func() error { _, err := c.Touch(ctx, key, 0); return err },
		"Delete":      func() error { _, err := c.Delete(ctx, key); return err },
		"Claim":       func() error { _, err := c.Claim(ctx, key, time.Second); return err },
		"Claim.Fill":  func() error { _, err := claim.Fill(ctx, flagstone.Item{Value: value}); return err },
		"Abandon":     func() error { return claim.Abandon(ctx, nil, 0) },
		"All":         func() error { return scan(ctx, c, func(flagstone.Record) bool { return true }) },
		"Evict":       func() error { _, err := c.Evict(ctx, 0, 10); return err },
		"EvictNear":   func() error { _, err := c.EvictNear(ctx, key, 0, 10); return err },
		"EvictTag":    func() error { _, err := c.EvictTag(ctx, 1, 10); return err },
		"Clear":       func() error { return c.Clear(ctx) },
		"Len":         func() error { _, err := c.Len(); return err },
		"Stats":       func() error { _, err := c.Stats(); return err },
		"TierStats":   func() error { _, err := c.TierStats(); return err },
		"Holders":     func() error { _, err := c.Holders(); return err },
		"Check":       func() error { _, err := c.Check(ctx); return err },
		"Rebuild":     func() error { return c.Rebuild(ctx) },
		"Grow":        func() error { _, err := c.Grow(ctx, "b", flagstone.Shape{}); return err },
		"Drain":       func() error { _, err := low.Drain(ctx); return err },
		"Tiers":       func() error { _, err := c.Tiers(); return err },
		"CreateSlab":  func() error { _, err := c.CreateSlab(ctx, "i", flagstone.Shape{}); return err },
		"OpenSlab":    func() error { _, err := c.OpenSlab(ctx, "i"); return err },
		"Lead":        func() error { return c.Lead(ctx) },
		"Slab.Lock":   func() error { _, err := slab.Lock(ctx); return err },
		"LockWriters": func() error { _, err := slab.LockWriters(ctx); return err },
		"Namespace":   func() error { _, _, err := space.Get(nil, key); return err },
		"Namespace.Set": func() error {
			return space.Set(ctx, key, value, 0)
		},
		"Namespace.Clear": func() error { return space.Clear(ctx) },
		"Table.Usable":    control.Usable,
		"Table.Reap":      func() error { _, err := control.Reap(); return err },
		"Table.SetFlags":  func() error { return control.SetFlags(1, 0) },
		"Table.Lead":      func() error { _, err := control.Lead(); return err },
		"Table.Want":      func() error { return control.Want(true) },
		"Table.Resign":    control.Resign,
		"Table.Exclusive": func() error { return control.Exclusive(ctx, func() error { panic("inside") }) },
		"Table.Ring":      func() error { return control.Ring(0, 1) },
		"Table.Attach":    func() error { _, err := control.Attach(entry); return err },
		"Table.Drain":     func() error { _, err := control.Drain(entry); return err },
		"Table.Retire":    func() error { return control.Retire(entry) },
		"Table.Mutex":     func() error { _, err := control.Mutex(100); return err },
		"Mutex.Lock":      func() error { _, err := mutex.Lock(ctx); return err },
		"Mutex.TryLock":   func() error { _, _, err := mutex.TryLock(); return err },
		"Mutex.Unlock":    func() error { return mutex.Unlock(true) },
		"Table.Reserve":   func() error { _, err := control.Reserve(table.Spec{Kind: table.KindApplication, Size: 8}); return err },
		"Open":            func() error { _, err := flagstone.Open(ctx, name, options(dir)); return err },
		"Open read-only": func() error {
			_, err := flagstone.Open(ctx, name, flagstone.Options{Dir: dir, ReadOnly: true})
			return err
		},
		"Destroy":       func() error { return flagstone.Destroy(ctx, dir, name) },
		"table.Inspect": func() error { _, err := table.Inspect(table.Options{Dir: dir, Name: name}); return err },
	}
	copied, err := forktest.Fork(func(say func(string, ...any)) {
		for what, do := range operations {
			if err := do(); !errors.Is(err, flagstone.ErrForked) {
				say("%s: %v", what, err)
			}
		}
		if control.Changes() != 0 || control.Leading() || len(control.Regions()) != 0 || control.Dead(other) {
			say("words of the parent's are seen")
		}
		if err := private.Set(ctx, key, []byte("child's"), 0); err != nil {
			say("private Set: %v", err)
		}
		if v, ok, err := private.Get(nil, key); string(v) != "child's" || !ok || err != nil {
			say("private Get: %q, %v, %v", v, ok, err)
		}
		for range 2 {
			if err := errors.Join(slab.Close(), looker.Close(), c.Close(), control.Close()); err != nil {
				say("Close: %v", err)
			}
		}
		say("end")
	})
	if err != nil {
		return "", err
	}
	said, err := copied.Wait(patience)
	if err != nil {
		return said, err
	}
	if v, ok, err := private.Get(nil, key); string(v) != "v" || !ok || err != nil {
		return "the child's private cache is the parent's", err
	}
	if _, err := claim.Fill(ctx, flagstone.Item{Value: value}); err != nil {
		return "", err
	}
	return strings.ReplaceAll(strings.TrimSpace(said), "\n", "; "), mutex.Unlock(true)
}

// forking starts a child that can fork copies of itself, and has opened the cache.
func forking(t *testing.T, dir string) *child {
	t.Helper()
	t.Setenv("GOMAXPROCS", "1")
	t.Setenv("GOGC", "off")
	c := opened(t, dir)
	must(t, os.Unsetenv("GOMAXPROCS"))
	must(t, os.Unsetenv("GOGC"))
	return c
}

// kept lets the child fork a copy by that order, dies, and leaves the copy.
func (c *child) kept(order string, args ...any) (copied int) {
	c.t.Helper()
	answer := c.ask(order, args...)
	copied, err := strconv.Atoi(answer)
	if err != nil {
		c.t.Fatalf("%s: %s", order, answer)
	}
	c.t.Cleanup(func() { _ = unix.Kill(copied, unix.SIGKILL) })
	c.kill()
	return copied
}

func TestFork_ChildUsesHandle_ErrForkedAndParentUnharmed(t *testing.T) {
	dir := t.TempDir()
	watcher := open(t, options(dir))
	c := forking(t, dir)
	c.expect("end", "fork")
	c.expect("true v", "get", "k") // goes on
	c.expect("ok", "set", "k", "w")
	mustGet(t, watcher, "k", "w")
	mustGet(t, watcher, "claimed", "v")
	for _, r := range watcher.Table().Regions() {
		if !r.Alive {
			t.Fatalf("%+v", r)
		}
	}
	sound(t, watcher)
	c.expect("closed", "close")
}

func TestFork_ChildCloses_LeaseStaysAndDiesWithParent(t *testing.T) {
	dir := t.TempDir()
	watcher := open(t, options(dir))
	c := forking(t, dir)
	token := uint64(0)
	for _, r := range watcher.Table().Regions() {
		if r.Index == c.region {
			token = lock.Token(uint32(r.Index), r.Generation)
		}
	}
	c.expect("<nil>", "forkclose")
	if watcher.Table().Dead(token) {
		t.Fatal("the child's Close gave the parent's lease back")
	}
	c.expect("ok", "set", "k", "v")
	c.kill()
	if !watcher.Table().Dead(token) {
		t.Fatal("not dead")
	}
}

// The owner is dead, but the kernel says that its lease is held, until the copy ends.
func TestFork_ParentKilledChildKeepsLease_LockStolenRegionQuarantined(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	o.Steward.Off = true
	cache := open(t, o)
	must(t, cache.Set(limited(t), []byte("k"), []byte("v"), 0))
	c := forking(t, dir)
	copied := c.kept("forkholding")
	must(t, cache.Set(limited(t), []byte("k"), []byte("w"), 0))
	mustGet(t, cache, "k", "w")
	tiers, err := cache.Tiers()
	must(t, err)
	if consistent, err := tiers[0].Lock(limited(t)); err != nil || consistent {
		t.Fatalf("the mutex of the gone: consistent %v, %v", consistent, err)
	}
	must(t, tiers[0].Unlock(true))
	sound(t, cache)

	region := func() *table.Region {
		for _, r := range cache.Table().Regions() {
			if r.Index == c.region {
				return &r
			}
		}
		return nil
	}
	eventually(t, "quarantined", func() bool { r := region(); return r.Quarantined && !r.Alive })
	if n, err := cache.Table().Reap(); n != 0 || err != nil || region() == nil {
		t.Fatalf("reaped %d, %v though the lease is held", n, err)
	}
	keepers, err := cache.Table().Keepers()
	must(t, err)
	if len(keepers) != 1 || keepers[0] != copied {
		t.Fatalf("kept by %v, want %d", keepers, copied)
	}
	must(t, unix.Kill(copied, unix.SIGKILL))
	eventually(t, "reaped when the copy has gone", func() bool { _, err := cache.Table().Reap(); must(t, err); return region() == nil })
}

func TestFork_ParentKilledLoading_OthersLoad(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	c := forking(t, dir)
	c.kept("forkloading", "k")
	v, err := cache.GetOrLoad(limited(t), []byte("k"), func(context.Context) (flagstone.Item, error) {
		return flagstone.Item{Value: []byte("v")}, nil
	})
	if err != nil || string(v) != "v" {
		t.Fatalf("%q, %v", v, err)
	}
}

func TestFork_StewardKilledChildKeepsByte_AnotherLeads(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	o.Steward.Off = true
	first, second := open(t, o), open(t, o)
	c := forking(t, dir)
	copied := c.kept("forkleading")
	lead := func(c *flagstone.Cache) bool { leading, err := c.Table().Lead(); must(t, err); return leading }
	eventually(t, "succeeded", func() bool {
		a, b := lead(first), lead(second)
		if a && b {
			t.Fatal("two stewards")
		}
		return a || b
	})
	if lead(second) {
		first, second = second, first
	}
	if h, ok := second.Table().Steward(); !ok || h.Region != first.Table().Self() {
		t.Fatalf("steward is %v, %v, want region %d", h, ok, first.Table().Self())
	}
	must(t, unix.Kill(copied, unix.SIGKILL))
	eventually(t, "the byte is free", func() bool {
		n, err := second.Table().Reap()
		must(t, err)
		return n == 1
	})
	if !lead(first) || lead(second) { // the first has the byte now, so that its death, too, frees that
		t.Fatal("another steward")
	}
	must(t, first.Table().Resign())
	if !lead(second) {
		t.Fatal("the office was given back, and is not free")
	}
}

func TestFork_ParentKilledInExclusive_ErrBusyNamesCause(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	c := forking(t, dir)
	copied := c.kept("forkexclusive")
	err := cache.Table().Exclusive(brief(t), func() error { return nil })
	mustFail(t, err, flagstone.ErrBusy)
	mustName(t, err, "child", "fork", "fuser")
	must(t, unix.Kill(copied, unix.SIGKILL))
	must(t, cache.Table().Exclusive(limited(t), func() error { return nil }))
}
