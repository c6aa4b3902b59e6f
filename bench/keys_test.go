package main

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
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
	s := newRecords([]uint32{3, 1, 2})
	p := s.part(1, 5)
	if p.len() != 2 || !bytes.Equal(p.key(0), s.key(1)) || p.keyText(1) != string(s.key(2)) || !bytes.Equal(p.value(1), s.value(2)) {
		t.Error("not the last two records")
	}
}

func TestWorkload_Records_AreAllAndDistinct(t *testing.T) {
	const n = 5000
	w := newWorkload(n, 1, 0)
	records, values := make(map[string]bool), make(map[string]bool)
	s := w.records(forOrder)
	for i := range s.len() {
		records[s.keyText(i)], values[string(s.value(i))] = true, true
	}
	if len(records) != n || len(values) != n {
		t.Errorf("%d keys, %d values, want %d", len(records), len(values), n)
	}
	for name, inside := range map[string]bool{"uniform": true, "zipf": true, "hot": true, "records": true, "absent": false} {
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
	w := newWorkload(1000, 1, 0)
	if bytes.Equal(w.records(forOrder).bytes, w.records(forWarmth).bytes) {
		t.Error("stored and warmed in the same order")
	}
	scattered := newStream(shuffled(w.random(0, forScatter), w.entries))
	if bytes.Equal(w.records(forOrder).bytes, scattered.bytes) {
		t.Error("stored in the order of popularity")
	}
}
