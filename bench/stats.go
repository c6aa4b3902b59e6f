package main

import (
	"math"
	"math/rand/v2"
	"slices"
)

// resamples is how many bootstrap samples make an interval.
const resamples = 2000

// median returns the middle of the values, NaN if there are none.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	if n == 0 {
		return math.NaN()
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}

// interval is a range that has the median with 95% confidence.
type interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// bootstrap returns the percentile interval of the medians of samples drawn from
// values with replacement.
func bootstrap(r *rand.Rand, values []float64) interval {
	medians := make([]float64, resamples)
	sample := make([]float64, len(values))
	for i := range medians {
		for j := range sample {
			sample[j] = values[r.IntN(len(values))]
		}
		medians[i] = median(sample)
	}
	slices.Sort(medians)
	cut := resamples / 40
	return interval{medians[cut], medians[resamples-1-cut]}
}

// target is a bound on a ratio.
type target struct {
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"at_least,omitempty"` // else at most
}

func atMost(limit float64) *target  { return &target{Limit: limit} }
func atLeast(limit float64) *target { return &target{Limit: limit, AtLeast: true} }

// verdict says where the whole interval lies.
func (t *target) verdict(i interval) string {
	if t == nil {
		return ""
	}
	within, beyond := i.High <= t.Limit, i.Low > t.Limit
	if t.AtLeast {
		within, beyond = i.Low >= t.Limit, i.High < t.Limit
	}
	switch {
	case within:
		return "met"
	case beyond:
		return "missed"
	}
	return "undecided"
}
