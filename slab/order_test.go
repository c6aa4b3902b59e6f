package slab

import (
	"bytes"
	"slices"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// modelOrder is a shard's order in plain words: its queues, the front first, and
// the fingerprints of those that left the small one, youngest first. Without
// ghosts it is the LRU order, and there is no small queue.
type modelOrder struct {
	main, small []*modelRecord
	ghosts      [][layout.GhostWays]uint16
}

func (o *modelOrder) s3fifo() bool { return len(o.ghosts) > 0 }

func (o *modelOrder) records() []*modelRecord { return slices.Concat(o.main, o.small) }

func (o *modelOrder) find(k modelKey) *modelRecord {
	for _, r := range o.records() {
		if r.modelKey == k {
			return r
		}
	}
	return nil
}

func (o *modelOrder) queueOf(r *modelRecord) *[]*modelRecord {
	if slices.Contains(o.small, r) {
		return &o.small
	}
	return &o.main
}

func (o *modelOrder) leave(r *modelRecord) {
	q := o.queueOf(r)
	at := slices.Index(*q, r)
	*q = slices.Delete(*q, at, at+1)
}

func (o *modelOrder) forward(r *modelRecord) {
	o.leave(r)
	o.main = slices.Insert(o.main, 0, r)
}

func (o *modelOrder) use(r *modelRecord) {
	if o.s3fifo() {
		r.uses = min(r.uses+1, 3)
	}
}

func (o *modelOrder) ghost(r *modelRecord) (bucket *[layout.GhostWays]uint16, fingerprint uint16) {
	return &o.ghosts[r.placed>>32*uint64(len(o.ghosts))>>32], uint16(r.placed >> 16)
}

func (o *modelOrder) enter(r *modelRecord) {
	q := &o.main
	if o.s3fifo() {
		bucket, fingerprint := o.ghost(r)
		if at := slices.Index(bucket[:], fingerprint); at >= 0 {
			bucket[at] = 0
		} else {
			q = &o.small
		}
	}
	*q = slices.Insert(*q, 0, r)
}

func (o *modelOrder) replace(old, r *modelRecord) {
	if !o.s3fifo() {
		o.leave(old)
		o.enter(r)
		return
	}
	r.uses = old.uses
	o.use(r)
	q := o.queueOf(old)
	(*q)[slices.Index(*q, old)] = r
}

// remember leaves a ghost of what goes from the small queue to make room.
func (o *modelOrder) remember(r *modelRecord) {
	if slices.Contains(o.small, r) {
		bucket, fingerprint := o.ghost(r)
		copy(bucket[1:], bucket[:])
		bucket[0] = fingerprint
	}
}

func (o *modelOrder) victim(keep *modelRecord) *modelRecord {
	oldest := func(q []*modelRecord) *modelRecord {
		for _, r := range slices.Backward(q) {
			if r != keep {
				return r
			}
		}
		return nil
	}
	for moves := 0; ; moves++ {
		r, needed, left := oldest(o.main), 1, -1
		if small := oldest(o.small); small != nil && layout.SmallShare*len(o.small) > len(o.records()) {
			r, needed, left = small, 2, -3
		}
		if r.uses < needed || moves == layout.RelinkLimit {
			return r
		}
		r.uses = max(0, r.uses+left)
		o.forward(r)
	}
}

// rebuild sorts each queue, the oldest last.
func (o *modelOrder) rebuild(byAge func(a, b *modelRecord) int) {
	for _, q := range [][]*modelRecord{o.main, o.small} {
		slices.SortFunc(q, func(a, b *modelRecord) int { return byAge(b, a) })
	}
}

// eachOrder runs a test for the LRU and the S3FIFO order.
func eachOrder(t *testing.T, test func(t *testing.T, order Order)) {
	for name, order := range map[string]Order{"lru": LRU, "s3fifo": S3FIFO} {
		t.Run(name, func(t *testing.T) { test(t, order) })
	}
}

// What another implementation has to write beside TestSlab_Golden: two records in
// the small queue, of which the older one then leaves a ghost.
func TestS3FIFO_Golden(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 4, CellSize: 64, MaxKey: 8, MaxValue: 40, Shards: 1, Order: S3FIFO})
	for _, k := range []string{"a", "b", "c", "d"} {
		if err := s.Set(bg, []byte(k), []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	mustGet(t, s, []byte("b"), "1")
	w := s.seg.Window()
	is := func(what string, off uint64, want ...byte) {
		t.Helper()
		if got := w.Append(nil, off, uint64(len(want))); !bytes.Equal(got, want) {
			t.Errorf("%s, at %d: % x, want % x", what, off, got, want)
		}
	}
	is("Order", 120, 2)
	is("CellOffset", 160, 0, 0x10)
	is("GhostOffset: the end of the overflow bucket", 168, 0xc0, 0x02)
	is("Ghosts: 9 / 10 of 6 cells in buckets of 8", 176, 1)
	is("Turn: unused", 4096+72, 0)
	is("Front, Back", 4096+160, 0, 0, 0, 0, 0, 0, 0, 0)
	is("SmallFront, SmallBack, SmallCount", 4096+172, 4, 0, 0, 0, 1, 0, 0, 0, 4)
	is("cell 2: Recency, one use at 1,000,000", 8192+64+8, 1, 0, 0x40, 0x42, 0x0f)
	is("cell 2: Prev, cell 3 and the small queue; Next", 8192+64+16, 3, 0, 0, 0x80, 1)
	if err := s.Set(bg, []byte("e"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	mustMiss(t, s, []byte("a"))
	hash := s.HashOf([]byte("a"))
	is("the first ghost", 4096+0x2c0, byte(hash>>16), byte(hash>>24), 0, 0)
	is("SmallFront, SmallBack, SmallCount", 4096+172, 1, 0, 0, 0, 2, 0, 0, 0, 4)
}

func TestS3FIFO_ScanOverFullSlab_UsedRecordsStay(t *testing.T) {
	// Two used ones go: the one at which the relinks of the first eviction end, and
	// one by which the small queue comes to have more than its share.
	for order, want := range map[Order]int{LRU: 0, S3FIFO: 88} {
		s, _ := newSlab(t, Options{Entries: 100, Shards: 1, MaxKey: 16, MaxValue: 8, Order: order})
		for i := range uint64(90) {
			if err := s.Set(bg, key16(i), nil, 0); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			for i := range uint64(90) {
				mustGet(t, s, key16(i), "")
			}
		}
		for i := range uint64(500) { // more than the slab holds, each once
			if err := s.Set(bg, key16(1000+i), nil, 0); err != nil {
				t.Fatal(err)
			}
		}
		sound(t, s)
		there := 0
		for i := range uint64(90) {
			if _, ok, err := s.Get(nil, key16(i)); err != nil {
				t.Fatal(err)
			} else if ok {
				there++
			}
		}
		if there != want {
			t.Errorf("order %d: %d of 90 stayed, want %d", order, there, want)
		}
	}
}

// A replaced record keeps its place and its count, which its replacement raises.
func TestS3FIFO_SetAgain_CountsAsAUse(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 10, Shards: 1, MaxKey: 16, MaxValue: 8, Order: S3FIFO})
	set := func(i uint64) {
		t.Helper()
		if err := s.Set(bg, key16(i), nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(10) {
		set(i)
	}
	for range 2 {
		set(0)
	}
	set(10)
	mustMiss(t, s, key16(1))
	set(11)
	mustMiss(t, s, key16(2))
	mustGet(t, s, key16(0), "")
	sound(t, s)
}

// The oldest of all is given a value that needs more cells.
func TestMakeRoom_KeyWrittenIsTheOldest_OthersGo(t *testing.T) {
	eachOrder(t, func(t *testing.T, order Order) {
		s, _ := newSlab(t, Options{Entries: 10, Shards: 1, MaxKey: 16, MaxValue: 1000, Order: order})
		room := uint64(s.geo.Cells - s.geo.Reserve)
		for i := range room {
			if err := s.Set(bg, key16(i), nil, 0); err != nil {
				t.Fatal(err)
			}
		}
		long := bytes.Repeat([]byte("x"), 1000)
		if err := s.Set(bg, key16(0), long, 0); err != nil {
			t.Fatal(err)
		}
		mustGet(t, s, key16(0), string(long))
		mustMiss(t, s, key16(1))
		sound(t, s)
		st, err := s.Stats()
		if want := uint64(s.geo.cellsFor(1016)) - 1; err != nil || st.EvictedFull != want || st.Cells != room || st.Rebuilds != 0 {
			t.Fatalf("%+v, %v; want %d evicted", st, err, want)
		}
	})
}

func TestCheck_S3FIFO_SaysWhatIsWrong(t *testing.T) {
	for name, damage := range map[string]func(sh *shard){
		"count":     func(sh *shard) { sh.head.SmallCount.Add(1) },
		"back":      func(sh *shard) { sh.head.SmallBack.Store(sh.head.SmallFront.Load()) },
		"front":     func(sh *shard) { sh.head.SmallFront.Store(sh.head.SmallBack.Load()) },
		"main back": func(sh *shard) { sh.head.Back.Store(sh.head.Front.Load()) },
		"other's":   func(sh *shard) { sh.cell(sh.head.SmallFront.Load()).Prev.Store(0) },
		"small's":   func(sh *shard) { sh.cell(sh.head.Front.Load()).Prev.Store(layout.QueueSmall) },
		"no cell":   func(sh *shard) { sh.head.SmallBack.Store(1 << 30) },
		"both":      func(sh *shard) { sh.head.Back.Store(sh.head.SmallBack.Load()) },
		"forgotten": func(sh *shard) { sh.head.SmallBack.Store(0); sh.head.SmallFront.Store(0) },
		"in a circle": func(sh *shard) {
			front := sh.cell(sh.head.SmallFront.Load())
			front.Prev.Store(layout.QueueSmall | sh.head.SmallBack.Load())
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newSlab(t, Options{Entries: 20, Shards: 1, MaxKey: 16, MaxValue: 8, Order: S3FIFO})
			for i := range uint64(60) {
				if err := s.Set(bg, key16(i), nil, 0); err != nil {
					t.Fatal(err)
				}
				for range 2 * (i % 2) {
					mustGet(t, s, key16(i), "")
				}
			}
			sound(t, s)
			if sh := &s.shards[0]; sh.head.Back.Load() == sh.head.Front.Load() || sh.head.SmallBack.Load() == sh.head.SmallFront.Load() {
				t.Fatal("the queues are too short to damage")
			}
			damage(&s.shards[0])
			problems, err := s.Check(bg)
			if err != nil || len(problems) == 0 {
				t.Fatal(problems, err)
			}
			if err := s.Set(bg, key16(70), nil, 0); err != nil { // whatever it meets
				t.Fatal(err)
			}
			if err := s.Rebuild(bg); err != nil {
				t.Fatal(err)
			}
			sound(t, s)
		})
	}
}

// A rebuild keeps what was proven apart from newcomers.
func TestRebuild_S3FIFO_QueuesKeptGhostsToo(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 20, Shards: 1, MaxKey: 16, MaxValue: 8, Order: S3FIFO})
	for i := range uint64(60) {
		if err := s.Set(bg, key16(i), nil, 0); err != nil {
			t.Fatal(err)
		}
		for range 2 * (i % 2) {
			mustGet(t, s, key16(i), "")
		}
	}
	sh := &s.shards[0]
	image := func() (small []uint64, ghosts []byte) {
		for n := uint32(1); n <= s.geo.Cells; n++ {
			if c := sh.cell(n); isLive(c.Version.Load()) && c.Prev.Load()&layout.QueueSmall != 0 {
				small = append(small, c.Version.Load())
			}
		}
		return small, s.seg.Window().Append(nil, s.geo.shardOffset()+s.geo.ghostOffset(), s.geo.ghostSize())
	}
	small, ghosts := image()
	if bytes.Count(ghosts, []byte{0}) == len(ghosts) || len(small) == 0 {
		t.Fatal("no ghosts, or no small queue")
	}
	if err := s.Rebuild(bg); err != nil {
		t.Fatal(err)
	}
	sound(t, s)
	if again, same := image(); !slices.Equal(small, again) || !bytes.Equal(ghosts, same) {
		t.Fatalf("%d and then %d in the small queue; same ghosts: %v", len(small), len(again), bytes.Equal(ghosts, same))
	}
}
