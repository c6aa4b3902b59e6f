package slab

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// observed opens the slab as one who only looks.
func observed(t *testing.T, seg *shm.Segment, w *world) *Slab {
	t.Helper()
	s, err := Open(seg, Domain{Wall: &w.wall, Now: new(layout.Uint64), ReadOnly: true}, testID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Records of another turn are hit, deleted, expired and absent ones asked for, and
// every operation tried, on a sound slab and on garbage.
func TestReadOnly_Everything_NothingWritten(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range effort(20) {
		seg := newSegment(t, Options{Entries: 60, Shards: 2, MaxKey: 100, MaxValue: 600})
		w := newWorld()
		s := open(t, seg, w.member(0))
		for i := range uint64(60) {
			if err := s.Set(bg, key16(i), make([]byte, i*5), i%5*w.wall.Load()); err != nil {
				t.Fatal(err)
			}
		}
		w.now.Add(1000)
		looking := observed(t, seg, w)
		for i := range uint64(60) { // as both see it
			want, ok, err := s.Get(nil, key16(i))
			got, found, failed := looking.Get(nil, key16(i))
			if err != nil || failed != nil || ok != found || !bytes.Equal(want, got) {
				t.Fatalf("key %d: %v, %v, want %v, %v", i, found, failed, ok, err)
			}
		}
		if round%2 > 0 {
			for off := uint64(layout.PageSize); off < s.geo.FileSize(); off += 8 {
				if random.IntN(4) == 0 {
					shm.At[layout.Uint64](seg.Window(), off).Store(badWord(random, s.geo))
				}
			}
		}
		before := bytes.Clone(seg.Bytes())
		for range 200 {
			if err := everything(bg, looking.Stack, random); err != nil {
				t.Fatal(err)
			}
		}
		if err := looking.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(seg.Bytes(), before) {
			t.Fatal("bytes changed")
		}
	}
}

func TestReadOnly_RebuildAbandoned_BusyAndNotRepaired(t *testing.T) {
	seg := newSegment(t, Options{Entries: 60, Shards: 1})
	w := newWorld()
	s := open(t, seg, w.member(0))
	if err := s.Set(bg, key16(1), []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	epoch := &s.shards[0].head.Epoch
	epoch.Store(epoch.Load() | layout.EpochRebuilding)
	looking := observed(t, seg, w)
	_, _, err := looking.Get(nil, key16(1))
	mustBe(t, err, ErrBusy)
	mustBe(t, looking.Scan(bg, func(Record) bool { return true }), ErrBusy)
	mustBe(t, looking.Set(bg, key16(1), nil, 0), ErrReadOnly)
	mustBe(t, looking.Rebuild(bg), ErrReadOnly)
	_, err = looking.Check(bg)
	mustBe(t, err, ErrReadOnly)
	_, err = looking.Evict(bg, 0, 0)
	mustBe(t, err, ErrReadOnly)
	if epoch.Load()&layout.EpochRebuilding == 0 {
		t.Error("repaired")
	}
	mustGet(t, s, key16(1), "v") // by who may
	mustGet(t, looking, key16(1), "v")
	if err := looking.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, err = looking.Get(nil, key16(2))
	mustBe(t, err, ErrClosed)
	mustBe(t, looking.Set(bg, key16(1), nil, 0), ErrClosed)
}

func mustBe(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}
