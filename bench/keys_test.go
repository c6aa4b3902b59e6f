package main

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/flagstone-shm/flagstone/slab"
)

func TestZipf_ManyDraws_FollowsTheDistribution(t *testing.T) {
	const n, draws = 10_000, 400_000
	z := newZipf(rand.New(rand.NewPCG(1, 2)), n, zipfTheta)
	counts := make([]float64, n)
	for range draws {
		counts[z.next()]++ // panics past the last rank
	}
	// The generator is exact for the first two ranks and an approximation after them.
	for rank, tolerance := range []float64{0.02, 0.03} {
		want := draws / (z.zetan * math.Pow(float64(rank+1), zipfTheta))
		if math.Abs(counts[rank]/want-1) > tolerance {
			t.Errorf("rank %d: %v draws, want about %v", rank, counts[rank], want)
		}
	}
	for _, top := range []int{10, 100, 1000} {
		got, want := 0.0, 0.0
		for i := range top {
			got += counts[i] / draws
			want += math.Pow(float64(i+1), -zipfTheta) / z.zetan
		}
		if math.Abs(got-want) > 0.03 {
			t.Errorf("first %d ranks: %.3f of all draws, want about %.3f", top, got, want)
		}
	}
}

func TestStream_Part_HasItsKeysAndValues(t *testing.T) {
	s := newRecords([]uint32{3, 1, 2}, 64)
	if s.part(5, 1).len() != 0 {
		t.Error("there is something after the end")
	}
	p := s.part(1, 5)
	if p.len() != 2 || !bytes.Equal(p.key(0), s.key(1)) || p.keyText(1) != string(s.key(2)) || !bytes.Equal(p.value(1), s.value(2)) {
		t.Error("not the last two records")
	}
}

func TestWorkload_Records_AreAllAndDistinct(t *testing.T) {
	const n = 5000
	w := newWorkload(shape{n, 1 << 13}, 1, 0)
	records, values, blocks := make(map[string]bool), make(map[string]bool), 0
	for s := range w.records(forOrder) {
		for i := range s.len() {
			records[s.keyText(i)], values[string(s.value(i)[:16])] = true, true
		}
		blocks++
	}
	if blocks < 2 {
		t.Error("all in one block")
	}
	if len(records) != n || len(values) != n {
		t.Errorf("%d keys, %d values, want %d", len(records), len(values), n)
	}
	for name, inside := range map[string]bool{"uniform": true, "zipf": true, "hot": true, "records": true, "kept": true, "absent": false} {
		keys := w.keys(name)
		for i := range keys.len() {
			if records[keys.keyText(i)] != inside {
				t.Fatalf("%s: key %d: stored %v, want %v", name, i, !inside, inside)
			}
		}
	}
}

// Two sequences that agreed would put popular records side by side in memory.
func TestWorkload_Orders_Differ(t *testing.T) {
	w := newWorkload(shape{1000, 64}, 1, 0)
	stored := w.order(forOrder)
	if slices.Equal(stored, w.order(forWarmth)) {
		t.Error("stored and warmed in the same order")
	}
	if slices.Equal(stored, shuffled(w.random(0, forScatter), w.Entries)) {
		t.Error("stored in the order of popularity")
	}
}

func TestWorkload_Kept_LeavesSomeToGrowOld(t *testing.T) {
	w := newWorkload(shape{1000, 64}, 1, 0)
	for s := w.keys("kept"); s.len() > 0; s = s.part(1, s.len()) {
		if idOf(s.key(0)) < 1000/evictedShare {
			t.Fatal("key", idOf(s.key(0)))
		}
	}
}

func TestShape_Slab_RecordFitsOneCell(t *testing.T) {
	for _, value := range []int{8, 16, 64, 1 << 10, 64 << 10} {
		o, err := shape{1000, value}.slab()
		if err != nil {
			t.Fatal(err)
		}
		g, err := slab.Plan(slab.Options{Entries: o.Entries, CellSize: o.CellSize, MaxKey: o.MaxKey, MaxValue: o.MaxValue})
		spare := int(g.Payload()) - keySize - value
		if err != nil || g.Reserve != 1 || spare < 0 || spare >= cellStep || o.MaxValue != value+spare {
			t.Errorf("values of %d B: %+v, %v", value, g, err)
		}
	}
}
