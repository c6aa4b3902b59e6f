package lru

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

const cellSize = 64

// newOrder returns the order of a shard of its own, with room for the ghosts of
// so many buckets: lru if it is 0.
func newOrder(count uint32, ghosts uint64) (*Order, *layout.Shard, shm.Window) {
	cellBytes := uint64(count) * cellSize
	w := shm.Heap(layout.PageSize + cellBytes + ghosts*GhostSize).Window()
	head := shm.At[layout.Shard](w, 0)
	cells := w.Sub(layout.PageSize, cellBytes)
	o := New(head, cells, cellSize, count, w.Sub(layout.PageSize+cellBytes, ghosts*GhostSize))
	return &o, head, cells
}

func cellAt(w shm.Window, n uint32) *layout.CellHeader {
	return shm.At[layout.CellHeader](w, uint64(n-1)*cellSize)
}

func count(c *layout.CellHeader) uint64 { return c.Recency.Load() & layout.RecencyCountMask }

// fails is what tests and properties have in common.
type fails interface{ Fatalf(string, ...any) }

// walk returns a queue from back to front, and checks marks, ends and the way back.
func walk(t fails, o *Order, q queue, w shm.Window) (order []uint32) {
	front, back := o.ends(q)
	after := uint32(0)
	for n := back.Load(); n != 0; {
		c := cellAt(w, n)
		if next, mark := c.Next.Load(), c.Prev.Load()&layout.QueueSmall; next != after || mark != uint32(q) || len(order) > 100 {
			t.Fatalf("cell %d points back to %d, not to %d, with mark %#x, not %#x; %v", n, next, after, mark, q, order)
		}
		order = append(order, n)
		after, n = n, newer(c)
	}
	if front.Load() != after {
		t.Fatalf("front %d, want %d", front.Load(), after)
	}
	return order
}

// plain is the order in plain words: slices of records, back first, and for each
// bucket the fingerprints of those that left, youngest first.
type plain struct {
	s3          bool
	main, small []*plainRecord
	ghosts      [][]uint16
}

type plainRecord struct {
	cell, count uint32
	hash        uint64
}

func (p *plain) ghost(hash uint64) (bucket *[]uint16, fingerprint uint16) {
	return &p.ghosts[hash>>32*uint64(len(p.ghosts))>>32], uint16(hash >> 16)
}

func (p *plain) insert(r *plainRecord) {
	q := &p.main
	if p.s3 {
		bucket, fingerprint := p.ghost(r.hash)
		if at := slices.Index(*bucket, fingerprint); at >= 0 {
			(*bucket)[at] = 0
		} else {
			q = &p.small
		}
	}
	*q = append(*q, r)
}

func (p *plain) find(cell uint32) (q *[]*plainRecord, at int) {
	for _, q := range []*[]*plainRecord{&p.small, &p.main} {
		if at := slices.IndexFunc(*q, func(r *plainRecord) bool { return r.cell == cell }); at >= 0 {
			return q, at
		}
	}
	return nil, -1
}

func (p *plain) remove(cell uint32) *plainRecord {
	q, at := p.find(cell)
	r := (*q)[at]
	*q = slices.Delete(*q, at, at+1)
	return r
}

// replace gives the record of a cell another cell.
func (p *plain) replace(old, cell uint32) {
	if !p.s3 {
		r := p.remove(old)
		r.cell = cell
		p.main = append(p.main, r)
		return
	}
	q, at := p.find(old)
	r := (*q)[at]
	r.cell, r.count = cell, min(r.count+1, 3)
}

func (p *plain) victim(keep uint32) uint32 {
	oldest := func(q []*plainRecord) *plainRecord {
		for _, r := range q {
			if r.cell != keep {
				return r
			}
		}
		return nil
	}
	for relinks := 0; ; relinks++ {
		small, main := oldest(p.small), oldest(p.main)
		records := len(p.small) + len(p.main)
		switch {
		case small == nil && main == nil:
			return 0
		case small != nil && 10*len(p.small) > records:
			if small.count < 2 || relinks == layout.RelinkLimit {
				return small.cell
			}
			small.count = 0
			p.main = append(p.main, p.remove(small.cell))
		default:
			if main.count == 0 || relinks == layout.RelinkLimit {
				return main.cell
			}
			main.count--
			p.main = append(p.main, p.remove(main.cell))
		}
	}
}

