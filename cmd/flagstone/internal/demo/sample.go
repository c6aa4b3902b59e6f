package demo

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/flagstone-shm/flagstone"
)

// sampleSize is how many values are computed again.
const sampleSize = 64

// sample is the comparison of the cache's values with what they should be.
type sample struct {
	Values    int      `json:"values"` // compared
	Of        int      `json:"of"`     // held by the cache
	Summaries int      `json:"summaries"`
	Texts     int      `json:"texts"`
	Different []string `json:"different,omitempty"` // keys
}

// compare computes a sample of the cache's values again, byte for byte.
func compare(ctx context.Context, cache *flagstone.Cache, t tree, seed uint64, tell func(done, of int)) (s sample, err error) {
	var keys []string
	for r, err := range cache.All(ctx) {
		if err != nil {
			return s, fmt.Errorf("list the cache: %w", err)
		}
		if key := string(r.Key); !strings.HasPrefix(key, errandKey) {
			keys = append(keys, key)
		}
	}
	s.Of = len(keys)
	keys = shuffled(keys, seed, workers+1)
	keys = keys[:min(len(keys), sampleSize)]
	for i, key := range keys {
		if ctx.Err() != nil {
			return s, context.Cause(ctx)
		}
		var want []byte
		if path, ok := strings.CutPrefix(key, summaryKey); ok {
			want, err = t.summary(path)
			s.Summaries++
		} else {
			want, err = t.text(strings.TrimPrefix(key, textKey))
			s.Texts++
		}
		if err != nil {
			return s, err
		}
		got, ok, err := cache.Get(nil, []byte(key))
		if err != nil {
			return s, fmt.Errorf("get %s: %w", key, err)
		}
		if !ok || !bytes.Equal(got, want) {
			s.Different = append(s.Different, key)
		}
		s.Values++
		tell(i+1, len(keys))
	}
	return s, nil
}
