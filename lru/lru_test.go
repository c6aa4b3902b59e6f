package lru

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

const cellSize = 64

func newList(count uint32) (List, *layout.Shard, shm.Window) {
	seg := shm.Heap(layout.PageSize + uint64(count)*cellSize)
	w := seg.Window()
	head := shm.At[layout.Shard](w, 0)
	cells := w.Sub(layout.PageSize, uint64(count)*cellSize)
	return New(head, cells, cellSize, count), head, cells
}

func cellAt(w shm.Window, n uint32) *layout.CellHeader {
	return shm.At[layout.CellHeader](w, uint64(n-1)*cellSize)
}

// walk returns the list from back to front, and checks the way back.
func walk(t interface{ Fatalf(string, ...any) }, l *List, w shm.Window, head *layout.Shard) (order []uint32) {
	after := uint32(0)
	for n := l.Back(); n != 0; {
		if next := cellAt(w, n).Next.Load(); next != after || len(order) > 100 {
			t.Fatalf("cell %d points back to %d, not to %d; %v", n, next, after, order)
		}
		order = append(order, n)
		newer, err := l.Newer(n)
		if err != nil {
			t.Fatalf("%v", err)
		}
		after, n = n, newer
	}
	if head.Front.Load() != after {
		t.Fatalf("front %d, want %d", head.Front.Load(), after)
	}
	return order
}

func TestList_AnyOperations_AsASlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const count = 8
		l, head, w := newList(count)
		var model []uint32 // back first
		cell := rapid.Uint32Range(1, count)
		t.Repeat(map[string]func(*rapid.T){
			"PushFront": func(t *rapid.T) {
				n := cell.Draw(t, "cell")
				if slices.Contains(model, n) {
					t.Skip("in the list")
				}
				if err := l.PushFront(n); err != nil {
					t.Fatal(err)
				}
				model = append(model, n)
			},
			"Remove": func(t *rapid.T) {
				n := cell.Draw(t, "cell")
				at := slices.Index(model, n)
				err := l.Remove(n)
				if at < 0 != errors.Is(err, ErrBroken) {
					t.Fatalf("cell %d of %v: %v", n, model, err)
				}
				if at >= 0 {
					model = slices.Delete(model, at, at+1)
					// A cell that left has links of its own again or is used otherwise.
					cellAt(w, n).Prev.Store(0)
					cellAt(w, n).Next.Store(0)
				}
			},
			"Promote": func(t *rapid.T) {
				n := cell.Draw(t, "cell")
				at := slices.Index(model, n)
				if at < 0 {
					t.Skip("not in the list")
				}
				head.Turn.Add(1)
				stamp := Stamp(cellAt(w, n).Recency.Load())
				if err := l.Promote(n); err != nil {
					t.Fatal(err)
				}
				r := cellAt(w, n).Recency.Load()
				if Stamp(r) != stamp || Due(r, head.Turn.Load()) {
					t.Fatalf("recency %#x", r)
				}
				model = append(slices.Delete(model, at, at+1), n)
			},
			"Reset": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "rarely") == 0 {
					l.Reset()
					model = nil
					w.Zero(0, w.Len())
				}
			},
			"": func(t *rapid.T) {
				if got := walk(t, &l, w, head); !slices.Equal(got, model) {
					t.Fatalf("%v, want %v", got, model)
				}
			},
		})
	})
}

func TestList_HostileLinks_BrokenAndNothingOutOfRange(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	bad := func() uint32 {
		if random.IntN(2) == 0 {
			return random.Uint32N(12)
		}
		return random.Uint32()
	}
	const count = 8
	for range 2_000 {
		l, head, w := newList(count) // an access outside panics
		head.Front.Store(bad())
		head.Back.Store(bad())
		for n := uint32(1); n <= count; n++ {
			cellAt(w, n).Prev.Store(bad())
			cellAt(w, n).Next.Store(bad())
		}
		for range 10 {
			n := bad()
			_, err1 := l.Newer(n)
			for _, err := range []error{err1, l.Remove(n), l.PushFront(n), l.Promote(n)} {
				if err != nil && !errors.Is(err, ErrBroken) {
					t.Fatal(err)
				}
				if err == nil && (n == 0 || n > count) {
					t.Fatalf("there is a cell %d", n)
				}
			}
		}
	}
}

