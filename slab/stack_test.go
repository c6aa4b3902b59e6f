package slab

import (
	"errors"
	"fmt"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/shm"
)

// newStack is a stack of slabs of one process, the first of them tier 0.
func newStack(t testing.TB, w *world, o StackOptions, shapes ...Options) *Stack {
	t.Helper()
	return openStack(t, w.member(0), o, stackSegments(t, shapes...)...)
}

func stackSegments(t testing.TB, shapes ...Options) (segments []*shm.Segment) {
	for _, shape := range shapes {
		segments = append(segments, newSegment(t, shape))
	}
	return segments
}

func openStack(t testing.TB, m *member, o StackOptions, segments ...*shm.Segment) *Stack {
	t.Helper()
	tiers := []Tier{{Slab: open(t, segments[0], m)}}
	for _, seg := range segments[1:] {
		s, err := OpenBelow(seg, tiers[0].Slab, testID)
		if err != nil {
			t.Fatal(err)
		}
		tiers = append(tiers, Tier{Slab: s})
	}
	return NewStack(o, tiers...)
}

func soundStack(t testing.TB, st *Stack) {
	t.Helper()
	problems, err := st.Check(bg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
}

// What tier 0 has no room for goes down, and is found, changed and deleted there as
// anywhere.
func TestStack_TierZeroFull_OthersTakeWhatItCannotHold(t *testing.T) {
	w := newWorld()
	st := newStack(t, w, StackOptions{Promote: true}, Options{Entries: 100, Shards: 4, MaxValue: 100}, Options{Entries: 400, Shards: 4, MaxValue: 100}, Options{Entries: 800, Shards: 4, MaxValue: 100})
	const n = 1700
	for i := range uint64(n) {
		w.now.Add(1)
		if err := st.Set(bg, key16(i), fmt.Appendf(nil, "value %d", i), 0); err != nil {
			t.Fatal(err)
		}
	}
	soundStack(t, st)
	for i := range uint64(n) {
		if v, ok, err := st.Get(nil, key16(i)); string(v) != fmt.Sprintf("value %d", i) || !ok || err != nil {
			t.Fatal(i, string(v), ok, err)
		}
	}
	soundStack(t, st)
	seen := map[string]int{}
	if err := st.Scan(bg, func(r Record) bool { seen[string(r.Key)]++; return true }); err != nil || len(seen) != n {
		t.Fatalf("%d records, want %d: %v", len(seen), n, err)
	}
	for k, times := range seen {
		if times != 1 {
			t.Fatalf("%x yielded %d times", k, times)
		}
	}
	if err := st.Rebuild(bg); err != nil {
		t.Fatal(err)
	}
	soundStack(t, st)
	last := st.tiers[2].Slab
	if _, empty, err := st.Empty(bg, last, 0); err == nil || empty || !errors.Is(err, ErrFull) {
		t.Fatal(empty, err)
	}
	for i := range uint64(n) {
		switch i % 3 {
		case 0:
			if ok, err := st.Delete(bg, key16(i)); !ok || err != nil {
				t.Fatal(i, ok, err)
			}
		case 1:
			if err := st.Set(bg, key16(i), []byte("new"), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	soundStack(t, st)
	for i := range uint64(n) {
		v, ok, err := st.Get(nil, key16(i))
		if want := [...]string{"", "new", fmt.Sprintf("value %d", i)}[i%3]; string(v) != want || ok != (i%3 != 0) || err != nil {
			t.Fatal(i, string(v), ok, err)
		}
	}
	for i := range uint64(n) {
		if i%3 == 1 {
			if _, err := st.Delete(bg, key16(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	moved, empty, err := st.Empty(bg, last, 0)
	if err != nil || !empty {
		t.Fatal(moved, empty, err)
	}
	if n, err := last.Stats(); err != nil || n.Records != 0 {
		t.Fatal(n.Records, err)
	}
	if n, err := st.Move(bg, st.tiers[0].Slab, last, 1<<40, 1000); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	soundStack(t, st)
	for i := range uint64(n) {
		if _, ok, err := st.Get(nil, key16(i)); ok != (i%3 == 2) || err != nil {
			t.Fatal(i, ok, err)
		}
	}
	if err := st.Clear(bg); err != nil {
		t.Fatal(err)
	}
	if n, err := st.Len(); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	soundStack(t, st)
}