func (p *plain) remember(cell uint32) {
	if q, at := p.find(cell); q == &p.small {
		bucket, fingerprint := p.ghost((*q)[at].hash)
		*bucket = slices.Insert(*bucket, 0, fingerprint)[:layout.GhostWays]
	}
}

func TestOrder_AnyOperations_AsInPlainWords(t *testing.T) {
	for name, ghosts := range map[string]int{"lru": 0, "s3fifo": 2} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { compare(t, ghosts) })
		})
	}
}

func compare(t *rapid.T, ghosts int) {
	cells := rapid.SampledFrom([]uint32{1, 2, 8, 60}).Draw(t, "cells")
	o, head, w := newOrder(cells, uint64(ghosts))
	p := &plain{s3: ghosts > 0}
	for range ghosts {
		p.ghosts = append(p.ghosts, make([]uint16, layout.GhostWays))
	}
	var free []uint32
	for n := cells; n > 0; n-- {
		free = append(free, n)
	}
	take := func(t *rapid.T) uint32 {
		if len(free) == 0 {
			t.Skip("full")
		}
		n := free[len(free)-1]
		free = free[:len(free)-1]
		// What stood in the cell before means nothing.
		c := cellAt(w, n)
		c.Prev.Store(rapid.SampledFrom([]uint32{0, n, layout.QueueSmall, ^uint32(0)}).Draw(t, "prev"))
		c.Recency.Store(Recency(uint64(n), head.Turn.Load()))
		return n
	}
	give := func(n uint32) { free = append(free, n) }
	some := func(t *rapid.T) uint32 {
		all := slices.Concat(p.small, p.main)
		if len(all) == 0 {
			t.Skip("empty")
		}
		return rapid.SampledFrom(all).Draw(t, "record").cell
	}
	ok := func(t *rapid.T, err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	insert := func(t *rapid.T) {
		n := take(t)
		key := rapid.Uint64Range(0, 20).Draw(t, "key") // the key 0 has the fingerprint of an empty place
		r := &plainRecord{cell: n, hash: key<<63 | key<<16 | 7}
		ok(t, o.Insert(n, r.hash))
		p.insert(r)
		head.Live.Add(1)
	}
	hit := func(t *rapid.T) {
		n := some(t)
		q, at := p.find(n)
		r := (*q)[at]
		c := cellAt(w, n)
		Touch(c, c.Recency.Load(), 0, 0, o.Raise())
		if p.s3 {
			r.count = min(r.count+1, 3)
		}
	}
	evict := func(t *rapid.T) {
		keep := uint32(0)
		if rapid.Bool().Draw(t, "keep one") {
			keep = some(t)
		}
		want := p.victim(keep)
		n, err := o.Victim(keep)
		if err != nil || n != want {
			t.Fatalf("cell %d, %v; want %d", n, err, want)
		}
		if n == 0 {
			return
		}
		q, at := p.find(n)
		hash := (*q)[at].hash
		ok(t, o.Remember(n, hash))
		p.remember(n)
		ok(t, o.Remove(n))
		p.remove(n)
		head.Live.Add(^uint32(0))
		give(n)
	}
	t.Repeat(map[string]func(*rapid.T){
		"Insert": insert, "Insert again": insert, "Insert more": insert, "Touch": hit, "Touch again": hit, "Evict": evict,
		"Remove": func(t *rapid.T) {
			n := some(t)
			ok(t, o.Remove(n))
			p.remove(n)
			head.Live.Add(^uint32(0))
			give(n)
		},
		"Replace": func(t *rapid.T) {
			n, old := take(t), uint32(0)
			if all := slices.Concat(p.small, p.main); len(all) > 0 {
				old = rapid.SampledFrom(all).Draw(t, "old").cell
			} else {
				give(n)
				return
			}
			ok(t, o.Replace(old, n))
			p.replace(old, n)
			give(old)
		},
		"Promote": func(t *rapid.T) {
			n := some(t)
			if p.s3 {
				t.Skip("nothing is ever due")
			}
			head.Turn.Add(1)
			stamp := Stamp(cellAt(w, n).Recency.Load())
			ok(t, o.Promote(n))
			if r := cellAt(w, n).Recency.Load(); Stamp(r) != stamp || Due(r, head.Turn.Load()) {
				t.Fatalf("recency %#x", r)
			}
			p.main = append(p.main, p.remove(n))
		},
		"Written": func(t *rapid.T) { o.Written() },
		"Restore": func(t *rapid.T) { // each queue in the order that it had
			if rapid.IntRange(0, 9).Draw(t, "rarely") > 0 {
				return
			}
			o.Reset()
			for _, r := range slices.Concat(p.main, p.small) {
				if !p.s3 { // where there is no small queue nobody can be in it
					cellAt(w, r.cell).Prev.Store(^uint32(0))
				}
				ok(t, o.Restore(r.cell))
			}
		},
		"": func(t *rapid.T) {
			for _, c := range []struct {
				name string
				q    queue
				want []*plainRecord
			}{{"main", mainQueue, p.main}, {"small", smallQueue, p.small}} {
				got := walk(t, o, c.q, w)
				if len(got) != len(c.want) {
					t.Fatalf("%s: %v, want %d records", c.name, got, len(c.want))
				}
				for i, r := range c.want {
					if got[i] != r.cell || count(cellAt(w, r.cell)) != uint64(r.count) {
						t.Fatalf("%s: %v, at %d want cell %d used %d times", c.name, got, i, r.cell, r.count)
					}
				}
			}
			if got := head.SmallCount.Load(); got != uint32(len(p.small)) {
				t.Fatalf("SmallCount %d, want %d", got, len(p.small))
			}
			for i, bucket := range p.ghosts {
				b := shm.At[[2]layout.Uint64](o.ghosts, uint64(i)*GhostSize)
				for j, want := range bucket {
					if got := uint16(b[j/4].Load() >> (j % 4 * 16)); got != want {
						t.Fatalf("bucket %d, ghost %d: %#x, want %#x", i, j, got, want)
					}
				}
			}
			for n := uint32(1); p.s3 && n <= cells; n++ {
				if Due(cellAt(w, n).Recency.Load(), head.Turn.Load()) {
					t.Fatalf("cell %d is due", n)
				}
			}
		},
	})
}

// A newcomer used once goes and leaves a ghost; its key comes back as no newcomer.
func TestInsert_KeyThatLeftAGhost_MainQueueOnce(t *testing.T) {
	o, head, w := newOrder(8, 1)
	hash := func(n uint32) uint64 { return uint64(n) << 16 }
	insert := func(n uint32) {
		t.Helper()
		if err := o.Insert(n, hash(n)); err != nil {
			t.Fatal(err)
		}
		head.Live.Add(1)
	}
	evict := func(want uint32) {
		t.Helper()
		n, err := o.Victim(0)
		if err == nil {
			err = errors.Join(o.Remember(n, hash(n)), o.Remove(n))
		}
		if n != want || err != nil {
			t.Fatalf("cell %d, %v; want %d", n, err, want)
		}
		head.Live.Add(^uint32(0))
	}
	is := func(main, small []uint32) {
		t.Helper()
		if m, s := walk(t, o, mainQueue, w), walk(t, o, smallQueue, w); !slices.Equal(m, main) || !slices.Equal(s, small) {
			t.Fatalf("%v and %v, want %v and %v", m, s, main, small)
		}
	}
	for n := uint32(1); n <= 3; n++ {
		insert(n)
	}
	for range 2 {
		Touch(cellAt(w, 1), cellAt(w, 1).Recency.Load(), 0, 0, o.Raise())
	}
	is(nil, []uint32{1, 2, 3})
	evict(2) // 1 was used twice
	is([]uint32{1}, []uint32{3})
	insert(2)
	is([]uint32{1, 2}, []uint32{3})
	if err := o.Remove(2); err != nil { // deleted: that leaves no ghost, and the old one is taken
		t.Fatal(err)
	}
	insert(2)
	is([]uint32{1}, []uint32{3, 2})
}

func TestVictim_SmallQueueBeyondATenth_FromThereFirst(t *testing.T) {
	for main, want := range map[uint32]uint32{8: 20, 9: 1} { // of 9 records one is more than a tenth, of 10 it is not
		o, head, _ := newOrder(20, 1)
		for n := uint32(1); n <= main; n++ {
			if err := o.push(mainQueue, n); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.Insert(20, 1<<16); err != nil {
			t.Fatal(err)
		}
		head.Live.Store(main + 1)
		if n, err := o.Victim(0); n != want || err != nil {
			t.Errorf("%d in the main queue: cell %d, %v; want %d", main, n, err, want)
		}
	}
}

func TestVictim_AllUsed_RelinkLimitThenWhatIsThere(t *testing.T) {
	const cells = layout.RelinkLimit + 10
	o, head, w := newOrder(cells, 1)
	for n := uint32(1); n <= cells; n++ {
		if err := o.push(mainQueue, n); err != nil {
			t.Fatal(err)
		}
		cellAt(w, n).Recency.Store(layout.RecencyCountMask)
	}
	head.Live.Store(cells)
	n, err := o.Victim(0)
	if err != nil || n != layout.RelinkLimit+1 {
		t.Fatalf("cell %d, %v", n, err)
	}
	for n := uint32(1); n <= cells; n++ {
		want := uint64(layout.RecencyCountMask)
		if n <= layout.RelinkLimit {
			want--
		}
		if got := count(cellAt(w, n)); got != want {
			t.Fatalf("cell %d: count %d, want %d", n, got, want)
		}
	}
	if order := walk(t, o, mainQueue, w); order[0] != n || order[cells-1] != layout.RelinkLimit {
		t.Fatal(order)
	}
}

func TestOrder_HostileWords_BrokenAndNothingOutOfRange(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	bad := func() uint32 {
		n := random.Uint32()
		switch random.IntN(4) {
		case 0:
		case 1:
			n = n%12 | layout.QueueSmall
		default:
			n %= 12
		}
		return n
	}
	const cells = 8
	for range 4_000 {
		o, head, w := newOrder(cells, uint64(random.IntN(3))) // an access outside panics
		for _, word := range []interface{ Store(uint32) }{&head.Front, &head.Back, &head.SmallFront, &head.SmallBack, &head.SmallCount, &head.Live, &head.TurnLeft} {
			word.Store(bad())
		}
		for n := uint32(1); n <= cells; n++ {
			cellAt(w, n).Prev.Store(bad())
			cellAt(w, n).Next.Store(bad())
			cellAt(w, n).Recency.Store(random.Uint64())
		}
		for at := uint64(0); at < o.ghosts.Len(); at += 8 {
			shm.At[layout.Uint64](o.ghosts, at).Store(random.Uint64())
		}
		for range 10 {
			n, hash := bad(), random.Uint64()
			_, victim := o.Victim(bad())
			if victim != nil && !errors.Is(victim, ErrBroken) {
				t.Fatal(victim)
			}
			o.Written()
			for name, err := range map[string]error{
				"Remove": o.Remove(n), "Insert": o.Insert(n, hash), "Replace": o.Replace(bad(), n), "Remember": o.Remember(n, hash),
				"Promote": o.Promote(n), "Restore": o.Restore(n),
			} {
				if err != nil && !errors.Is(err, ErrBroken) {
					t.Fatal(name, err)
				}
				if err == nil && (n == 0 || n > cells) {
					t.Fatalf("%s: there is a cell %d", name, n)
				}
			}
		}
	}
}

func TestRemove_NeighbourDoesNotNameIt_NothingChanged(t *testing.T) {
	for _, ghosts := range []uint64{0, 1} {
		o, head, w := newOrder(4, ghosts)
		for n := uint32(1); n <= 3; n++ {
			if err := o.Insert(n, uint64(n)<<16); err != nil {
				t.Fatal(err)
			}
		}
		c := cellAt(w, 1)
		c.Prev.Store(c.Prev.Load()&layout.QueueSmall | 4) // of 2, the neighbour at the back disagrees
		image := func() string {
			return fmt.Sprint(w.Append(nil, 0, w.Len()), head.Front.Load(), head.Back.Load(), head.SmallFront.Load(), head.SmallBack.Load(), head.SmallCount.Load())
		}
		before := image()
		if err := o.Remove(2); !errors.Is(err, ErrBroken) {
			t.Fatal(err)
		}
		if err := o.Replace(2, 4); !errors.Is(err, ErrBroken) {
			t.Fatal(err)
		}
		if before != image() {
			t.Fatal("something was changed")
		}
	}
}

func TestTouch_ForwardOnlyWhoeverChangedTheWord(t *testing.T) {
	_, _, w := newOrder(1, 0)
	c := cellAt(w, 1)
	for _, x := range []struct {
		name                 string
		word, seen, now, end uint64
	}{
		{"later", Recency(5, 3), Recency(5, 3), 9, Recency(9, 3)},
		{"same time", Recency(5, 3), Recency(5, 3), 5, Recency(5, 3)},
		{"earlier, a clock that lags", Recency(5, 3), Recency(5, 3), 4, Recency(5, 3)},
		{"another record took the cell", Recency(7, 1), Recency(5, 3), 9, Recency(9, 1)},
		{"promoted meanwhile", Recency(5, 4), Recency(5, 3), 9, Recency(9, 4)},
		{"use count stays", Recency(5, 3) | 2, Recency(5, 3) | 2, 9, Recency(9, 3) | 2},
	} {
		c.Recency.Store(x.word)
		Touch(c, x.seen, x.now, 0, 0)
		if got := c.Recency.Load(); got != x.end {
			t.Errorf("%s: %#x, want %#x", x.name, got, x.end)
		}
	}
}

func TestTouch_CountsUpToThreeWhoeverChangedTheWord(t *testing.T) {
	_, _, w := newOrder(1, 1)
	c := cellAt(w, 1)
	for _, x := range []struct {
		name                 string
		word, seen, now, end uint64
	}{
		{"first use", Recency(5, 3), Recency(5, 3), 5, Recency(5, 3) | 1},
		{"second, later", Recency(5, 3) | 1, Recency(5, 3) | 1, 6, Recency(6, 3) | 2},
		{"third", Recency(5, 3) | 2, Recency(5, 3) | 2, 5, Recency(5, 3) | 3},
		{"fourth", Recency(5, 3) | 3, Recency(5, 3) | 3, 5, Recency(5, 3) | 3},
		{"fourth, later", Recency(5, 3) | 3, Recency(5, 3) | 3, 6, Recency(6, 3) | 3},
		{"a clock that lags", Recency(5, 3), Recency(5, 3), 4, Recency(5, 3) | 1},
		{"all other bits set", ^uint64(0) - 1, ^uint64(0) - 1, 9, ^uint64(0)},
		{"counted meanwhile", Recency(5, 3) | 1, Recency(5, 3), 9, Recency(9, 3) | 2},
	} {
		c.Recency.Store(x.word)
		Touch(c, x.seen, x.now, 0, 1)
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
		o, head, _ := newOrder(count, 0)
		per := uint64(count/layout.TurnsPerLap + 1)
		for i := range 5 * per {
			o.Written()
			if want := i/per + 1; head.Turn.Load() != want {
				t.Fatalf("%d cells, %d records: turn %d, want %d", count, i+1, head.Turn.Load(), want)
			}
		}
		head.TurnLeft.Store(1<<32 - 1) // garbage does not stop the turns
		turn := head.Turn.Load()
		o.Written()
		if head.Turn.Load() != turn+1 || head.TurnLeft.Load() >= count+1 {
			t.Fatalf("%d cells: turn %d, %d left", count, head.Turn.Load(), head.TurnLeft.Load())
		}
	}
}

func TestPromote_S3FIFO_TurnPutRightAndNothingMoves(t *testing.T) {
	o, head, w := newOrder(3, 1)
	for n := uint32(1); n <= 3; n++ {
		if err := o.Insert(n, uint64(n)<<32|1<<16); err != nil {
			t.Fatal(err)
		}
	}
	before := walk(t, o, smallQueue, w)
	c := cellAt(w, 1)
	c.Recency.Store(Recency(77, head.Turn.Load()+5) | 2)
	if err := o.Promote(1); err != nil {
		t.Fatal(err)
	}
	if word := c.Recency.Load(); Stamp(word) != 77 || count(c) != 2 || Due(word, head.Turn.Load()) {
		t.Errorf("recency %#x", word)
	}
	if after := walk(t, o, smallQueue, w); !slices.Equal(before, after) || len(walk(t, o, mainQueue, w)) != 0 {
		t.Errorf("%v, before %v", after, before)
	}
}

func TestVictim_LRU_CountsMeanNothing(t *testing.T) {
	o, _, w := newOrder(3, 0)
	for n := uint32(1); n <= 3; n++ {
		if err := o.Insert(n, 0); err != nil {
			t.Fatal(err)
		}
	}
	cellAt(w, 1).Recency.Or(layout.RecencyCountMask)
	if n, err := o.Victim(0); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
