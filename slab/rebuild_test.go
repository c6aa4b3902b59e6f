package slab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/lock"
)

// Crashes are made by hand here: a test does the first steps of an operation
// under the lock of a member that then counts as dead.

// dieHolding takes the lock of the key's shard for s, does the steps, and leaves
// the lock to the dead.
func dieHolding(t *testing.T, s *Slab, m *member, k []byte, steps func(sh *shard, k *Key)) {
	t.Helper()
	id := s.Key(k)
	sh := s.shardOf(id.hash)
	if _, err := sh.mutex.Lock(bg); err != nil {
		t.Fatal(err)
	}
	steps(sh, &id)
	m.kill(m)
}

// trio is a slab with two handles: one that will die and one that lives on.
func trio(t *testing.T, o Options) (victim, other *Slab, dying *member, w *world) {
	w = newWorld()
	seg := newSegment(t, o)
	dying = w.member(1)
	return open(t, seg, dying), open(t, seg, w.member(2)), dying, w
}

func fillOnly(t *testing.T, sh *shard, k *Key, value string) uint32 {
	t.Helper()
	record := sh.next(k, &Item{Value: []byte(value)}, sh.now.Load())
	n, err := sh.fill(&record)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func slotOf(k *Key, n uint32) uint64 { return k.tag()<<layout.SlotTagShift | uint64(n) }

func TestRebuild_TwoLiveCellsOfOneKey_HigherVersionStays(t *testing.T) {
	for copies := 1; copies <= 3; copies++ {
		victim, other, dying, _ := trio(t, Options{Entries: 100, Shards: 1, MaxValue: 1000})
		if err := victim.Set(bg, []byte("k"), []byte("old"), 0); err != nil {
			t.Fatal(err)
		}
		newest := ""
		dieHolding(t, victim, dying, []byte("k"), func(sh *shard, k *Key) {
			for i := range copies { // even, in no slot
				newest = fmt.Sprintf("new %d %0200d", i, i)
				fillOnly(t, sh, k, newest)
			}
		})
		mustGet(t, other, []byte("k"), "old") // readers see slots only
		if err := other.Rebuild(bg); err != nil {
			t.Fatal(err)
		}
		mustGet(t, other, []byte("k"), newest)
		sound(t, other)
		if st, _ := other.Stats(); st.Records != 1 || st.Cells != 3 {
			t.Fatalf("%+v", st)
		}
	}
}

// Only damage makes two live heads of one version: all rebuilders keep the same one.
func TestRebuild_TwoOfOneVersion_LowerCellStays(t *testing.T) {
	victim, other, dying, _ := trio(t, Options{Entries: 200, Shards: 1})
	var keys [50][]byte
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "key %d", i)
		must(t, victim.Set(bg, keys[i], []byte("lower"), 0))
	}
	dieHolding(t, victim, dying, keys[0], func(sh *shard, _ *Key) {
		for i, k := range keys {
			id := victim.Key(k)
			n := fillOnly(t, sh, &id, "upper")
			sh.cell(n).Version.Store(sh.cell(uint32(i) + 1).Version.Load())
		}
	})
	must(t, other.Rebuild(bg))
	for _, k := range keys {
		mustGet(t, other, k, "lower")
	}
	sound(t, other)
}

// Every state in which write can be left by a death.
func TestSet_DiesAfterAnyStep_OldOrNewValueAndSound(t *testing.T) {
	eachOrder(t, checkSetDiesAfterAnyStep)
}

