package table

import (
	"slices"
	"testing"
)

// Two looks that are far apart: what lies between is told all the same, in order.
func TestChanges_StagesBetweenLooks_AllTold(t *testing.T) {
	const none = StateFree // no such entry
	for _, c := range []struct {
		from, to State
		want     []EventKind
	}{
		{none, StateActive, []EventKind{Published}},
		{none, StateOpen, []EventKind{Published}},
		{none, StateDraining, []EventKind{Published, Draining}},
		{none, StateRetired, []EventKind{Published, Draining, Retired}},
		{StateActive, StateOpen, nil},
		{StateActive, StateRetired, []EventKind{Draining, Retired}},
		{StateOpen, StateDraining, []EventKind{Draining}},
		{StateOpen, StateRetired, []EventKind{Draining, Retired}},
		{StateOpen, none, []EventKind{Draining, Retired}},
		{StateDraining, StateOpen, []EventKind{Reopened}},
		{StateDraining, StateRetired, []EventKind{Retired}},
		{StateDraining, none, []EventKind{Retired}},
		{StateRetired, StateRetired, nil},
		{StateRetired, none, nil},
	} {
		look := func(s State) view {
			v := view{entries: map[entryKey]Entry{}}
			if s != none {
				v.entries[entryKey{3, 7}] = Entry{Index: 3, Generation: 7, State: s, Name: "x"}
			}
			return v
		}
		events := look(c.from).changes(look(c.to))
		var got []EventKind
		for _, e := range events {
			got = append(got, e.Kind)
			if e.Entry == nil || e.Entry.Name != "x" || !e.Time.Equal(events[0].Time) {
				t.Errorf("%v to %v: %+v", c.from, c.to, e)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v to %v: %v, want %v", c.from, c.to, got, c.want)
		}
		if got := (view{}).changes(look(c.from)); c.from == StateRetired && len(got) > 0 {
			t.Errorf("the first look tells what was before: %v", got)
		}
	}
}
