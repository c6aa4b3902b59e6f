package fuzz

import (
	"context"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/lock"
)

// owner is somebody in a domain whose others are all dead, or all alive.
type owner struct{ othersDead bool }

func (owner) Token() uint64      { return lock.Token(3, 5) }
func (o owner) Dead(uint64) bool { return o.othersDead }
func (owner) Ask(uint64)         {}

func FuzzLockWord(f *testing.F) {
	me, other := lock.Token(3, 5), lock.Token(0, 1)
	for _, word := range []uint64{
		0, me, other, lock.Token(3, 4), lock.Token(65534, 1<<32-1), 1 << 32, 1 << 16,
		layout.LockWaiters, layout.LockStarved, layout.LockInconsistent, layout.LockFlagMask, 8,
		other | layout.LockWaiters, other | layout.LockStarved, me | layout.LockFlagMask, 0xfffffff9, 1<<64 - 1,
	} {
		f.Add(word, uint32(0), true, true)
		f.Add(word, uint32(1<<32-1), false, false)
	}
	f.Fuzz(func(t *testing.T, start uint64, door uint32, othersDead, keep bool) {
		var word layout.Uint64
		var futex layout.Uint32
		word.Store(start)
		futex.Store(door)
		m := lock.New(&word, &futex, owner{othersDead}, new(lock.Counters))
		m.Holder()
		ctx := limited(t)
		holder := start &^ layout.LockFlagMask
		if stuck := holder != 0 && holder != me && !othersDead; stuck {
			short, cancel := context.WithTimeout(ctx, 200*time.Microsecond)
			defer cancel()
			if _, err := m.Lock(short); err == nil || allow(err, lock.ErrBusy) != nil {
				t.Fatalf("%#x, whose owner lives: %v", start, err)
			}
			if ok, _ := m.TryLock(); ok || word.Load()&^layout.LockFlagMask != holder {
				t.Fatalf("%#x was taken from the living, is %#x", start, word.Load())
			}
			return
		}
		consistent, err := m.Lock(ctx)
		must(t, err)
		if want := holder == 0 && start&layout.LockInconsistent == 0; consistent != want {
			t.Fatalf("%#x: consistent is %v", start, consistent)
		}
		if now := word.Load(); now&^layout.LockFlagMask != me {
			t.Fatalf("%#x: taken, is %#x", start, now)
		}
		for range 2 { // what is left behind is as good as a new lock
			must(t, m.Unlock(keep))
			if now := word.Load(); now&^layout.LockFlagMask != 0 || now&layout.LockInconsistent == 0 != keep {
				t.Fatalf("%#x: unlocked, is %#x", start, now)
			}
			if consistent, err = m.Lock(ctx); err != nil || consistent != keep {
				t.Fatalf("%#x: again: %v, %v", start, consistent, err)
			}
		}
		must(t, m.Unlock(true))
		m.Close()
		if _, err := m.Lock(ctx); allow(err, lock.ErrClosed) != nil || err == nil {
			t.Fatal(err)
		}
	})
}