func checkSetDiesAfterAnyStep(t *testing.T, order Order) {
	const long = "a value that is longer than one cell " +
		"0123456789012345678901234567890123456789012345678901234567890123456789"
	steps := []struct {
		name  string
		steps func(t *testing.T, sh *shard, k *Key)
		want  string // after the recovery; before it readers may see either
	}{
		{"head popped", func(t *testing.T, sh *shard, k *Key) {
			if _, err := sh.pop(); err != nil {
				t.Fatal(err)
			}
		}, "old"},
		{"head odd", func(t *testing.T, sh *shard, k *Key) {
			n := fillOnly(t, sh, k, long)
			sh.cell(n).Version.Add(layout.VersionPart)
		}, "old"},
		{"head even", func(t *testing.T, sh *shard, k *Key) { fillOnly(t, sh, k, long) }, long},
		{"slot stored", func(t *testing.T, sh *shard, k *Key) {
			f, _ := sh.find(k)
			at := f.record.at
			at.store(slotOf(k, fillOnly(t, sh, k, long)))
		}, long},
		{"old head odd", func(t *testing.T, sh *shard, k *Key) {
			f, _ := sh.find(k)
			old, at := f.record.cell, f.record.at
			at.store(slotOf(k, fillOnly(t, sh, k, long)))
			sh.cell(old).Version.Store(sh.cell(old).Version.Load() | layout.VersionFree)
		}, long},
		{"old out of the order", func(t *testing.T, sh *shard, k *Key) {
			f, _ := sh.find(k)
			old, at := f.record.cell, f.record.at
			at.store(slotOf(k, fillOnly(t, sh, k, long)))
			sh.cell(old).Version.Store(sh.cell(old).Version.Load() | layout.VersionFree)
			if err := sh.order.Remove(old); err != nil {
				t.Fatal(err)
			}
		}, long},
		{"new in its place", func(t *testing.T, sh *shard, k *Key) {
			f, _ := sh.find(k)
			n := fillOnly(t, sh, k, long)
			f.record.at.store(slotOf(k, n))
			if err := sh.order.Replace(f.record.cell, n); err != nil {
				t.Fatal(err)
			}
		}, long},
		{"old free", func(t *testing.T, sh *shard, k *Key) {
			f, _ := sh.find(k)
			old, at := f.record.cell, f.record.at
			at.store(slotOf(k, fillOnly(t, sh, k, long)))
			if err := sh.free(old); err != nil {
				t.Fatal(err)
			}
		}, long},
		{"in the middle of a rebuild", func(t *testing.T, sh *shard, k *Key) {
			sh.head.Epoch.Store(sh.head.Epoch.Load() | layout.EpochRebuilding)
			sh.index.Zero(0, sh.index.Len())
			sh.head.FreeHead.Store(3)
			sh.order.Reset()
		}, "old"},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			victim, other, dying, _ := trio(t, Options{Entries: 50, Shards: 1, MaxValue: 1000, Order: order})
			for i := range uint64(20) {
				if err := victim.Set(bg, key16(i), key16(i), 0); err != nil {
					t.Fatal(err)
				}
			}
			if err := victim.Set(bg, []byte("k"), []byte("old"), 0); err != nil {
				t.Fatal(err)
			}
			dieHolding(t, victim, dying, []byte("k"), func(sh *shard, k *Key) { step.steps(t, sh, k) })

			// Without the lock: what was there or ErrBusy, never a miss.
			v, ok, err := other.Get(nil, []byte("k"))
			if (!ok || string(v) != "old" && string(v) != long) && !errors.Is(err, ErrBusy) {
				t.Fatalf("%q, %v, %v", v, ok, err)
			}
			sound(t, other) // takes the lock from the dead
			mustGet(t, other, []byte("k"), step.want)
			for i := range uint64(20) {
				mustGet(t, other, key16(i), string(key16(i)))
			}
			if st, _ := other.Stats(); st.Records != 21 || st.Steals != 1 || st.Rebuilds != 1 || other.Counters().Steals != 1 || st.Dropped != 0 {
				t.Fatalf("%+v", st)
			}
		})
	}
}

