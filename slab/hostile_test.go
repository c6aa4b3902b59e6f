package slab

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Who can write the file may write anything. It may cost records and answers;
// nobody panics, hangs or leaves the mapping.

// tolerable reports whether an error is one that damage may cause.
func tolerable(err error) bool {
	return (err == nil || errors.Is(err, ErrBusy) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFull) || errors.Is(err, ErrLost) ||
		errors.Is(err, ErrReadOnly) || errors.Is(err, ErrNotCounter) || errors.Is(err, ErrOverflow)) &&
		!errors.Is(err, shm.ErrBounds)
}

// everything does each operation once.
func everything(ctx context.Context, s *Stack, random *rand.Rand) error {
	k := random.Uint64N(60)
	var b Batch
	_, _, err1 := s.Get(nil, key16(k))
	err2 := s.Set(ctx, key16(k), proof(nil, k, random.Uint64N(100)), 0)
	_, err3 := s.Delete(ctx, key16(random.Uint64N(60)))
	err4 := s.GetBatch(&b, [][]byte{key16(k), key16(k + 1), nil})
	err5 := s.SetHash(ctx, k, make([]byte, k*6), 0)
	_, _, err6 := s.GetHash(nil, k)
	errs := []error{err1, err2, err3, err4, err5, err6}
	id, it := s.Key(key16(k)), Item{Value: make([]byte, random.IntN(10)), Tag: uint32(k % 3)}
	switch random.IntN(12) {
	case 0:
		_, _, err := s.Put(ctx, id, &it, Absent)
		errs = append(errs, err)
	case 1:
		old, _, err := s.Look(nil, id, 0)
		errs = append(errs, err)
		_, _, err = s.Put(ctx, id, &it, old.Version)
		errs = append(errs, err)
	case 2:
		_, err := s.Add(ctx, id, 1, Item{Value: make([]byte, 8)})
		errs = append(errs, err)
	case 3:
		_, err := s.Touch(ctx, id, 0)
		errs = append(errs, err)
	case 4:
		_, err := s.PutBatch(ctx, []KeyItem{{id, it}, {s.Key(nil), it}})
		errs = append(errs, err)
	case 5:
		_, err := s.Keep(ctx, nil, s.NamespaceKey(nil), &Item{Value: make([]byte, 8)})
		errs = append(errs, err)
	case 6:
		_, err := s.EvictTag(ctx, 1, 2)
		errs = append(errs, err)
	case 7:
		_, err := s.EvictNear(ctx, id, s.top.domain.Now.Load(), 2)
		errs = append(errs, err)
	}
	switch random.IntN(11) {
	case 7:
		errs = append(errs, s.Clear(ctx))
	case 0:
		_, err := s.EvictPairs(ctx, s.top.domain.Now.Load(), 3)
		errs = append(errs, err)
	case 1:
		errs = append(errs, s.Scan(ctx, func(Record) bool { return true }))
	case 2:
		_, err := s.Check(ctx)
		errs = append(errs, err)
	case 3:
		errs = append(errs, s.Rebuild(ctx))
	case 5, 6:
		if err := claimEverything(ctx, s, random); err != nil {
			return err
		}
	case 4:
		_, err := s.Stats()
		errs = append(errs, err)
	}
	for _, err := range errs {
		if !tolerable(err) {
			return err
		}
	}
	return nil
}

// words that do the most harm, besides random ones.
func badWord(random *rand.Rand, g Geometry) uint64 {
	n := random.Uint64N(uint64(g.Cells) + 2)
	switch random.IntN(7) {
	case 0:
		return random.Uint64()
	case 1:
		return n // cell numbers, bucket numbers
	case 2:
		return n<<32 | n // two of them, or a slot
	case 3:
		return n << layout.VersionSequenceShift // versions
	case 4:
		return n<<layout.VersionSequenceShift | random.Uint64N(4)
	case 5:
		return uint64(random.Uint32N(2000))<<32 | uint64(random.Uint32N(2000)) // lengths
	}
	// Not all ones: the very last version that is no garbage leaves a shard without
	// numbers for new records (ErrCorrupt).
	return random.Uint64() >> random.IntN(64)
}

