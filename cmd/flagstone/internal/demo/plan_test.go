package demo

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// flat is a catalogue of n packages that cost 1,000 each, and one a hundred times that.
func flat(n int) (catalogue, []string) {
	all := catalogue{"huge": {bytes: 100_000}}
	order := []string{}
	for i := range n {
		path := fmt.Sprint("p", i)
		all[path] = source{bytes: 1000}
		order = append(order, path)
	}
	return all, slices.Insert(order, 3, "huge")
}

func TestChoose_Budget_FilledAndNotExceeded(t *testing.T) {
	all, order := flat(100)
	left := killTime + 40*time.Second
	p := choose(all, order, 0, float64(time.Millisecond), left) // a package takes 2.7 s
	if len(p.roots) < 10 || p.expected > left || slices.Contains(p.roots, "huge") {
		t.Errorf("%d roots of %v, %v", len(p.roots), p.expected, p.roots)
	}
	if p.distinct != len(p.roots) || p.needs != len(p.roots) {
		t.Errorf("%d distinct, %d needs", p.distinct, p.needs)
	}
}

func TestChoose_NothingFits_FewestRoots(t *testing.T) {
	all, order := flat(10)
	if p := choose(all, order, 0, float64(time.Hour), time.Second); len(p.roots) != minRoots {
		t.Errorf("%v", p.roots)
	}
}

func TestChoose_NumberGiven_FirstOfOrder(t *testing.T) {
	all, order := flat(10)
	if p := choose(all, order, 5, float64(time.Hour), time.Second); !slices.Equal(p.roots, order[:5]) {
		t.Errorf("%v", p.roots)
	}
}

func TestOrders_Workers_SameRootsOtherOrders(t *testing.T) {
	_, roots := flat(20)
	all := orders(roots, 7)
	for slot, o := range all {
		if slices.Equal(o, all[(slot+1)%workers]) {
			t.Errorf("workers %d and %d have the same order", slot, (slot+1)%workers)
		}
		sorted := slices.Sorted(slices.Values(o))
		if want := slices.Sorted(slices.Values(roots)); !slices.Equal(sorted, want) {
			t.Errorf("worker %d: %v", slot, sorted)
		}
	}
}