// For one slab: a hidden cell must not revive a deleted key.
func TestDelete_AfterWriterDiedWithHiddenCell_KeyStaysGone(t *testing.T) {
	victim, other, dying, _ := trio(t, Options{Entries: 50, Shards: 1})
	for _, k := range []string{"a", "b"} {
		if err := victim.Set(bg, []byte(k), []byte("old"), 0); err != nil {
			t.Fatal(err)
		}
	}
	dieHolding(t, victim, dying, []byte("a"), func(sh *shard, k *Key) { fillOnly(t, sh, k, "hidden") })
	if ok, err := other.Delete(bg, []byte("a")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	mustMiss(t, other, []byte("a"))
	for range 2 {
		if err := other.Rebuild(bg); err != nil {
			t.Fatal(err)
		}
		mustMiss(t, other, []byte("a"))
		mustGet(t, other, []byte("b"), "old")
	}
	sound(t, other)
}

func TestDelete_DiesAfterAnyStep_KeyIsGone(t *testing.T) {
	for step := range 3 {
		victim, other, dying, _ := trio(t, Options{Entries: 50, Shards: 1, MaxValue: 1000})
		for i := range uint64(10) {
			if err := victim.Set(bg, key16(i), make([]byte, 300), 0); err != nil {
				t.Fatal(err)
			}
		}
		dieHolding(t, victim, dying, key16(4), func(sh *shard, k *Key) {
			f, _ := sh.find(k)
			n, at := f.record.cell, f.record.at
			sh.cell(n).Version.Store(sh.cell(n).Version.Load() | layout.VersionFree)
			if step > 0 {
				at.store(0)
			}
			if step > 1 {
				_ = sh.free(n)
			}
		})
		mustMiss(t, other, key16(4))
		sound(t, other)
		mustMiss(t, other, key16(4))
		if st, _ := other.Stats(); st.Records != 9 || st.Cells != 9*4 {
			t.Fatalf("step %d: %+v", step, st)
		}
	}
}

// Counters written anew let versions come back.
func TestRebuild_NeverLowersSequenceOrEpoch(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 50, Shards: 1})
	sh := &s.shards[0]
	for i := range uint64(40) {
		if err := s.Set(bg, key16(i%10), nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(10) {
		if _, err := s.Delete(bg, key16(i)); err != nil {
			t.Fatal(err)
		}
	}
	epoch := sh.head.Epoch.Load()
	for range 3 {
		// The word is damaged; free cells still know the highest.
		sh.head.Sequence.Store(0)
		if err := s.Rebuild(bg); err != nil {
			t.Fatal(err)
		}
		if got := sh.head.Sequence.Load(); got != 40 {
			t.Fatalf("sequence %d, want 40", got)
		}
		if got := sh.head.Epoch.Load(); got != epoch+2 {
			t.Fatalf("epoch %d, want %d", got, epoch+2)
		}
		epoch += 2
	}
	sh.head.Sequence.Store(1000)
	if err := s.Rebuild(bg); err != nil {
		t.Fatal(err)
	}
	if got := sh.head.Sequence.Load(); got != 1000 {
		t.Fatalf("sequence %d, want 1000", got)
	}
}

func TestRebuild_GarbageVersions_DroppedAndNumbersGoOn(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 50, Shards: 2})
	for i := range uint64(20) {
		if err := s.Set(bg, key16(i), key16(i), 0); err != nil {
			t.Fatal(err)
		}
	}
	id := s.Key(key16(3))
	sh := s.shardOf(id.hash)
	f, _ := sh.find(&id)
	n := f.record.cell
	for _, garbage := range []uint64{1 << 62, 1<<64 - 4, sh.cell(n).Version.Load() ^ 1<<layout.VersionShardShift} {
		sequence := sh.head.Sequence.Load()
		sh.cell(n).Version.Store(garbage)
		if err := s.Rebuild(bg); err != nil {
			t.Fatal(err)
		}
		sound(t, s)
		mustMiss(t, s, key16(3))
		if got := sh.head.Sequence.Load(); got != sequence {
			t.Fatalf("version %#x: sequence %d became %d", garbage, sequence, got)
		}
	}
}

func TestGet_EpochLeftOdd_ReaderRebuildsOrSaysBusy(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 50, Shards: 1})
	if err := s.Set(bg, []byte("k"), []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	head := s.shards[0].head
	head.Epoch.Add(layout.EpochRebuilding)
	mustGet(t, s, []byte("k"), "v") // the lock is free: the reader's last resort
	if e := head.Epoch.Load(); e&layout.EpochRebuilding != 0 || head.Rebuilds.Load() != 1 {
		t.Fatalf("epoch %d, %d rebuilds", e, head.Rebuilds.Load())
	}
	head.Epoch.Add(layout.EpochRebuilding)
	head.Lock.Store(lock.Token(9, 1)) // somebody lives and rebuilds
	if _, _, err := s.Get(nil, []byte("k")); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if err := s.Set(ctx, []byte("k"), nil, 0); !errors.Is(err, ErrBusy) || !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	head.Lock.Store(0)
	if err := s.Set(bg, []byte("k"), []byte("w"), 0); err != nil {
		t.Fatal(err)
	}
	mustGet(t, s, []byte("k"), "w")
	sound(t, s)
}

