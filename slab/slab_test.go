package slab

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

func TestSlab_SetGetDelete_AnyBytes(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 20_000})
	keys := []string{"", "a", "\x00", strings.Repeat("k", 79), strings.Repeat("k", 80), strings.Repeat("k", 81), strings.Repeat("k", 1024)}
	sizes := []int{0, 1, 63, 64, 65, 80, 183, 184, 185, 1000, 65536}
	for _, k := range keys {
		for _, n := range sizes {
			v := strings.Repeat("v", n)
			if err := s.Set(bg, []byte(k), []byte(v), 0); err != nil {
				t.Fatal(err)
			}
			mustGet(t, s, []byte(k), v)
		}
	}
	sound(t, s)
	for _, k := range keys {
		if ok, err := s.Delete(bg, []byte(k)); !ok || err != nil {
			t.Fatal(ok, err)
		}
		mustMiss(t, s, []byte(k))
		if ok, err := s.Delete(bg, []byte(k)); ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	sound(t, s)
	if st, _ := s.Stats(); st.Records != 0 || st.Cells != 0 || st.Bytes != 0 {
		t.Fatalf("%+v", st)
	}
}

func TestSlab_Limits_TypedErrorsAndNothingChanged(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 10, MaxKey: 16, MaxValue: 100})
	if err := s.Set(bg, make([]byte, 17), nil, 0); !errors.Is(err, ErrKeyTooLong) {
		t.Fatal(err)
	}
	if err := s.Set(bg, nil, make([]byte, 101), 0); !errors.Is(err, ErrValueTooLong) {
		t.Fatal(err)
	}
	mustMiss(t, s, make([]byte, 17))
	if st, _ := s.Stats(); st.Sets != 0 {
		t.Fatal(st)
	}
}

func TestSlab_HashKeys_LiveBesideByteKeys(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 100})
	for h := range uint64(50) {
		if err := s.SetHash(bg, h, []byte(fmt.Sprint("hash", h)), 0); err != nil {
			t.Fatal(err)
		}
		if err := s.Set(bg, []byte{byte(h), 0, 0, 0, 0, 0, 0, 0}, []byte(fmt.Sprint("key", h)), 0); err != nil {
			t.Fatal(err)
		}
	}
	for h := range uint64(50) {
		v, ok, err := s.GetHash(nil, h)
		if !ok || err != nil || string(v) != fmt.Sprint("hash", h) {
			t.Fatal(h, string(v), ok, err)
		}
		mustGet(t, s, []byte{byte(h), 0, 0, 0, 0, 0, 0, 0}, fmt.Sprint("key", h))
		if ok, err := s.DeleteHash(bg, h); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	sound(t, s)
}

func TestSlab_Expiry_EndsOnTheMillisecond(t *testing.T) {
	s, w := newSlab(t, Options{Entries: 10})
	if err := s.Set(bg, []byte("k"), []byte("v"), w.wall.Load()+100); err != nil {
		t.Fatal(err)
	}
	w.wall.Add(99)
	mustGet(t, s, []byte("k"), "v")
	w.wall.Add(1)
	mustMiss(t, s, []byte("k"))
	if ok, err := s.Delete(bg, []byte("k")); ok || err != nil {
		t.Fatal("an expired record was reported as deleted", err)
	}
	sound(t, s)
}

func TestSlab_Capacity_TakesWhatItWasMadeFor(t *testing.T) {
	for _, policy := range []Policy{Evict, Refuse} {
		for _, n := range []uint64{1, 2, 10, 86 * 16, 20_000, 200_000} {
			s, _ := newSlab(t, Options{Entries: n, OnFull: policy})
			for i := range n {
				if err := s.Set(bg, key16(i), []byte("v"), 0); err != nil {
					t.Fatalf("record %d of %d: %v", i, n, err)
				}
			}
			if st, _ := s.Stats(); st.EvictedFull != 0 || st.Records != n {
				t.Fatalf("%d records: %+v, geometry %+v", n, st, s.geo)
			}
			for i := range n {
				mustGet(t, s, key16(i), "v")
			}
			t.Logf("%d records: %d shards of %d cells, headroom %d", n, s.geo.Shards, s.geo.Cells, s.geo.Headroom())
		}
	}
}

func TestSlab_Refuse_FullShardStillReplaces(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 100, OnFull: Refuse})
	big := bytes.Repeat([]byte("x"), 65536)
	var stored []uint64
	for i := uint64(0); ; i++ {
		err := s.Set(bg, key16(i), big, 0)
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, i)
	}
	for i := uint64(1000); ; i++ {
		if err := s.Set(bg, key16(i), nil, 0); errors.Is(err, ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, i)
	}
	for _, i := range stored {
		v, ok, err := s.Get(nil, key16(i))
		if !ok || err != nil {
			t.Fatal(i, ok, err)
		}
		for range 3 {
			if err := s.Set(bg, key16(i), v, 0); err != nil {
				t.Fatalf("replacing record %d of %d bytes: %v", i, len(v), err)
			}
		}
	}
	sound(t, s)
}

func TestSlab_Evict_FullShardDropsLeastRecentlyUsed(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 1000, Shards: 1, MaxValue: 64})
	room := uint64(s.geo.Cells - s.geo.Reserve)
	for i := range room + 10 {
		if err := s.Set(bg, key16(i), []byte("v"), 0); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(10) {
		mustMiss(t, s, key16(i))
	}
	for i := uint64(10); i < room+10; i++ {
		mustGet(t, s, key16(i), "v")
	}
	sound(t, s)
}

func TestSlab_GetBatch_AnswersAsGet(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 1000})
	var keys [][]byte
	for i := range uint64(100) {
		keys = append(keys, key16(i))
		if i%3 != 0 {
			if err := s.Set(bg, key16(i), bytes.Repeat([]byte{byte(i)}, int(i*10)), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	var b Batch
	for range 2 {
		if err := s.GetBatch(&b, keys); err != nil {
			t.Fatal(err)
		}
		for i, k := range keys {
			want, ok, _ := s.Get(nil, k)
			if v, found := b.Value(i); found != ok || !bytes.Equal(v, want) {
				t.Fatal(i, found, ok)
			}
		}
	}
	if n := testing.AllocsPerRun(20, func() { _ = s.GetBatch(&b, keys) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestSlab_GetSet_AllocateNothing(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 1000})
	k, v, dst := key16(1), make([]byte, 500), make([]byte, 0, 500)
	if n := testing.AllocsPerRun(100, func() { _ = s.Set(bg, k, v, 0) }); n != 0 {
		t.Errorf("Set: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _, _ = s.Get(dst, k) }); n != 0 {
		t.Errorf("Get: %v allocations", n)
	}
}

func TestGet_KeyOfAnotherKindsLength_Misses(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 10, CellSize: layout.MaxCellSize, MaxKey: layout.MaxKeyLength})
	if err := s.SetHash(bg, 7, []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	mustMiss(t, s, make([]byte, 1<<16+8))
}
