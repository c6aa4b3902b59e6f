package flagstone

import (
	"fmt"
	"math"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// observation is what a steward sees of the stack at one time.
type observation struct {
	now   uint64  // domain time in milliseconds
	tiers int     // that take records
	last  uint64  // segment id of the last of them
	size  uint64  // bytes of the first one
	below uint64  // bytes of the others, with those that are being drained
	hits  float64 // per second in the last tier; infinite as long as it is not known

	// leaving is how long ago the youngest of those records was used that go next, milliseconds, in
	// the shards that are nearly full; forever if there are none. Staying is the same if there were no last
	// tier, in the shards that would be tight.
	leaving, staying uint64

	draining bool // a slab is
}

const forever = math.MaxUint64

// A column is nearly full if this part of its bytes is in use, and tight without the last
// tier if more than this part of the others' would be. The distance between them, and
// the one between KeepFor and longer, is what keeps a steward from adding what it has just
// taken away, and from taking away what it has just added.
const nearlyFull, tight = 7.0 / 8, 3.0 / 4

func full(used, room uint64) bool { return float64(used) >= nearlyFull*float64(room) }

// pressure returns leaving and staying, given how full each shard of each tier is.
func pressure(tiers [][]slab.Fill, now uint64) (leaving, staying uint64) {
	leaving, staying = forever, forever
	upper := tiers[:len(tiers)-1]
	for i := range tiers[0] {
		used, room, without := uint64(0), uint64(0), uint64(0)
		for _, t := range tiers {
			used += t[i].Used
			without = room
			room += t[i].Room
		}
		oldest := age(tiers, i, now)
		if full(used, room) {
			leaving = min(leaving, oldest)
		}
		if float64(used) > tight*float64(without) {
			if above := age(upper, i, now); above != forever {
				oldest = above
			}
			staying = min(staying, oldest)
		}
	}
	return leaving, staying
}

// age returns how long the record was unused that goes next of column i: it stands in
// the lowest tier that has any.
func age(tiers [][]slab.Fill, i int, now uint64) uint64 {
	for n := len(tiers) - 1; n >= 0; n-- {
		if f := tiers[n][i]; f.Known {
			return now - min(f.Oldest, now)
		}
	}
	return forever
}

// open returns the tiers of the view that take records.
func (v *view) open() (tiers []tier) {
	for _, t := range v.tiers {
		if t.entry.State != table.StateDraining {
			tiers = append(tiers, t)
		}
	}
	return tiers
}

// observe looks at the stack. The fills are those of the tiers that take records.
func (c *Cache) observe(v *view) (see observation, fills [][]slab.Fill, err error) {
	see = observation{now: c.now(), hits: math.Inf(1), size: v.tiers[0].entry.Size}
	for _, t := range v.tiers[1:] {
		see.below += t.entry.Size
	}
	tiers := v.open()
	for _, t := range tiers {
		f, err := t.slab.Fills()
		if err != nil {
			return see, nil, err
		}
		fills = append(fills, f)
	}
	if len(tiers) == 0 { // tier 0 is being retired, or somebody says so
		return see, nil, fmt.Errorf("slab %q: %w", v.tiers[0].entry.Name, ErrRetired)
	}
	see.tiers, see.last = len(tiers), tiers[len(tiers)-1].entry.SegmentID
	see.draining = len(tiers) < len(v.tiers)
	see.leaving, see.staying = pressure(fills, see.now)
	return see, fills, nil
}

// hitRate measures hits per second in one tier, from what all handles publish once a
// second.
type hitRate struct {
	segment    uint64
	since, was uint64
	rate       float64
}

// rateWindow is how long it measures, in milliseconds.
const rateWindow = 2500

// of returns the rate in the tier; infinite until it is known.
func (r *hitRate) of(e table.Entry, now uint64, total func() Counters) float64 {
	first := r.segment != e.SegmentID || now < r.since
	if !first && now-r.since < rateWindow {
		return r.rate
	}
	hits := total().TierHits[min(e.Tier, layout.TierCounters-1)]
	if first {
		r.rate = math.Inf(1)
	} else {
		r.rate = float64(hits-min(r.was, hits)) * 1000 / float64(now-r.since)
	}
	r.segment, r.since, r.was = e.SegmentID, now, hits
	return r.rate
}