// A living process that leaves an operation half done.
func TestUpdate_PanicUnderTheLock_NextTakerRebuilds(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 50, Shards: 1})
	if err := s.Set(bg, []byte("k"), []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	sh := &s.shards[0]
	func() {
		defer func() {
			if recover() == nil {
				t.Fatal("the panic was swallowed")
			}
		}()
		_ = s.update(bg, &s.columns[0], func() error {
			sh.head.Used.Store(99)
			panic("a bug")
		})
	}()
	if sh.head.Epoch.Load()&layout.EpochRebuilding == 0 {
		t.Fatal("readers may trust a shard that is half done")
	}
	mustGet(t, s, []byte("k"), "v")
	sound(t, s)
}

// The same for an operation that fails twice.
func TestUpdate_StillBrokenAfterRebuild_CorruptAndNextTakerRebuilds(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 50, Shards: 1})
	if err := s.Set(bg, []byte("k"), []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	sh := &s.shards[0]
	err := s.update(bg, &s.columns[0], func() error {
		if _, err := sh.pop(); err != nil {
			return err
		}
		return sh.brokenf("half done")
	})
	if !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	sound(t, s)
	mustGet(t, s, []byte("k"), "v")
}

func TestCheck_SaysWhatIsWrong(t *testing.T) {
	for name, damage := range map[string]func(sh *shard){
		"Live":      func(sh *shard) { sh.head.Live.Add(1) },
		"Used":      func(sh *shard) { sh.head.Used.Add(1) },
		"Bytes":     func(sh *shard) { sh.head.Bytes.Add(1) },
		"sequence":  func(sh *shard) { sh.head.Sequence.Store(1) },
		"order":     func(sh *shard) { sh.head.Back.Store(sh.head.Front.Load()) },
		"front":     func(sh *shard) { sh.head.Front.Store(sh.head.Back.Load()) },
		"neither":   func(sh *shard) { sh.head.FreeHead.Store(0) },
		"free list": func(sh *shard) { sh.head.FreeHead.Store(sh.head.Back.Load()) },
		"same key": func(sh *shard) {
			sh.cells.Write(sh.cellOffset(2)+headSize, sh.cells.Append(nil, sh.cellOffset(3)+headSize, 16))
		},
		"slots name": func(sh *shard) { sh.index.Zero(0, uint64(sh.buckets)*layout.SizeBucket) },
		"live":       func(sh *shard) { sh.bucketAt(0).Slots[6].Store(0xffff) },
		"elsewhere":  func(sh *shard) { sh.cells.Write(sh.cellOffset(2)+headSize, []byte("xx")) },
		"damaged":    func(sh *shard) { sh.cell(2).ValueLength.Store(1 << 30) },
		"not this":   func(sh *shard) { sh.cell(2).Version.Store(1 << 63) },
		"never used": func(sh *shard) { sh.cell(sh.head.Bump.Load() + 1).Version.Store(layout.VersionFree) },
		"link to":    func(sh *shard) { sh.bucketAt(0).Link.Store(1 << 40) },
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newSlab(t, Options{Entries: 100, Shards: 1})
			for i := range uint64(50) {
				if err := s.Set(bg, key16(i), nil, 0); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.Delete(bg, key16(9)); err != nil {
				t.Fatal(err)
			}
			sound(t, s)
			damage(&s.shards[0])
			problems, err := s.Check(bg)
			if err != nil || len(problems) == 0 {
				t.Fatal(problems, err)
			}
			if err := s.Rebuild(bg); err != nil {
				t.Fatal(err)
			}
			sound(t, s)
		})
	}
}

