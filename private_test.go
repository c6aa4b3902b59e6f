package flagstone_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// That a private cache does what a shared one does is in the model: TestCache_ManyHandles_BehavesAsTheModel.

func private(t testing.TB, o flagstone.Options) *flagstone.Cache {
	t.Helper()
	o.Private = true
	c, err := flagstone.Open(context.Background(), "", o)
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func TestPrivate_TwoOfOneName_DoNotMeet(t *testing.T) {
	dir := t.TempDir()
	o := flagstone.Options{Private: true, Dir: dir, Entries: 100, Regions: 7}
	one, err := flagstone.Open(limited(t), "same", o)
	must(t, err)
	defer one.Close()
	other, err := flagstone.Open(limited(t), "same", o)
	must(t, err)
	defer other.Close()
	must(t, one.Set(limited(t), []byte("k"), []byte("one"), 0))
	mustMiss(t, other, "k")
	must(t, other.Set(limited(t), []byte("k"), []byte("other"), 0))
	mustGet(t, one, "k", "one")
	must(t, other.Close())
	mustGet(t, one, "k", "one")
	sound(t, one)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("files: %v, %v", left, err)
	}
	if one.Table() != nil || len(one.Differences()) != 0 {
		t.Errorf("%v, %v", one.Table(), one.Differences())
	}
	if st, err := one.Stats(); err != nil || len(st.Processes) != 1 || st.Records != 1 {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestPrivate_Goroutines_NothingTornOrLost(t *testing.T) {
	c := private(t, flagstone.Options{Entries: 2000, Shards: 2, MaxValue: 2000}) // nothing is evicted
	var working sync.WaitGroup
	for g := range 4 {
		working.Go(func() {
			own := fmt.Appendf(nil, "own-%d", g)
			for i := range 300 {
				own := fmt.Appendf(own, "-%d", i%10)
				value := bytes.Repeat([]byte{byte('a' + i%26)}, 1+i*5)
				if err := errors.Join(c.Set(limited(t), own, value, time.Hour), c.Set(limited(t), []byte("hot"), value, 0)); err != nil {
					t.Error(err)
					return
				}
				if v, ok, err := c.Get(nil, own); err != nil || !ok || !bytes.Equal(v, value) {
					t.Errorf("%s: %d bytes, %v, %v", own, len(v), ok, err)
					return
				}
				if v, ok, err := c.Get(nil, []byte("hot")); err != nil || !ok || !whole(v) {
					t.Errorf("hot: %q, %v, %v", v, ok, err)
					return
				}
			}
		})
	}
	working.Wait()
	sound(t, c)
}

func TestPrivate_Time_IsTheProcesss(t *testing.T) {
	c := private(t, flagstone.Options{Entries: 100})
	must(t, c.Set(limited(t), []byte("k"), []byte("v"), 100*time.Millisecond))
	must(t, c.Set(limited(t), []byte("kept"), []byte("v"), time.Hour))
	eventually(t, "expires", func() bool { _, ok, err := c.Get(nil, []byte("k")); must(t, err); return !ok })
	mustGet(t, c, "kept", "v")
	eventually(t, "grows old", func() bool {
		hashes, err := c.Evict(limited(t), 40*time.Millisecond, 10) // counting from a stamp
		must(t, err)
		return slices.Contains(hashes, c.HashOf([]byte("kept")))
	})
	mustMiss(t, c, "kept")
}

func TestPrivate_Closed_ErrClosedAndMemoryGoes(t *testing.T) {
	c, err := flagstone.Open(context.Background(), "", flagstone.Options{Private: true})
	must(t, err)
	must(t, c.Set(limited(t), []byte("k"), []byte("v"), 0))
	hash, events := c.HashOf([]byte("k")), c.Watch(context.Background())
	mustGet(t, c, "k", "v")
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for range 2 {
		must(t, c.Close())
	}
	if after := heap(); after > before-60<<20 {
		t.Errorf("%d bytes of heap, %d before", after, before)
	}
	for range events {
	}
	for k, want := range map[string]bool{"k": true, "other": false} {
		if v, ok, err := c.Get(nil, []byte(k)); ok || !errors.Is(err, flagstone.ErrClosed) {
			t.Errorf("%s, was there %v: %q, %v, %v", k, want, v, ok, err)
		}
	}
	mustFail(t, c.Set(limited(t), []byte("k"), nil, 0), flagstone.ErrClosed)
	mustFail(t, scan(limited(t), c, nil), flagstone.ErrClosed)
	_, err = c.Stats()
	mustFail(t, err, flagstone.ErrClosed)
	if c.HashOf([]byte("k")) != hash {
		t.Error("another hash")
	}
	for range c.Watch(context.Background()) {
	}
}

func TestPrivate_CloseWhileUsed_ErrClosedAndNothingElse(t *testing.T) {
	c, err := flagstone.Open(context.Background(), "", flagstone.Options{Private: true, Entries: 100})
	must(t, err)
	must(t, c.Set(limited(t), []byte("k"), []byte("v"), 0))
	var working, busy sync.WaitGroup
	for range 4 {
		busy.Add(1)
		working.Go(func() {
			for i := 0; ; i++ {
				v, ok, err := c.Get(nil, []byte("k"))
				if err == nil && ok && string(v) == "v" {
					err = c.Set(context.Background(), []byte("k"), []byte("v"), time.Hour)
				}
				if i == 0 {
					busy.Done()
				}
				if errors.Is(err, flagstone.ErrClosed) {
					return
				}
				if err != nil || !ok {
					t.Errorf("%q, %v, %v", v, ok, err)
					return
				}
			}
		})
	}
	busy.Wait()
	must(t, c.Close())
	working.Wait()
}

func TestPrivate_Watch_EndsWithContext(t *testing.T) {
	c := private(t, flagstone.Options{Entries: 1})
	ctx, cancel := context.WithCancel(context.Background())
	events := c.Watch(ctx)
	select {
	case e := <-events:
		t.Errorf("%+v", e)
	default:
	}
	cancel()
	for e := range events {
		t.Errorf("%+v", e)
	}
}

func TestPrivate_Impossible_TypedError(t *testing.T) {
	for name, c := range map[string]struct {
		options flagstone.Options
		want    error
	}{
		"ReadOnly": {flagstone.Options{ReadOnly: true}, flagstone.ErrOptions},
		"regions":  {flagstone.Options{Regions: 1 << 20}, flagstone.ErrOptions},
		"shards":   {flagstone.Options{Shards: 3}, flagstone.ErrOptions},
		"huge":     {flagstone.Options{Size: 1 << 41}, flagstone.ErrNoSpace},
		"hugest":   {flagstone.Options{Size: math.MaxInt64 / 2}, flagstone.ErrNoSpace},
	} {
		t.Run(name, func(t *testing.T) {
			c.options.Private = true
			_, err := flagstone.Open(limited(t), name, c.options)
			mustFail(t, err, c.want)
		})
	}
}
