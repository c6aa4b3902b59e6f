package flagstone_test

import (
	"math"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/signal"
)

func clocked(t *testing.T) (*flagstone.Cache, *testClock) {
	clock := &testClock{}
	clock.pass(1_000_000_000)
	o := options(t.TempDir())
	o.Clock = clock
	o.Steward.Off = true // what has expired is to be there when the clock goes back
	return open(t, o), clock
}

const hour = int64(time.Hour / time.Millisecond) // in milliseconds

func TestClock_WallStepsByHours_ExpiryFollowsAndNothingAges(t *testing.T) {
	c, clock := clocked(t)
	must(t, c.Set(limited(t), []byte("k"), []byte("v"), time.Hour))
	must(t, c.Set(limited(t), []byte("for ever"), nil, flagstone.NoExpiry))
	step := func(ms int64) {
		clock.wall.Add(uint64(ms))
		c.Table().Tick()
	}
	ages := func() {
		t.Helper()
		if gone, err := c.Evict(limited(t), 0, 10); len(gone) != 0 || err != nil {
			t.Fatalf("%v aged by a step of the wall clock, %v", gone, err)
		}
	}
	ttl := func(want time.Duration) {
		t.Helper()
		if got, ok, err := c.TTL([]byte("k")); got != want || !ok || err != nil {
			t.Fatalf("%v, %v, %v, want %v", got, ok, err, want)
		}
	}
	ttl(time.Hour)
	step(hour - 1)
	ttl(time.Millisecond)
	step(1)
	mustMiss(t, c, "k")
	if _, ok, err := c.TTL([]byte("k")); ok || err != nil {
		t.Fatal(ok, err)
	}
	ages()
	step(-3 * hour) // back: good again, for longer
	ttl(3 * time.Hour)
	mustGet(t, c, "k", "v")
	ages()
	step(10 * hour)
	mustMiss(t, c, "k")
	mustGet(t, c, "for ever", "")
	ages()
}

func TestClock_MonotonicStandsStill_SuspendAgesNothingButExpires(t *testing.T) {
	c, clock := clocked(t)
	must(t, c.Set(limited(t), []byte("k"), nil, time.Hour))
	must(t, c.Set(limited(t), []byte("for ever"), nil, 0))
	clock.wall.Add(uint64(8 * hour)) // the machine slept
	c.Table().Tick()
	for r, err := range c.All(limited(t)) {
		if must(t, err); string(r.Key) != "for ever" || r.Idle != 0 {
			t.Fatalf("%+v", r)
		}
	}
	if gone, err := c.Evict(limited(t), 0, 10); len(gone) != 0 || err != nil {
		t.Fatal(gone, err)
	}
}

func TestClock_OnlyMonotonicRuns_AgesButNothingExpires(t *testing.T) {
	c, clock := clocked(t)
	must(t, c.Set(limited(t), []byte("k"), []byte("v"), time.Millisecond))
	clock.monotonic.Add(uint64(8 * hour))
	c.Table().Tick()
	if _, ok, err := c.Peek(nil, []byte("k")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	pairs, err := c.EvictPairs(limited(t), 7*time.Hour, 10)
	if len(pairs) != 1 || pairs[0].Idle != 8*time.Hour || err != nil {
		t.Fatalf("%+v, %v", pairs, err)
	}
}

// Whatever the wall clock does, nothing goes that was used within the cutoff, and
// all goes that was unused for the precision and the slack beyond it.
func TestClock_AnySteps_CutoffKeepsWhatWasUsedWithinIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "flagstone-test-")
		must(t, err)
		defer os.RemoveAll(dir)
		clock := &testClock{}
		clock.pass(uint64(24 * hour))
		c, err := flagstone.Open(t.Context(), name, flagstone.Options{
			Dir: dir, Entries: 100, MaxValue: 64, Clock: clock, Wake: signal.Options{Mode: signal.ModePoll, Poll: never},
		})
		must(t, err)
		defer c.Close()
		used := map[string]uint64{} // monotonic time
		key := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
		t.Repeat(map[string]func(*rapid.T){
			"wall": func(t *rapid.T) {
				clock.wall.Add(uint64(rapid.Int64Range(-5, 5).Draw(t, "hours") * hour))
				c.Table().Tick()
			},
			"monotonic": func(t *rapid.T) {
				clock.monotonic.Add(rapid.SampledFrom([]uint64{1, 10, 500, 999, 1000, 60_000}).Draw(t, "ms"))
				c.Table().Tick()
			},
			"set": func(t *rapid.T) {
				k := key.Draw(t, "key")
				must(t, c.Set(t.Context(), []byte(k), nil, 0))
				used[k] = clock.Monotonic()
			},
			"get": func(t *rapid.T) {
				k := key.Draw(t, "key")
				_, ok, err := c.Get(nil, []byte(k))
				if must(t, err); ok != (used[k] != 0) {
					t.Fatalf("%s is there: %v", k, ok)
				}
				if ok {
					used[k] = clock.Monotonic()
				}
			},
			"touch": func(t *rapid.T) {
				k := key.Draw(t, "key")
				ok, err := c.Touch(t.Context(), []byte(k), 0)
				if must(t, err); ok {
					used[k] = clock.Monotonic()
				}
			},
			"evict": func(t *rapid.T) {
				back := rapid.SampledFrom([]uint64{0, 1, 100, 1000, 30_000, 60_000}).Draw(t, "older than ms")
				gone, err := c.EvictPairs(t.Context(), time.Duration(back)*time.Millisecond, math.MaxInt)
				must(t, err)
				for _, p := range gone {
					if clock.Monotonic()-used[string(p.Key)] < back {
						t.Fatalf("%s was used %d ms ago", p.Key, clock.Monotonic()-used[string(p.Key)])
					}
					delete(used, string(p.Key))
				}
				for k, last := range used {
					if clock.Monotonic()-last > back+clockSlack+uint64(flagstone.DefaultPrecision/time.Millisecond) {
						t.Fatalf("%s stays though unused for %d ms", k, clock.Monotonic()-last)
					}
				}
			},
		})
	})
}