// The same for overflow buckets: one chain has three of them, 1 to 3; 4 and 5 were
// used and are free, in this order; the others are fresh.
func TestCheck_OverflowBuckets_SaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(sh *shard, bucket func(n uint64) *layout.Bucket)
		says   string
	}{
		"free list in a circle":     {func(_ *shard, b func(uint64) *layout.Bucket) { b(5).Link.Store(4) }, "bucket 4 is in a chain, no bucket, or comes twice"},
		"free list to itself":       {func(_ *shard, b func(uint64) *layout.Bucket) { b(5).Link.Store(5) }, "bucket 5 is in a chain, no bucket, or comes twice"},
		"free and in a chain":       {func(sh *shard, _ func(uint64) *layout.Bucket) { sh.head.OverflowHead.Store(2) }, "bucket 2 is in a chain, no bucket, or comes twice"},
		"free list leads to chain":  {func(_ *shard, b func(uint64) *layout.Bucket) { b(4).Link.Store(1) }, "bucket 1 is in a chain, no bucket, or comes twice"},
		"free list leads to no one": {func(_ *shard, b func(uint64) *layout.Bucket) { b(4).Link.Store(1 << 40) }, "is in a chain, no bucket, or comes twice"},
		"free bucket with a slot":   {func(_ *shard, b func(uint64) *layout.Bucket) { b(4).Slots[6].Store(3) }, "bucket 4 has slots that are not empty"},
		"free bucket lost":          {func(sh *shard, _ func(uint64) *layout.Bucket) { sh.head.OverflowHead.Store(5) }, "overflow bucket 4 is neither in a chain nor free nor fresh"},
		"chain cut":                 {func(_ *shard, b func(uint64) *layout.Bucket) { b(2).Link.Store(0) }, "overflow bucket 3 is neither in a chain nor free nor fresh"},
		"free and fresh":            {func(sh *shard, _ func(uint64) *layout.Bucket) { sh.head.OverflowBump.Store(4) }, "overflow bucket 5 is neither in a chain nor free nor fresh, or two of them"},
		"fresh with a slot":         {func(_ *shard, b func(uint64) *layout.Bucket) { b(6).Slots[0].Store(3) }, "overflow bucket 6 was never used, and is not empty"},
		"fresh with a link":         {func(_ *shard, b func(uint64) *layout.Bucket) { b(6).Link.Store(1) }, "overflow bucket 6 was never used, and is not empty"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newSlab(t, Options{Entries: 100, Shards: 1})
			hash := func(i uint64) uint64 { return s.place(i << 40) } // all in bucket 0
			for i := range uint64(6 * layout.SlotsPerBucket) {
				if err := s.SetHash(bg, hash(i), nil, 0); err != nil {
					t.Fatal(err)
				}
			}
			for i := uint64(6*layout.SlotsPerBucket) - 1; i >= 4*layout.SlotsPerBucket; i-- {
				if _, err := s.DeleteHash(bg, hash(i)); err != nil {
					t.Fatal(err)
				}
			}
			sound(t, s)
			sh := &s.shards[0]
			bucket := func(n uint64) *layout.Bucket { b, _ := sh.overflow(n); return b }
			if sh.head.OverflowHead.Load() != 4 || bucket(4).Link.Load() != 5 || sh.head.OverflowBump.Load() != 5 || bucket(3).Link.Load() != 0 {
				t.Fatalf("free from %d on, fresh behind %d", sh.head.OverflowHead.Load(), sh.head.OverflowBump.Load())
			}
			c.damage(sh, bucket)
			problems, err := s.Check(bg)
			if err != nil || !strings.Contains(strings.Join(problems, "\n"), c.says) {
				t.Fatal(problems, err)
			}
			if err := s.Rebuild(bg); err != nil {
				t.Fatal(err)
			}
			sound(t, s)
		})
	}
}

// place makes an application's hash whose record hashes to placed: the inverse
// of mix.
func (s *Slab) place(placed uint64) uint64 {
	x := placed
	x ^= x >> 33
	x *= 0x9cb4b2f8129337db
	x ^= x >> 33
	x *= 0x4f74430c22a54005
	x ^= x >> 33
	return x ^ s.seed
}

// The empty slot is cell 0 with tag 0.
func TestIndex_TagZero_IsNoEmptySlot(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 100, Shards: 1})
	for i := range uint64(20) { // one bucket, tag 0
		h := s.place(i)
		if _, ok, err := s.GetHash(nil, h); ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := s.SetHash(bg, h, binary.LittleEndian.AppendUint64(nil, i), 0); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(20) {
		v, ok, err := s.GetHash(nil, s.place(i))
		if !ok || err != nil || binary.LittleEndian.Uint64(v) != i {
			t.Fatal(i, v, ok, err)
		}
	}
	sound(t, s)
}

