//go:build linux

package flagstone_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
	"github.com/flagstone-shm/flagstone/table"
)

// tokenOf is how a child's handle stands in lock words.
func tokenOf(t *testing.T, c *flagstone.Cache, region int) uint64 {
	t.Helper()
	for _, r := range c.Table().Regions() {
		if r.Index == region {
			return lock.Token(uint32(region), r.Generation)
		}
	}
	t.Fatalf("no region %d", region)
	return 0
}

// mapped maps a whole file for reading and writing.
func mapped(t *testing.T, path string) shm.Window {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	seg, err := shm.Map(f, uint64(info.Size()))
	must(t, err)
	t.Cleanup(func() { _ = seg.Close() })
	return seg.Window()
}

// shardsIn returns the heads of a slab's shards in its file.
func shardsIn(w shm.Window) []*layout.Shard {
	h := shm.At[layout.SlabHeader](w, 0)
	heads := make([]*layout.Shard, h.Shards.Load())
	for i := range heads {
		heads[i] = shm.At[layout.Shard](w, h.ShardOffset.Load()+uint64(i)*h.ShardStride.Load())
	}
	return heads
}

// A process that only listens is named in the locks of all shards, and in one of a
// slab that it never opened; nobody waits for it for long.
func TestDisown_LockWordsNameAnIdleProcess_OthersGoOn(t *testing.T) {
	o := bystander(options(t.TempDir()))
	c := open(t, o)
	heads := shardsOf(t, o.Dir)
	idle := opened(t, o.Dir)
	other, err := c.CreateSlab(limited(t), "other", flagstone.Shape{})
	must(t, err)
	before, err := c.Stats()
	must(t, err)
	heads = append(heads, shardsIn(mapped(t, fmt.Sprintf("%s/slab-%016x", c.Table().Dir(), other.ID())))...)
	token := tokenOf(t, c, idle.region)
	for _, h := range heads {
		if !h.Lock.CompareAndSwap(0, token) {
			t.Fatalf("lock %#x", h.Lock.Load())
		}
	}
	for i := range shards {
		must(t, c.Set(limited(t), keyIn(c, i), []byte("value"), 0))
		mustGet(t, c, string(keyIn(c, i)), "value")
		must(t, other.Set(limited(t), keyIn(c, i), []byte("value"), 0))
	}
	after, err := c.Stats()
	must(t, err)
	if n := after.Rebuilds - before.Rebuilds; n != shards {
		t.Errorf("%d of %d shards were rebuilt", n, shards)
	}
	sound(t, c)
	idle.expect("true value", "get", string(keyIn(c, 0)))
}

// A slab's mutex that names a process that does not hold it is taken in the end, as in
// need of repair; the one that it holds is not.
func TestDisown_MutexNamesIdleProcess_TakenButNotWhatItHolds(t *testing.T) {
	o := bystander(options(t.TempDir()))
	a, b := open(t, o), open(t, o)
	mine, theirs := got[[]*flagstone.Slab](t)(a.Tiers())[0], got[[]*flagstone.Slab](t)(b.Tiers())[0]
	consistent, err := mine.Lock(limited(t))
	must(t, err)
	if !consistent {
		t.Fatal("inconsistent")
	}
	must(t, b.Table().Ring(a.Table().Self(), table.ReasonLocks))
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err = theirs.Lock(ctx)
	mustFail(t, err, flagstone.ErrBusy)
	must(t, mine.Unlock(true))

	e, err := entryOf(a, mine)
	must(t, err)
	w := mapped(t, controlFile(t, o.Dir))
	word := &shm.At[layout.Mutex](w, a.Table().Geometry().MutexOffset+uint64(e.MutexID)*layout.SizeMutex).Word
	word.Store(a.Table().Token())
	if consistent, err = theirs.Lock(limited(t)); err != nil || consistent {
		t.Fatal(consistent, err)
	}
	must(t, theirs.Unlock(true))
}

// A region that was overwritten as free is its owner's again when that is rung.
func TestDisown_RegionOverwritten_OwnerTakesItBack(t *testing.T) {
	o := bystander(options(t.TempDir()))
	o.Wake.Poll = 0
	a, b := open(t, o), open(t, o)
	w := mapped(t, controlFile(t, o.Dir))
	g := a.Table().Geometry()
	state := &shm.At[layout.Region](w, g.RegionOffset+uint64(a.Table().Self())*uint64(g.RegionStride)).State
	was := state.Load()
	for _, word := range []uint64{0, layout.RegionFree, ^uint64(0), was + 1<<layout.StateGenerationShift} {
		state.Store(word)
		_ = b.Table().Ring(a.Table().Self(), table.ReasonLocks)
		eventually(t, "the region is its owner's", func() bool { return state.Load() == was })
	}
}
