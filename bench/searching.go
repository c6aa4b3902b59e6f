package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// searching measures lookups in caches of several tiers, by strategy: hits in the
// first, hits in the last, misses. All look into the same slabs, each handle into as
// many of them as it has tiers, so what is first is the same for all.
type searching struct{}

const (
	mostTiers   = 8
	tierShare   = 4 // a tier holds one of so many of the shape's entries
	searchShare = 5 // a contestant runs for one of so many parts of a chunk, as there are many
)

var (
	tierCounts = []int{1, 2, 4, mostTiers}
	strategies = []struct {
		name   string
		search flagstone.Search
	}{
		{"in order", flagstone.InOrder},
		{"interleaved", flagstone.Interleaved},
		{"parallel", flagstone.Parallel},
	}
	searches = []struct {
		name   string
		misses bool
		tier   func(tiers int) int // where the keys are
		two    *target             // of two tiers to one
	}{
		{"hit in first", false, func(int) int { return 0 }, atMost(1.1)},
		{"hit in last", false, func(tiers int) int { return tiers - 1 }, nil},
		{"miss", true, func(int) int { return mostTiers }, atMost(2)},
	}
)

func (searching) title() string    { return "tiers" }
func (searching) rivals() []string { return nil }

// searcher is a handle that looks into some of the tiers in some way.
type searcher struct {
	tiers, strategy int
	cache           *stone
}

func (x searching) run(ctx context.Context, s *session, st *stage) (err error) {
	all, err := openTiers(ctx, st)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, all.close()) }()
	var entrants []searcher
	defer func() {
		for _, e := range entrants {
			err = errors.Join(e.cache.cache.Close(), err)
		}
	}()
	for _, n := range tierCounts {
		for i, how := range strategies {
			if n == 1 && i > 0 { // there is nothing to choose
				break
			}
			o := flagstone.Options{Dir: st.Dir, MustExist: true, Precision: st.Precision, ReadTiers: n, Search: how.search, NoPromotion: true, Steward: flagstone.StewardOptions{Off: true}}
			c, err := flagstone.Open(ctx, all.domain, o)
			if err != nil {
				return err
			}
			entrants = append(entrants, searcher{n, i, &stone{cache: c}})
		}
	}
	times := make(map[string][][]float64) // by search and entrant
	for _, what := range searches {
		rounds, err := s.compete(ctx, x.title()+", "+what.name, st.Shape, all.play(entrants, what.tier, what.misses, st))
		if err != nil {
			return err
		}
		for i, e := range entrants {
			own := column(rounds, i, chunk.nanosPerKey)
			times[what.name] = append(times[what.name], own)
			if e.tiers == 1 {
				continue
			}
			r := row{
				Measurement: fmt.Sprintf("%s, %s, %d %s", x.title(), what.name, e.tiers, strategies[e.strategy].name),
				Shape:       st.Shape, Unit: "ns", Rival: "1 tier",
			}
			if e.tiers == 2 && strategies[e.strategy].search == flagstone.Interleaved {
				r.Target = what.two
			}
			one := times[what.name][0]
			s.add(r, own, one, quotients(own, one))
		}
	}
	s.report.Notes = append(s.report.Notes, tiersTable(entrants, times), crossovers(entrants, times))
	return nil
}

// tiered is a cache of many tiers with as many records in each.
type tiered struct {
	*stacked
	domain string
	each   int
}

