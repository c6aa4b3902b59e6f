package table

import (
	"sync"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// fold moves the counters of region i, whose lease the caller holds, into the
// domain's totals. Whoever dies in between has lost one figure or none, and the
// next one goes on; nothing counts twice. PROTOCOL.md, "Regions".
func (t *Table) fold(i int) {
	totals := t.totals()
	for n := range totals {
		if v := t.regionAt(i).Counters[n].Swap(0); v != 0 {
			totals[n].Add(v) // pairs with the loads in collect
		}
	}
}

func (t *reading) totals() *[32]layout.Uint64 {
	return &shm.At[layout.ControlHeader](t.win, 0).Totals
}

// sums are what Totals has returned.
type sums struct {
	mu   sync.Mutex // guards told
	told [32]uint64
}

// Totals returns the sums of the regions' counters, those of handles that were
// closed or reaped included, since the domain was made. What this handle
// returns never decreases, whatever is being folded. About 1 us per region in use.
func (t *reading) Totals() [32]uint64 {
	var now [32]uint64
	_ = t.use(func() error {
		now = t.collect()
		return nil
	})
	t.sums.mu.Lock()
	defer t.sums.mu.Unlock()
	for n := range now {
		t.sums.told[n] = max(t.sums.told[n], now[n])
	}
	return t.sums.told
}

// collect adds everything up. The totals come first, so that what is folded
// meanwhile is missed rather than counted twice, and come again until they stand
// still.
func (t *reading) collect() (sum [32]uint64) {
	before := t.loadTotals()
	for range readAttempts {
		sum = before
		for i := range int(t.header.Regions) {
			r := t.regionAt(i)
			if uint32(r.State.Load()) == layout.RegionFree { // its counters are 0
				continue
			}
			for n := range sum {
				sum[n] += r.Counters[n].Load() // pairs with the exchange in fold
			}
		}
		after := t.loadTotals()
		if after == before {
			break
		}
		before = after
	}
	return sum
}

func (t *reading) loadTotals() (all [32]uint64) {
	totals := t.totals()
	for n := range all {
		all[n] = totals[n].Load()
	}
	return all
}
