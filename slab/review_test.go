package slab

import (
	"errors"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

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
	if st, err := reader.Stats(); err != nil || st.LockTaken != 1 || st.Rebuilds != 1 {
		t.Fatalf("%+v, %v", st, err)
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

func TestGet_KeyOfAnotherKindsLength_Misses(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 10, CellSize: layout.MaxCellSize, MaxKey: layout.MaxKeyLength})
	if err := s.SetHash(bg, 7, []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	mustMiss(t, s, make([]byte, 1<<16+8))
}