func TestHostile_WordsOverwrittenWhileOperationsRun_NoPanicNoHangNoBounds(t *testing.T) {
	eachOrder(t, checkHostileWordsOverwrittenWhileOperationsRun)
}

func checkHostileWordsOverwrittenWhileOperationsRun(t *testing.T, order Order) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	options := Options{Entries: 60, Shards: 2, MaxKey: 100, MaxValue: 600, Order: order}
	seg := newSegment(t, options)
	w := newWorld()
	handles := []*Slab{open(t, seg, w.member(0)), open(t, seg, w.member(1))}
	g := handles[0].geo
	words := g.FileSize()/8 - layout.PageSize/8
	done := make(chan struct{})
	var writers, vandals sync.WaitGroup
	vandals.Go(func() {
		random := rand.New(rand.NewPCG(seed, 0))
		for {
			select {
			case <-done:
				return
			default:
			}
			off := layout.PageSize + 8*random.Uint64N(words)
			if random.IntN(2) == 0 { // more often where it hurts
				off = layout.PageSize + random.Uint64N(2)*g.shardStride() + 8*random.Uint64N(g.cellOffset()/8)
			}
			if in := (off - layout.PageSize) % g.shardStride(); in < layout.LineSize {
				continue // lock words come below
			}
			shm.At[layout.Uint64](seg.Window(), off).Store(badWord(random, g))
			for range 200 {
				shm.Pause()
			}
		}
	})
	for i, s := range handles {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)+1))
			for range effort(1500) {
				if err := everything(bg, s.Stack, random); err != nil {
					t.Errorf("%v", err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(done)
	vandals.Wait()
	recovers(t, handles[0].Stack)
}

// recovers repairs a slab after damage has ended, and uses it.
func recovers(t *testing.T, s *Stack) {
	t.Helper()
	if err := s.Rebuild(bg); err != nil {
		t.Fatal(err)
	}
	soundStack(t, s)
	for i := range uint64(40) {
		if err := s.Set(bg, key16(i), key16(i), 0); err != nil {
			t.Fatal(err)
		}
		stackHas(t, s, key16(i), key16(i))
	}
	soundStack(t, s)
}

func TestHostile_WholeShardsOfGarbage_RebuildIsSound(t *testing.T) {
	eachOrder(t, checkHostileWholeShardsOfGarbage)
}

func checkHostileWholeShardsOfGarbage(t *testing.T, order Order) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range effort(60) {
		seg := newSegment(t, Options{Entries: 60, Shards: 2, MaxKey: 100, MaxValue: 600, Order: order})
		w := newWorld()
		s := open(t, seg, w.member(0))
		for off := uint64(layout.PageSize); off < s.geo.FileSize(); off += 8 {
			if (off-layout.PageSize)%s.geo.shardStride() >= layout.LineSize && random.IntN(3) > 0 {
				shm.At[layout.Uint64](seg.Window(), off).Store(badWord(random, s.geo))
			}
		}
		if err := everything(bg, s.Stack, random); err != nil {
			t.Fatal(err)
		}
		recovers(t, s.Stack)
	}
}

// aloneMember is the only one alive; every other token is dead's.
type aloneMember struct{ *member }

func (m aloneMember) Dead(token uint64) bool { return token != m.token }

// Lock words of no region, of a region that is out of range,
// of oneself though one does not hold the lock, and with unknown flags.
func TestHostile_LockWords_TakenOverAndRebuilt(t *testing.T) {
	seg := newSegment(t, Options{Entries: 60, Shards: 1})
	w := newWorld()
	m := w.member(3)
	s, err := Open(seg, Domain{Owner: aloneMember{m}, Wall: &w.wall, Now: &w.now}, testID)
	if err != nil {
		t.Fatal(err)
	}
	head := s.shards[0].head
	for i, word := range []uint64{
		m.token, m.token | layout.LockWaiters, ^uint64(0), 0xffff, 0xfff8, 1 << 63, 0xffff << layout.LockRegionShift,
		layout.LockStarved, layout.LockInconsistent, layout.LockWaiters, 1,
	} {
		head.Lock.Store(word)
		head.Futex.Store(uint32(i))
		ctx, cancel := contextFor(lockPatience)
		if err := s.Set(ctx, key16(uint64(i)), []byte("v"), 0); err != nil {
			t.Errorf("word %#x: %v", word, err)
		}
		cancel()
		if word := head.Lock.Load(); word&^layout.LockStarved != 0 {
			t.Errorf("lock word %#x afterwards", word)
		}
		mustGet(t, s, key16(uint64(i)), "v")
	}
	head.Lock.Store(0)
	sound(t, s)
}

// A cell on the free list that is not marked as free.
func TestHostile_FreeListNamesLiveCell_RecordSurvives(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 60, Shards: 1})
	for i := range uint64(20) {
		if err := s.Set(bg, key16(i), key16(i), 0); err != nil {
			t.Fatal(err)
		}
	}
	head := s.shards[0].head
	for _, cell := range []uint32{1, 7, s.geo.Cells + 1, 1<<32 - 1} {
		head.FreeHead.Store(cell)
		if err := s.Set(bg, []byte("new"), []byte("value"), 0); err != nil {
			t.Fatal(err)
		}
		mustGet(t, s, []byte("new"), "value")
		for i := range uint64(20) {
			mustGet(t, s, key16(i), string(key16(i)))
		}
		sound(t, s)
	}
	for _, bump := range []uint32{0, 3, s.geo.Cells, 1<<32 - 1} {
		head.FreeHead.Store(0)
		head.Bump.Store(bump)
		if err := s.Set(bg, []byte("new"), []byte("value"), 0); err != nil {
			t.Fatal(err)
		}
		sound(t, s)
	}
}

