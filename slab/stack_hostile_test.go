package slab

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Damage to the tiers below, as hostile_test.go has it for one slab.

var hostileShapes = []Options{
	{Entries: 40, Shards: 2, MaxKey: 100, MaxValue: 600},
	{Entries: 30, Shards: 2, MaxKey: 100, MaxValue: 600, CellSize: 64, Order: S3FIFO},
	{Entries: 60, Shards: 2, MaxKey: 100, MaxValue: 300, CellSize: 192, OnFull: Refuse},
}

// shuffle moves records about, as everything else does not.
func shuffle(st *Stack, random *rand.Rand) error {
	from, to := st.tiers[random.IntN(3)].Slab, st.tiers[random.IntN(3)].Slab
	var err error
	switch {
	case from == to:
		_, _, err = st.Empty(bg, from, st.top.domain.Now.Load()+uint64(random.IntN(2)))
	default:
		_, err = st.Move(bg, from, to, 1<<40, 1+random.IntN(10))
	}
	return err
}

func bruise(st *Stack, segments []*shm.Segment, random *rand.Rand) {
	tier := random.IntN(len(segments))
	if random.IntN(8) > 0 { // tier 0 has tests of its own
		tier = 1 + random.IntN(len(segments)-1)
	}
	g := st.tiers[tier].geo
	shard := layout.PageSize + random.Uint64N(2)*g.shardStride()
	in := 8 * random.Uint64N(g.shardStride()/8)
	switch random.IntN(3) {
	case 0: // counters and ends of lists
		in = 8 * random.Uint64N(layout.SizeShard/8)
	case 1: // headers of cells
		in = g.cellOffset() + random.Uint64N(uint64(g.Cells))*uint64(g.CellSize) + 8*random.Uint64N(headSize/8)
	}
	if tier == 0 && in < layout.LineSize {
		return // the lock
	}
	shm.At[layout.Uint64](segments[tier].Window(), shard+in).Store(badWord(random, g))
}

func TestHostile_TiersBelowOverwrittenWhileOperationsRun_NoPanicNoHangNoBounds(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	segments := stackSegments(t, hostileShapes...)
	w := newWorld()
	stacks := []*Stack{openStack(t, w.member(0), StackOptions{Promote: true}, segments...), openStack(t, w.member(1), StackOptions{Search: InOrder}, segments...)}
	done := make(chan struct{})
	var writers, vandals sync.WaitGroup
	vandals.Go(func() {
		random := rand.New(rand.NewPCG(seed, 0))
		for {
			select {
			case <-done:
				return
			default:
			}
			bruise(stacks[0], segments, random)
			for range 200 {
				shm.Pause()
			}
		}
	})
	for i, st := range stacks {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)+1))
			for range effort(1500) {
				for _, op := range []func() error{
					func() error { return everything(bg, st, random) },
					func() error { return shuffle(st, random) },
				} {
					if err := op(); !tolerable(err) && !isTooLarge(err) {
						t.Errorf("%v", err)
						return
					}
				}
			}
		})
	}
	writers.Wait()
	close(done)
	vandals.Wait()
	recovers(t, stacks[0])
}

func TestHostile_TiersBelowAreGarbage_RebuildIsSound(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range effort(60) {
		w := newWorld()
		segments := stackSegments(t, hostileShapes...)
		st := openStack(t, w.member(0), StackOptions{Promote: true}, segments...)
		for i := range uint64(60) {
			must(t, st.Set(bg, key16(i), proof(nil, i, i), 0))
		}
		for tier := 1; tier < 3; tier++ {
			g := st.tiers[tier].geo
			share := random.IntN(100) // of words that stay
			for off := uint64(layout.PageSize); off < g.FileSize(); off += 8 {
				if random.IntN(100) >= share {
					shm.At[layout.Uint64](segments[tier].Window(), off).Store(badWord(random, g))
				}
			}
		}
		for range 5 {
			if err := everything(bg, st, random); err != nil {
				t.Fatal(err)
			}
			if err := shuffle(st, random); !tolerable(err) && !isTooLarge(err) {
				t.Fatal(err)
			}
		}
		recovers(t, st)
	}
}

func isTooLarge(err error) bool { return errors.Is(err, ErrTooLarge) && !errors.Is(err, shm.ErrBounds) }
