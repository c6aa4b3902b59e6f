package main

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestMedian_OddEvenNone(t *testing.T) {
	if m := median([]float64{9, 1, 5}); m != 5 {
		t.Error("odd:", m)
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Error("even:", m)
	}
	if m := median(nil); !math.IsNaN(m) {
		t.Error("none:", m)
	}
}

func TestBootstrap_OneValue_IsTheInterval(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	if i := bootstrap(r, []float64{7, 7, 7}); i != (interval{7, 7}) {
		t.Error(i)
	}
}

// For 1 to 100 the interval that the binomial distribution gives for the median
// goes from the 40th to the 61st value.
func TestBootstrap_HundredValues_AgreesWithTheBinomialInterval(t *testing.T) {
	values := make([]float64, 100)
	for i := range values {
		values[i] = float64(i + 1)
	}
	i := bootstrap(rand.New(rand.NewPCG(1, 1)), values)
	if math.Abs(i.Low-40) > 3 || math.Abs(i.High-61) > 3 {
		t.Error(i)
	}
	if again := bootstrap(rand.New(rand.NewPCG(1, 1)), values); again != i {
		t.Error("same seed:", i, again)
	}
}

// Over many samples of a known distribution, the interval has the true median
// about as often as it says.
func TestBootstrap_NormalSamples_CoversTheMedian(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	const trials = 100
	covered := 0
	for range trials {
		values := make([]float64, 40)
		for i := range values {
			values[i] = r.NormFloat64()
		}
		if i := bootstrap(r, values); i.Low <= 0 && 0 <= i.High {
			covered++
		}
	}
	if covered < 88 {
		t.Errorf("%d of %d intervals have the median", covered, trials)
	}
}

func TestVerdict_IntervalWithinAcrossBeyond(t *testing.T) {
	for _, c := range []struct {
		target *target
		in     interval
		want   string
	}{
		{nil, interval{0, 9}, ""},
		{atMost(1), interval{0.8, 0.9}, "met"},
		{atMost(1), interval{0.8, 1}, "met"},
		{atMost(1), interval{0.9, 1.1}, "undecided"},
		{atMost(1), interval{1, 1.1}, "undecided"},
		{atMost(1), interval{1.01, 1.1}, "missed"},
		{atLeast(1), interval{1.1, 1.2}, "met"},
		{atLeast(1), interval{1, 1.2}, "met"},
		{atLeast(1), interval{0.9, 1.1}, "undecided"},
		{atLeast(1), interval{0.8, 0.9}, "missed"},
	} {
		if got := c.target.verdict(c.in); got != c.want {
			t.Errorf("%v of %v: %q, want %q", c.target, c.in, got, c.want)
		}
	}
}
