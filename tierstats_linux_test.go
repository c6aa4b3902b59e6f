package flagstone_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/table"
)

func TestTierStats_TwoSlabs_EachItsOwn(t *testing.T) {
	o := options(t.TempDir())
	o.Entries, o.MaxValue, o.NoPromotion = 1000, 100, true
	o.Steward.Off = true // it would move records between the looks
	before, cache := time.Now(), open(t, o)
	cold, err := cache.Grow(limited(t), "cold", flagstone.Shape{Entries: 3000})
	must(t, err)
	const n = 3000
	for i := range n {
		must(t, cache.Set(limited(t), fmt.Append(nil, i), fmt.Append(nil, "v", i), 0))
	}
	for i := range n {
		mustGet(t, cache, fmt.Sprint(i), fmt.Sprint("v", i))
	}
	all, err := cache.TierStats()
	must(t, err)
	st := mustStats(t, cache)
	if len(all) != 2 || all[1].Name != "cold" || all[1].ID != cold.ID() || all[1].Tier != 1 || all[1].State != table.StateOpen {
		t.Fatalf("%+v", all)
	}
	top, below := all[0], all[1]
	if top.Records+below.Records != n || st.Records != n || below.MovedIn != below.Records || top.MovedOut != below.MovedIn {
		t.Errorf("%+v, %+v, %+v", top.Stats, below.Stats, st.Stats)
	}
	if top.HitsOwn != top.Records || below.HitsOwn != below.Records || top.HitsTotal != top.HitsOwn || below.HitsTotal != below.HitsOwn {
		t.Errorf("%d, %d of %d, %d", top.HitsOwn, below.HitsOwn, top.HitsTotal, below.HitsTotal)
	}
	if top.Oldest < 0 || top.Oldest > time.Since(before)+time.Minute || below.Oldest > time.Since(before)+time.Minute {
		t.Errorf("oldest unused for %v, %v", top.Oldest, below.Oldest)
	}
	if top.FileSize != top.Geometry.FileSize() || below.Geometry.Capacity != 3000 {
		t.Errorf("%+v", below.Geometry)
	}
	must(t, cache.Close())
	if _, err := cache.TierStats(); err == nil {
		t.Error("no error after Close")
	}
}
