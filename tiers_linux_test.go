package flagstone_test

import (
	"fmt"
	"testing"

	"github.com/flagstone-shm/flagstone"
)

// Two handles: one grows, fills and drains, the other sees every key throughout.
func TestTiers_GrowFillDrain_OtherHandleMissesNothing(t *testing.T) {
	o := options(t.TempDir())
	o.Entries, o.MaxValue = 1000, 100
	a, b := open(t, o), open(t, o)
	below, err := a.Grow(limited(t), "cold", flagstone.Shape{Entries: 3000})
	must(t, err)
	const n = 3000
	for i := range n {
		must(t, a.Set(limited(t), fmt.Append(nil, i), fmt.Append(nil, "v", i), 0))
	}
	look := func() {
		t.Helper()
		for i := range n {
			mustGet(t, b, fmt.Sprint(i), fmt.Sprint("v", i))
		}
	}
	look()
	for i := range n {
		if i%5 != 0 {
			found, err := b.Delete(limited(t), fmt.Append(nil, i))
			if must(t, err); !found {
				t.Fatal(i)
			}
		}
	}
	moved, err := below.Drain(limited(t))
	must(t, err)
	if tiers, err := b.Tiers(); err != nil || len(tiers) != 1 || moved == 0 {
		t.Fatal(tiers, err, moved)
	}
	for i := range n {
		if _, ok, err := b.Get(nil, fmt.Append(nil, i)); ok != (i%5 == 0) || err != nil {
			t.Fatal(i, ok, err)
		}
	}
}