func TestRemove_NeighbourDoesNotNameIt_NothingChanged(t *testing.T) {
	l, head, w := newList(4)
	for n := uint32(1); n <= 3; n++ {
		if err := l.PushFront(n); err != nil {
			t.Fatal(err)
		}
	}
	cellAt(w, 1).Prev.Store(4) // of 2, the neighbour at the back disagrees
	image := func() []byte { return w.Append(nil, 0, w.Len()) }
	before, front, back := image(), head.Front.Load(), head.Back.Load()
	if err := l.Remove(2); !errors.Is(err, ErrBroken) {
		t.Fatal(err)
	}
	if !slices.Equal(before, image()) || head.Front.Load() != front || head.Back.Load() != back {
		t.Fatal("something was changed")
	}
}

func TestTouch_ForwardOnlyAndOnlyTheWordSeen(t *testing.T) {
	_, _, w := newList(1)
	c := cellAt(w, 1)
	for _, x := range []struct {
		name                 string
		word, seen, now, end uint64
	}{
		{"later", Recency(5, 3), Recency(5, 3), 9, Recency(9, 3)},
		{"same time", Recency(5, 3), Recency(5, 3), 5, Recency(5, 3)},
		{"earlier, a clock that lags", Recency(5, 3), Recency(5, 3), 4, Recency(5, 3)},
		{"another record took the cell", Recency(7, 1), Recency(5, 3), 9, Recency(7, 1)},
		{"promoted meanwhile", Recency(5, 4), Recency(5, 3), 9, Recency(5, 4)},
		{"use count stays", Recency(5, 3) | 2, Recency(5, 3) | 2, 9, Recency(9, 3) | 2},
	} {
		c.Recency.Store(x.word)
		Touch(c, x.seen, x.now, 0)
		if got := c.Recency.Load(); got != x.end {
			t.Errorf("%s: %#x, want %#x", x.name, got, x.end)
		}
	}
}

func TestDue_TurnsAreComparedModuloTheirField(t *testing.T) {
	const lap = layout.RecencyTurnMask + 1
	for _, x := range []struct {
		noted, turn uint64
		due         bool
	}{
		{0, 0, false},
		{0, 1, true},
		{3, 3, false},
		{3, 2, true},
		{lap - 1, lap - 1, false},
		{lap - 1, lap, true},
		{lap, lap, false},
		{0, lap, false}, // a whole lap later: one promotion less, no harm
		{lap + 5, 5, false},
		{5, ^uint64(0), true},
	} {
		r := Recency(1<<48-1, x.noted) | layout.RecencyCountMask
		if Due(r, x.turn) != x.due {
			t.Errorf("noted %d, turn %d: due %v", x.noted, x.turn, !x.due)
		}
		if Stamp(r) != 1<<48-1 {
			t.Errorf("turn %d runs over into the stamp: %#x", x.noted, r)
		}
	}
}

func TestWritten_TurnAdvancesOncePerTenthOfTheShard(t *testing.T) {
	for _, count := range []uint32{1, 5, 10, 95, 1000} {
		l, head, _ := newList(count)
		per := uint64(count/layout.TurnsPerLap + 1)
		for i := range 5 * per {
			l.Written()
			if want := i/per + 1; head.Turn.Load() != want {
				t.Fatalf("%d cells, %d records: turn %d, want %d", count, i+1, head.Turn.Load(), want)
			}
		}
		head.TurnLeft.Store(1<<32 - 1) // garbage does not stop the turns
		turn := head.Turn.Load()
		l.Written()
		if head.Turn.Load() != turn+1 || head.TurnLeft.Load() >= count+1 {
			t.Fatalf("%d cells: turn %d, %d left", count, head.Turn.Load(), head.TurnLeft.Load())
		}
	}
}
