//go:build linux

package flagstone_test

import (
	"errors"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// recorder gathers events, and uses the cache in each, as no lock is held then.
type recorder struct {
	t      *testing.T
	cache  *flagstone.Cache
	mu     sync.Mutex // guards events
	events []flagstone.Event
}

func watched(t *testing.T, o flagstone.Options) (*flagstone.Cache, *recorder) {
	r := &recorder{t: t}
	o.Steward.Off = true // its work is not what these tests are about
	o.OnEvent = r.note
	r.cache = open(t, o)
	return r.cache, r
}

func (r *recorder) note(e flagstone.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	inside := len(r.events) > 100
	r.mu.Unlock()
	if e.Kind == flagstone.EventCorrupt || inside {
		return // using it would tell of more and more
	}
	ctx := limited(r.t)
	k := keyIn(r.cache, e.Shard)
	if err := r.cache.Set(ctx, k, k, 0); err != nil && !errors.Is(err, flagstone.ErrCorrupt) {
		r.t.Errorf("inside %+v: %v", e, err)
	}
	if _, err := r.cache.Check(ctx); err != nil {
		r.t.Errorf("inside %+v: %v", e, err)
	}
}

func (r *recorder) take() []flagstone.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.events
	r.events = nil
	return out
}

// shardsOf maps the heads of the shards.
func shardsOf(t *testing.T, dir string) []*layout.Shard {
	t.Helper()
	return shardsIn(mapped(t, slabFile(t, dir)))
}

func TestOnEvent_HolderKilled_StolenAndRebuilt(t *testing.T) {
	dir := t.TempDir()
	cache, events := watched(t, options(dir))
	must(t, cache.Set(limited(t), []byte("hot"), letters(0), 0))
	c := opened(t, dir)
	c.expect("ok", "hammer", "hot")
	shard := c.stopHolding(cache)
	c.kill()
	if got := events.take(); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
	must(t, cache.Set(limited(t), keyIn(cache, shard), nil, 0))
	want := []flagstone.Event{{Kind: flagstone.EventStolen, Shard: shard}, {Kind: flagstone.EventRebuilt, Shard: shard}}
	if got := events.take(); !slices.Equal(kindsOf(got), kindsOf(want)) || got[0].Err != nil || got[1].Err != nil || got[1].Dropped != 0 {
		t.Fatalf("%+v, want %+v", got, want)
	}
	must(t, cache.Set(limited(t), keyIn(cache, shard), nil, 0))
	if got := events.take(); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
}

// kindsOf returns kinds and shards.
func kindsOf(events []flagstone.Event) (out [][2]int) {
	for _, e := range events {
		out = append(out, [2]int{int(e.Kind), e.Shard})
	}
	return out
}

func TestOnEvent_DamagedLinks_RebuiltSaysWhy(t *testing.T) {
	dir := t.TempDir()
	cache, events := watched(t, options(dir))
	for shard, head := range shardsOf(t, dir) {
		k := keyIn(cache, shard)
		must(t, cache.Set(limited(t), k, k, 0))
		head.Front.Store(1 << 31)
		must(t, cache.Set(limited(t), k, []byte("new"), 0))
		got := events.take()
		if len(got) != 1 || got[0].Kind != flagstone.EventRebuilt || got[0].Shard != shard || got[0].Err == nil || got[0].Dropped != 0 {
			t.Fatalf("%+v", got)
		}
		if s := got[0].Kind.String(); s != "rebuilt" {
			t.Fatal(s)
		}
	}
	sound(t, cache)
}

func TestOnEvent_DamagedRecord_RebuiltSaysHowManyWereGivenUp(t *testing.T) {
	dir := t.TempDir()
	cache, events := watched(t, options(dir))
	heads := shardsOf(t, dir)
	k := keyIn(cache, 0)
	must(t, cache.Set(limited(t), k, k, 0))
	f, err := os.OpenFile(slabFile(t, dir), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	st, err := cache.Stats()
	must(t, err)
	seg, err := shm.Map(f, st.FileSize)
	must(t, err)
	defer seg.Close()
	h := shm.At[layout.SlabHeader](seg.Window(), 0)
	shm.At[layout.CellHeader](seg.Window(), h.ShardOffset.Load()+h.CellOffset.Load()).ValueLength.Store(1 << 31)
	heads[0].FreeHead.Store(1 << 31) // what makes it look
	must(t, cache.Set(limited(t), k, k, 0))
	got := events.take()
	if len(got) != 1 || got[0].Kind != flagstone.EventRebuilt || got[0].Dropped != 1 || got[0].Err == nil {
		t.Fatalf("%+v", got)
	}
}

// Somebody keeps overwriting the words that a Set needs.
func TestOnEvent_ShardStaysBroken_CorruptAndErrCorrupt(t *testing.T) {
	dir := t.TempDir()
	cache, events := watched(t, options(dir))
	heads := shardsOf(t, dir)
	done := make(chan struct{})
	var vandal sync.WaitGroup
	vandal.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				for _, h := range heads {
					h.FreeHead.Store(1 << 31)
					h.Front.Store(1 << 31)
				}
			}
		}
	})
	k := []byte("k")
	var err error
	eventually(t, "a shard that stays broken", func() bool {
		err = cache.Set(limited(t), k, k, 0)
		return errors.Is(err, flagstone.ErrCorrupt)
	})
	close(done)
	vandal.Wait()
	got := events.take()
	last := got[len(got)-1]
	if last.Kind != flagstone.EventCorrupt || last.Shard != int(cache.HashOf(k)%shards) || last.Err == nil {
		t.Fatalf("%+v", last)
	}
	must(t, cache.Rebuild(limited(t)))
	sound(t, cache)
	must(t, cache.Set(limited(t), k, k, 0))
}
