package slab

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// Epoch, turn and stamps begin again; sequence numbers end, but not before what a
// rebuild takes for garbage.
func TestLimits_WordsNearTheirEnds_NothingConfused(t *testing.T) {
	for name, shape := range map[string]Options{
		"lru":    {Entries: 600, Shards: 1, MaxValue: 200},
		"s3fifo": {Entries: 600, Shards: 1, MaxValue: 200, Order: S3FIFO},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			st := newStack(t, w, StackOptions{Promote: true}, shape, shape)
			head := st.shards[0].head
			const writes = 20_000
			head.Epoch.Store(^uint64(0) - 41) // both halves near theirs, even
			head.Turn.Store(layout.RecencyTurnMask - 3)
			head.Sequence.Store(layout.VersionHigh>>layout.VersionSequenceShift - writes - 2)
			w.now.Store(1<<48 - 1 - 200) // stamps have 48 bits; the clock itself goes on

			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			value := map[uint64]string{}
			lastVersion := uint64(0)
			for i := range writes {
				n := random.Uint64N(400) // all have room
				switch key := key16(n); random.IntN(8) {
				default:
					v := fmt.Sprint(n, " ", i)
					version, stored, err := st.Put(bg, st.Key(key), &Item{Value: []byte(v)}, Anyhow)
					if err != nil || !stored || version <= lastVersion {
						t.Fatalf("version %#x after %#x, %v, %v", version, lastVersion, stored, err)
					}
					lastVersion, value[n] = version, v
				case 0:
					_, had := value[n]
					if ok, err := st.Delete(bg, key); err != nil || ok != had {
						t.Fatalf("delete %d: %v, %v", n, ok, err)
					}
					delete(value, n)
				case 1:
					from, to := st.tiers[0].Slab, st.tiers[1].Slab
					if random.IntN(2) == 0 {
						from, to = to, from
					}
					if _, err := st.Move(bg, from, to, 1<<62, 20); err != nil {
						t.Fatal(err)
					}
				case 2:
					if i%50 == 0 {
						if err := st.Rebuild(bg); err != nil {
							t.Fatal(err)
						}
					}
				}
				n = random.Uint64N(400)
				v, ok, err := st.Get(nil, key16(n))
				if want, there := value[n]; err != nil || ok != there || string(v) != want {
					t.Fatalf("write %d, epoch %#x: %d is %q, %v, %v; want %q", i, head.Epoch.Load(), n, v, ok, err, want)
				}
				if i%100 == 0 {
					w.now.Add(1)
				}
			}
			if problems, err := st.Check(bg); err != nil || len(problems) != 0 {
				t.Fatal(problems, err)
			}
			if e := head.Epoch.Load(); e>>32 > 1<<30 || e&layout.EpochRebuildMask > 1<<30 {
				t.Fatalf("epoch %#x has not wrapped around: this test has lost its point", e)
			}
		})
	}
}