// openTiers makes a cache of mostTiers, the records of tier i having the ids from
// i*each on.
func openTiers(ctx context.Context, st *stage) (t *tiered, err error) {
	o := st.options
	o.Domain += "-tiers"
	t = &tiered{domain: o.Domain, each: st.Shape.Entries / tierShare}
	o.Shape.Entries = t.each
	progress("fill", mostTiers, "tiers with", o.Shape)
	if t.stacked, err = openStacked(ctx, o, mostTiers, t.each); err != nil {
		return nil, err
	}
	m, err := newMover(t.stacked)
	if err == nil {
		err = errors.Join(t.fill(ctx, m, st), m.close())
	}
	if err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// fill stores the records of each tier in the first, from the last tier on, and moves
// them down.
func (t *tiered) fill(ctx context.Context, m *mover, st *stage) error {
	r := rand.New(rand.NewPCG(st.Seed, forOrder))
	for tier := mostTiers - 1; tier >= 0; tier-- {
		ids := shuffled(r, t.each)
		for i := range ids {
			ids[i] += uint32(tier * t.each)
		}
		if err := each(newRecords(ids, st.Shape.Value), t.set); err != nil {
			return fmt.Errorf("fill tier %d: %w", tier, err)
		}
		if tier > 0 {
			if err := m.moveAll(ctx, 0, tier, t.each); err != nil {
				return fmt.Errorf("fill tier %d: %w", tier, err)
			}
		}
	}
	return nil
}

// play returns the searchers as entrants, each of which looks up keys of one tier.
func (t *tiered) play(searchers []searcher, tier func(tiers int) int, misses bool, st *stage) (entrants []entrant) {
	streams := make(map[int]stream)
	r := rand.New(rand.NewPCG(st.Seed, forKeys))
	for _, e := range searchers {
		from := tier(e.tiers)
		keys, made := streams[from]
		if !made {
			n := uint32(t.each)
			keys = newStream(drawn(min(4*t.each, longest), func() uint32 { return uint32(from)*n + r.Uint32N(n) }), st.Shape.Value)
			streams[from] = keys
		}
		p := newPlayer(e.cache, ops["get"], keys, misses)
		entrants = append(entrants, entrant{
			fmt.Sprintf("%d %s", e.tiers, strategies[e.strategy].name),
			func(_ int, d time.Duration) (chunk, error) { return p.run(d / searchShare) },
		})
	}
	return entrants
}

// tiersTable shows all medians, and how many times one tier's they are.
func tiersTable(entrants []searcher, times map[string][][]float64) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\nns per lookup (times one tier)\tstrategy")
	for _, n := range tierCounts {
		fmt.Fprintf(w, "\t%d", n)
	}
	for _, what := range searches {
		for i, how := range strategies {
			fmt.Fprintf(w, "\n%s\t%s", what.name, how.name)
			for k, e := range entrants {
				if ns := times[what.name][k]; e.tiers == 1 || e.strategy == i {
					fmt.Fprintf(w, "\t%s (%.2f)", figure(median(ns)), median(quotients(ns, times[what.name][0])))
				}
			}
		}
	}
	w.Flush()
	return text.String()
}

// crossovers says from which share of lookups beyond the first tier on the other
// strategies are faster than going in order.
func crossovers(entrants []searcher, times map[string][][]float64) string {
	var text strings.Builder
	text.WriteString("\ncrossover: faster than in order if more than so many of all lookups\n")
	for k, e := range entrants {
		if e.tiers == 1 || e.strategy == 0 {
			continue
		}
		inOrder := k - e.strategy
		gain := func(what string) float64 { return median(times[what][inOrder]) - median(times[what][k]) }
		fmt.Fprintf(&text, "  %d tiers, %s: %s hit in the last, or %s miss\n", e.tiers, strategies[e.strategy].name,
			crossover(gain("hit in first"), gain("hit in last")), crossover(gain("hit in first"), gain("miss")))
	}
	return text.String()
}

// crossover returns for which share of the other lookups the gains, in time per
// lookup, make up for losses among those that hit in the first tier.
func crossover(first, other float64) string {
	switch {
	case first >= 0 && other >= 0:
		return "any"
	case first <= 0 && other <= 0:
		return "never"
	case first > 0:
		return fmt.Sprintf("less than %.0f%%", 100*first/(first-other))
	}
	return fmt.Sprintf("%.0f%%", 100*-first/(other-first))
}