func TestIndex_EverythingInOneBucket_ChainsGrowShrinkAndAreReused(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 200, Shards: 1, OnFull: Refuse, MaxValue: 8})
	sh := &s.shards[0]
	n := uint64(s.geo.Cells - s.geo.Reserve)
	hash := func(i uint64) uint64 { return s.place(i<<40 | i) } // the low word chooses the bucket: all in bucket 0
	set := func(i uint64) {
		t.Helper()
		if err := s.SetHash(bg, hash(i), []byte{byte(i)}, 0); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	for round := range 3 {
		for i := range n {
			set(i)
		}
		sound(t, s)
		for i := range n { // first the even ones, so that holes are everywhere
			if i%2 == 0 {
				if ok, err := s.DeleteHash(bg, hash(i)); !ok || err != nil {
					t.Fatal(ok, err)
				}
			}
		}
		sound(t, s)
		for i := range n {
			v, ok, err := s.GetHash(nil, hash(i))
			if err != nil || ok != (i%2 == 1) || ok && v[0] != byte(i) {
				t.Fatal(i, v, ok, err)
			}
		}
		for i := range n / 2 {
			set(2 * i)
		}
		sound(t, s)
		for i := range n {
			if round == 1 { // from the end: the last in a bucket is the one in its first slot
				i = n - 1 - i
			}
			if ok, err := s.DeleteHash(bg, hash(i)); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		sound(t, s)
		if sh.bucketAt(0).Link.Load() != 0 {
			t.Fatal("empty buckets stay linked")
		}
		if st, _ := s.Stats(); st.Rebuilds != 0 || st.Overflow > uint64(s.geo.Overflow) {
			t.Fatalf("round %d: %+v", round, st)
		}
	}
}

// Sparse chains use up the overflow buckets; a rebuild packs them.
func TestIndex_OverflowUsedUp_RebuildPacksTheChains(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 200, Shards: 1, OnFull: Refuse, MaxValue: 8})
	buckets := uint64(s.geo.Buckets)
	hash := func(bucket, i uint64) uint64 { return s.place((i+1)<<32 | ceil(bucket<<32, buckets)) }
	n := uint64(s.geo.Cells - s.geo.Reserve)
	// Eight records in each of some buckets take an overflow bucket each; then all
	// but that one are deleted, and the next buckets get theirs.
	per := uint64(layout.SlotsPerBucket + 1)
	var kept [][2]uint64
	for b := uint64(0); b < buckets; b++ {
		if uint64(len(kept))+per > n {
			break
		}
		for i := range per {
			if err := s.SetHash(bg, hash(b, i), nil, 0); err != nil {
				t.Fatalf("bucket %d, record %d: %v", b, i, err)
			}
		}
		for i := range per - 1 {
			if ok, err := s.DeleteHash(bg, hash(b, i)); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		kept = append(kept, [2]uint64{b, per - 1})
	}
	sound(t, s)
	st, _ := s.Stats()
	if st.Rebuilds == 0 || st.Dropped != 0 {
		t.Fatalf("%+v: the overflow buckets (%d for %d chains) were not used up: this test has lost its point", st, s.geo.Overflow, len(kept))
	}
	for _, k := range kept {
		if _, ok, err := s.GetHash(nil, hash(k[0], k[1])); !ok || err != nil {
			t.Fatal(k, ok, err)
		}
	}
}