func TestScan_LinksInACircle_RepairedNotRepeated(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 2000, Shards: 1, MaxKey: 16, MaxValue: 4096})
	k := key16(1)
	if err := s.Set(bg, k, make([]byte, 4000), 0); err != nil {
		t.Fatal(err)
	}
	sh := &s.shards[0]
	b := sh.bucketAt(sh.bucketOffset(s.HashOf(k)))
	circle, _ := sh.overflow(1)
	for i := range b.Slots {
		circle.Slots[i].Store(b.Slots[i].Load())
	}
	circle.Link.Store(1)
	b.Link.Store(1)
	seen := 0
	if err := s.Scan(bg, func(Record) bool { seen++; return true }); err != nil || seen != 1 {
		t.Fatalf("%d records, %v", seen, err)
	}
	sound(t, s)
}

// Wrong words that leave no version numbers: nothing is lost, neither at once nor at a
// later rebuild, and numbers go on.
func TestHostile_SequenceAtItsEnd_RecordsRenumberedAndNoneLost(t *testing.T) {
	limit := uint64(layout.VersionLimit) >> layout.VersionSequenceShift
	high := uint64(layout.VersionHigh) >> layout.VersionSequenceShift
	for _, sequence := range []uint64{high - 3, high, limit - 20, limit - 1, limit, limit + 5, 1<<64 - 1} {
		shape := Options{Entries: 400, Shards: 2, MaxKey: 100, MaxValue: 600}
		st := openStack(t, newWorld().member(0), StackOptions{}, stackSegments(t, shape, shape)...)
		value := func(i uint64) []byte { return proof(nil, i, i*7%400) } // of one cell, or of many
		for i := range uint64(30) {
			must(t, st.Set(bg, key16(i), value(i), 0))
		}
		if _, err := st.Move(bg, st.tiers[0].Slab, st.tiers[1].Slab, 1<<40, 10); err != nil {
			t.Fatal(err)
		}
		for i := range st.shards {
			st.shards[i].head.Sequence.Store(sequence)
		}
		for i := uint64(30); i < 50; i++ {
			must(t, st.Set(bg, key16(i), value(i), 0))
		}
		for range 2 {
			must(t, st.Rebuild(bg))
			for i := range uint64(50) {
				stackHas(t, st, key16(i), value(i))
			}
			soundStack(t, st)
		}
		for i := range st.shards {
			if now := st.shards[i].head.Sequence.Load(); now >= high {
				t.Errorf("%#x: the sequence is %#x still", sequence, now)
			}
		}
	}
}
