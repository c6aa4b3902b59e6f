package main

import (
	"context"
	"errors"
	"testing"
)

func TestCrossover_GainsAndLosses_MeetWhereTheyAreEqual(t *testing.T) {
	for _, c := range []struct {
		first, other float64
		want         string
	}{
		{0, 0, "any"},
		{1, 1, "any"},
		{-1, 0, "never"},
		{-1, -1, "never"},
		{-10, 90, "10%"}, // 0.9 * -10 + 0.1 * 90 is nothing
		{10, -90, "less than 10%"},
	} {
		if got := crossover(c.first, c.other); got != c.want {
			t.Errorf("%v and %v: %s, want %s", c.first, c.other, got, c.want)
		}
	}
}

func TestTiers_Filled_HoldTheirOwnRecords(t *testing.T) {
	st := newStage(testOptions(t), "bench")
	all, err := openTiers(context.Background(), st)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := all.close(); err != nil {
			t.Error(err)
		}
	}()
	m, err := newMover(all.stacked)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.close(); err != nil {
			t.Error(err)
		}
	}()
	for i, tier := range m.tiers {
		if s, err := tier.Slab.Stats(); err != nil || s.Records != uint64(all.each) {
			t.Errorf("tier %d: %d records, want %d, %v", i, s.Records, all.each, err)
		}
	}
}

func TestArchivist_MoveAndRestore_LeavesAllInTheFirstTier(t *testing.T) {
	o := testOptions(t)
	o.Precision = 1_000_000
	two, c, err := openTwo(context.Background(), newStage(o, "bench"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := newArchivist(two, c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(a.mover.close(), two.close()); err != nil {
			t.Error(err)
		}
	}()
	below := func() uint64 {
		s, err := a.mover.tiers[1].Slab.Stats()
		if err != nil {
			t.Fatal(err)
		}
		return s.Records
	}
	if done, _, err := a.move(context.Background()); err != nil || below() != uint64(done.Keys) {
		t.Fatal(done, below(), err)
	}
	if err := a.restore(context.Background()); err != nil || below() != 0 {
		t.Fatal(below(), err)
	}
	if n, err := a.cache.Len(); err != nil || int(n) != o.Shape.Entries {
		t.Error(n, err)
	}
}