func TestGet_RebuilderDead_ReaderTakesOverAndRepairs(t *testing.T) {
	w := newWorld()
	seg := newSegment(t, Options{Entries: 100, Shards: 1})
	victim := w.member(0)
	dying, reader := open(t, seg, victim), open(t, seg, w.member(1))
	if err := dying.Set(bg, []byte("k"), []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	sh := &dying.shards[0]
	if _, err := sh.mutex.Lock(bg); err != nil {
		t.Fatal(err)
	}
	sh.head.Epoch.Store(sh.head.Epoch.Load() | layout.EpochRebuilding)
	if _, _, err := reader.Get(nil, []byte("k")); !errors.Is(err, ErrBusy) {
		t.Fatalf("while the rebuilder lives: %v", err)
	}
	w.kill(victim)
	mustGet(t, reader, []byte("k"), "v")
	sound(t, reader)
	if st, err := reader.Stats(); err != nil || reader.Counters().Steals != 1 || st.Rebuilds != 1 {
		t.Fatalf("%+v, %v", st, err)
	}
}

// An operation that failed for a reason of its own must not hide that the lock
// was taken away meanwhile.
func TestUpdate_RobbedWhileItFails_HandleIsLost(t *testing.T) {
	s, w := newSlab(t, Options{Entries: 10, Shards: 1})
	err := s.update(bg, &s.columns[0], func() error {
		s.shards[0].head.Lock.Store(w.member(1).token)
		return ErrFull
	})
	if !errors.Is(err, ErrFull) || !errors.Is(err, ErrLost) {
		t.Fatalf("got %v", err)
	}
	if err := s.Set(bg, []byte("k"), nil, 0); !errors.Is(err, ErrLost) {
		t.Fatalf("a lost handle sets: %v", err)
	}
}

// An operation that meets broken words after its first stores is done again after
// the rebuild: once is what must come of it, and what it says.
func TestUpdate_BrokenAfterItIsVisible_RetryAppliesOnceAndSaysSo(t *testing.T) {
	k := []byte("k")
	cases, retried := 0, 0
	one, five := binary.LittleEndian.AppendUint64(nil, 1), binary.LittleEndian.AppendUint64(nil, 5)
	breaks := map[string]func(sh *shard, n uint32){
		// The new record is visible, but has no place in the order.
		"front": func(sh *shard, _ uint32) { sh.head.Front.Store(1 << 31) },
		// The new record is visible, or the old one gone, but cannot leave the order.
		"links": func(sh *shard, n uint32) {
			if n != 0 {
				sh.cell(n).Prev.Store(n)
			}
		},
		"free list": func(sh *shard, _ uint32) { sh.head.FreeHead.Store(1 << 31) },
	}
	for name, test := range map[string]struct {
		old  *Item // under "k"
		do   func(t *testing.T, s *Slab, w *world, version uint64)
		want string // afterwards; "-" is a miss
	}{
		"Put, Anyhow": {&Item{Value: one}, func(t *testing.T, s *Slab, _ *world, _ uint64) {
			wantStored(t, s, &Item{Value: five}, Anyhow, true)
		}, string(five)},
		"Put, a version": {&Item{Value: one}, func(t *testing.T, s *Slab, _ *world, version uint64) {
			wantStored(t, s, &Item{Value: five}, version, true)
		}, string(five)},
		"Put, a version, expired at once": {&Item{Value: one}, func(t *testing.T, s *Slab, w *world, version uint64) {
			wantStored(t, s, &Item{Value: five, Expiry: 1}, version, true)
		}, "-"},
		"Put, another version": {&Item{Value: one}, func(t *testing.T, s *Slab, _ *world, version uint64) {
			wantStored(t, s, &Item{Value: five}, version+4, false)
		}, string(one)},
		"Put, Absent": {nil, func(t *testing.T, s *Slab, _ *world, _ uint64) {
			wantStored(t, s, &Item{Value: five}, Absent, true)
		}, string(five)},
		"Put, Absent, after an expired one": {&Item{Value: one, Expiry: 1}, func(t *testing.T, s *Slab, _ *world, _ uint64) {
			wantStored(t, s, &Item{Value: five}, Absent, true)
		}, string(five)},
		"Add": {&Item{Value: one}, func(t *testing.T, s *Slab, _ *world, _ uint64) {
			if sum, err := s.Add(bg, s.Key(k), 4, Item{Value: one}); sum != 5 || err != nil {
				t.Fatal(sum, err)
			}
		}, string(five)},
		"Add, to nothing": {nil, func(t *testing.T, s *Slab, _ *world, _ uint64) {
			if sum, err := s.Add(bg, s.Key(k), 4, Item{Value: one}); sum != 5 || err != nil {
				t.Fatal(sum, err)
			}
		}, string(five)},
		"Keep": {nil, func(t *testing.T, s *Slab, _ *world, _ uint64) {
			if v, err := s.Keep(bg, nil, s.Key(k), &Item{Value: five}); string(v) != string(five) || err != nil {
				t.Fatal(v, err)
			}
		}, string(five)},
		"PutBatch": {&Item{Value: one}, func(t *testing.T, s *Slab, _ *world, _ uint64) {
			items := []KeyItem{{s.Key([]byte("a")), Item{}}, {s.Key(k), Item{Value: one}}, {s.Key(k), Item{Value: five}}, {s.Key([]byte("b")), Item{}}}
			if n, err := s.PutBatch(bg, items); n != len(items) || err != nil {
				t.Fatal(n, err)
			}
			mustGet(t, s, []byte("a"), "")
			mustGet(t, s, []byte("b"), "")
		}, string(five)},
		"Touch": {&Item{Value: one}, func(t *testing.T, s *Slab, w *world, version uint64) {
			s.shards[0].head.Turn.Add(1) // it is due to go to the front
			if ok, err := s.Touch(bg, s.Key(k), w.wall.Load()+1); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if it, ok, err := s.Peek(nil, s.Key(k)); it.Version != version || it.Expiry != w.wall.Load()+1 || !ok || err != nil {
				t.Fatal(it, ok, err)
			}
		}, string(one)},
		"Touch, expired at once": {&Item{Value: one}, func(t *testing.T, s *Slab, w *world, _ uint64) {
			s.shards[0].head.Turn.Add(1)
			if ok, err := s.Touch(bg, s.Key(k), 1); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}, "-"},
		"Remove": {&Item{Value: one}, func(t *testing.T, s *Slab, _ *world, _ uint64) {
			if ok, err := s.Remove(bg, s.Key(k)); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}, "-"},
		"Clear": {&Item{Value: one}, func(t *testing.T, s *Slab, _ *world, _ uint64) {
			if err := s.Clear(bg); err != nil {
				t.Fatal(err)
			}
			if st, err := s.Stats(); st.Records != 0 || st.Cleared != 11 || err != nil {
				t.Fatalf("%+v, %v", st, err)
			}
		}, "-"},
		"EvictTag": {&Item{Value: one, Tag: 3}, func(t *testing.T, s *Slab, _ *world, _ uint64) {
			if gone, err := s.EvictTag(bg, 3, 100); len(gone) != 1 || gone[0] != s.HashOf(k) || err != nil {
				t.Fatal(gone, err)
			}
			if st, err := s.Stats(); st.EvictedTag != 1 || err != nil {
				t.Fatalf("%+v, %v", st, err)
			}
		}, "-"},
		"EvictNear": {&Item{Value: one}, func(t *testing.T, s *Slab, w *world, _ uint64) {
			if gone, err := s.EvictNear(bg, s.Key(k), 1<<40, 1); len(gone) != 1 || err != nil {
				t.Fatal(gone, err)
			}
		}, ""},
	} {
		for what, damage := range breaks {
			cases++
			t.Run(name+", "+what, func(t *testing.T) {
				s, w := newSlab(t, Options{Entries: 50, Shards: 1})
				for i := range uint64(11) {
					must(t, s.Set(bg, key16(i), key16(i), 0))
				}
				if _, err := s.Delete(bg, key16(10)); err != nil { // something is on the free list
					t.Fatal(err)
				}
				id, version := s.Key(k), Absent
				if test.old != nil {
					var err error
					version, _, err = s.Put(bg, id, test.old, Anyhow)
					must(t, err)
				}
				sh := &s.shards[0]
				f, err := sh.find(&id)
				must(t, err)
				damage(sh, f.record.cell)
				test.do(t, s, w, version)
				st, err := s.Stats()
				must(t, err)
				if st.Rebuilds == 0 { // it had nothing to do with what was damaged
					must(t, s.Rebuild(bg))
				}
				retried += int(st.Rebuilds)
				sound(t, s)
				switch test.want {
				case "":
				case "-":
					mustMiss(t, s, k)
				default:
					mustGet(t, s, k, test.want)
				}
				if st, err := s.Stats(); st.Rebuilds > 1 || st.Dropped != 0 || err != nil {
					t.Fatalf("%+v, %v", st, err)
				}
				if name != "Clear" && name != "EvictNear" {
					for i := range uint64(10) {
						mustGet(t, s, key16(i), string(key16(i)))
					}
				}
			})
		}
	}
	if retried < cases/2 {
		t.Fatalf("%d of %d were done again: this test has lost its point", retried, cases)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantStored puts the item under "k" and checks what Put says, and that the
// version is the record's.
func wantStored(t *testing.T, s *Slab, it *Item, want uint64, stored bool) {
	t.Helper()
	version, ok, err := s.Put(bg, s.Key([]byte("k")), it, want)
	if ok != stored || err != nil || ok != (version != 0) {
		t.Fatalf("%#x, %v, %v", version, ok, err)
	}
	id := s.Key([]byte("k"))
	sh := s.shardOf(id.hash)
	f, err := sh.find(&id)
	must(t, err)
	if is := sh.cell(f.record.cell).Version.Load(); ok && is != version {
		t.Fatalf("version %#x, the record's is %#x", version, is)
	}
}
