package flagstone

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone/slab"
)

// world is a stack under a load that stays the same: so many bytes a second are written,
// each of them once, and used for so long; what is full passes its oldest on. It is
// all that a decision knows of a real one.
type world struct {
	capacity  uint64 // of each tier
	tiers     uint64
	rate      uint64 // bytes written per second
	lifetime  uint64 // after which records are deleted, milliseconds
	hitPeriod uint64 // hits per second in the last tier
	now       uint64
}

// live is how much there would be without a limit.
func (w *world) live() uint64 { return w.rate * w.lifetime / 1000 }

// fills spreads what there is over the tiers, the youngest in the first.
func (w *world) fills() (tiers [][]slab.Fill) {
	left := w.live()
	for n := range w.tiers {
		f := slab.Fill{Used: min(left, w.capacity), Room: w.capacity}
		left -= f.Used
		if f.Known = f.Used > 0; f.Known {
			age := min((n*w.capacity+f.Used)*1000/w.rate, w.lifetime)
			f.Oldest = w.now - min(age, w.now)
		}
		tiers = append(tiers, []slab.Fill{f})
	}
	return tiers
}

func (w *world) observation() observation {
	see := observation{
		now: w.now, tiers: int(w.tiers), last: w.tiers, size: w.capacity, below: (w.tiers - 1) * w.capacity,
		hits: float64(w.hitPeriod),
	}
	see.leaving, see.staying = pressure(w.fills(), w.now)
	return see
}

// run lets the steward decide for so many looks and returns how often the number of tiers
// changed.
func (w *world) run(m *mind, p policy, looks int) (changes int) {
	for range looks {
		w.now += 100
		switch do, _ := m.decide(p, w.observation()); do {
		case grow:
			w.tiers++
		case shrink:
			w.tiers--
		default:
			continue
		}
		changes++
		m.changed(w.now)
	}
	return changes
}

// Whatever the load, as long as it stays the same the steward comes to rest, with what
// was asked for kept as far as the budget goes. Then the demand changes, and it does again.
func TestSteward_ConstantLoad_ComesToRestAndKeepsTheMinimumAge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{capacity: 1 << 20, tiers: 1, now: 1 << 40}
		p := policy{
			keep:   rapid.Uint64Range(1, 600_000).Draw(t, "keep"),
			budget: rapid.Uint64Range(0, 8).Draw(t, "budget") << 20,
			below:  float64(rapid.Uint64Range(0, 100).Draw(t, "below")),
		}
		m := &mind{}
		for range 3 {
			w.rate = rapid.Uint64Range(1<<10, 1<<22).Draw(t, "rate")
			w.lifetime = max(rapid.Uint64Range(0, 160).Draw(t, "live, in 32nds of a tier")*w.capacity/32*1000/w.rate+20, 1)
			w.hitPeriod = rapid.Uint64Range(0, 200).Draw(t, "hits")
			w.run(m, p, 2000)
			if n := w.run(m, p, 2000); n != 0 {
				t.Fatalf("%d changes though nothing changes: %+v", n, w)
			}
			see := w.observation()
			if see.leaving < p.keep && p.affords(see) > 0 {
				t.Fatalf("records of %d ms go, and there is room in the budget: %+v", see.leaving, w)
			}
			if most := max(p.budget, w.capacity); (w.tiers-1)*w.capacity > most && p.budget != 0 {
				t.Fatalf("%d tiers exceed the budget", w.tiers)
			}
			if w.tiers > 1 && w.live() <= (w.tiers-1)*w.capacity*3/4 {
				t.Fatalf("what there is has room in %d tiers: %+v", w.tiers-1, w)
			}
		}
	})
}

// Older records, and more room, never make a slab needed that was not; nor does more demand
// make one go.
func TestSteward_Decision_Monotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy{keep: rapid.Uint64Range(1, 10000).Draw(t, "keep"), budget: 4 << 20, below: 10}
		ages := rapid.Uint64Range(0, 20000)
		see := observation{
			now: 1 << 40, tiers: rapid.IntRange(1, 4).Draw(t, "tiers"), size: 1 << 20,
			leaving: ages.Draw(t, "leaving"), staying: ages.Draw(t, "staying"), hits: float64(rapid.IntRange(0, 20).Draw(t, "hits")),
		}
		see.below = uint64(see.tiers-1) << 20
		m := mind{needed: rapid.IntRange(0, 2).Draw(t, "needed"), spare: rapid.Uint64Range(0, 2).Draw(t, "spare") * (see.now - 2000) / 2}
		easier := see
		easier.leaving += rapid.Uint64Range(0, 5000).Draw(t, "older")
		easier.staying += rapid.Uint64Range(0, 5000).Draw(t, "older above")
		easier.hits -= min(easier.hits, float64(rapid.IntRange(0, 10).Draw(t, "fewer hits")))
		hard, easy := m, m
		before, _ := hard.decide(p, see)
		after, _ := easy.decide(p, easier)
		rank := map[move]int{shrink: 0, stay: 1, grow: 2, refuse: 2}
		if rank[after] > rank[before] {
			t.Fatalf("%v, and with less demand %v", before, after)
		}
	})
}

// A load at the edge, where each look finds it on the other side of it, adds nothing: it
// takes two looks.
func TestSteward_NeedInEverySecondLook_StaysAsItIs(t *testing.T) {
	m, p := mind{}, policy{keep: 1000, below: 1}
	for i := range uint64(1000) {
		see := observation{now: 1<<40 + 100*i, tiers: 2, size: 1, leaving: 999 + i%2, staying: forever, hits: math.Inf(1)}
		if do, _ := m.decide(p, see); do != stay {
			t.Fatalf("look %d: %v", i, do)
		}
	}
}

func TestSteward_DrainWithoutRoom_NotTriedAgainForAWhileThatGrows(t *testing.T) {
	m, p := mind{}, policy{keep: 1000, below: 1}
	see := observation{now: 1 << 40, tiers: 2, size: 1, leaving: forever, staying: forever}
	var tried []uint64
	for end := see.now + 2_000_000; see.now < end; see.now += 100 {
		if do, _ := m.decide(p, see); do == shrink {
			tried = append(tried, see.now)
			m.changed(see.now) // the last one takes no records
			m.stayed(see.now)
			m.changed(see.now) // and takes them again
		}
	}
	for i := 2; i < len(tried); i++ {
		if was, is := tried[i-1]-tried[i-2], tried[i]-tried[i-1]; is < was || is > mostBackoff+1000 {
			t.Fatalf("after %d ms again after %d", was, is)
		}
	}
	if len(tried) < 6 || len(tried) > 20 {
		t.Fatalf("%d tries", len(tried))
	}
}

func TestSteward_Budget_LimitsTheSizeOfSlabs(t *testing.T) {
	for _, c := range []struct{ budget, size, tier0, below, want uint64 }{
		{0, 0, 100, 0, 100}, // as much as tier 0 takes
		{0, 0, 100, 100, 0},
		{0, 30, 100, 90, 10},
		{250, 0, 100, 0, 100},
		{250, 0, 100, 200, 50},
		{250, 0, 100, 250, 0},
		{250, 0, 100, 300, 0}, // grown by somebody else
		{250, 500, 100, 0, 250},
	} {
		p := policy{keep: 1, budget: c.budget, size: c.size}
		if got := p.affords(observation{size: c.tier0, below: c.below}); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
