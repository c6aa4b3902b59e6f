package slab

import (
	"fmt"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// What was written last stands first, with everything that was kept with it.
func TestDump_AfterWrites_NewestFirst(t *testing.T) {
	s, w := newSlab(t, Options{Entries: 8, CellSize: 64, MaxKey: 8, MaxValue: 40, Shards: 1})
	for i := range 3 {
		it := Item{Value: []byte{byte(i)}, Tag: uint32(i), Expiry: w.wall.Load() + 1000, Stale: 7}
		if _, _, err := s.Put(bg, s.Key(fmt.Appendf(nil, "k%d", i)), &it, Anyhow); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.Dump(bg)
	if err != nil || len(all) != 1 || len(all[0].Records) != 3 || all[0].Live != 3 || all[0].Sequence != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	for i, r := range all[0].Records {
		n := 2 - i
		if string(r.Key) != fmt.Sprintf("k%d", n) || r.Value[0] != byte(n) || r.Tag != uint32(n) || r.Stale != 7 || r.LastUse != w.now.Load() || r.Small {
			t.Errorf("record %d: %+v", i, r)
		}
	}
}

// An order that goes in circles is made anew first, and loses nothing.
func TestDump_ListInACircle_RebuiltFirst(t *testing.T) {
	for _, order := range []Order{LRU, S3FIFO} {
		s, _ := newSlab(t, Options{Entries: 8, CellSize: 64, MaxKey: 8, MaxValue: 40, Shards: 1, Order: order})
		for i := range 4 {
			if err := s.Set(bg, fmt.Appendf(nil, "k%d", i), nil, 0); err != nil {
				t.Fatal(err)
			}
		}
		sh := &s.shards[0]
		for n := uint32(1); n <= 4; n++ {
			sh.cell(n).Next.Store(n)
		}
		all, err := s.Dump(bg)
		if err != nil || len(all[0].Records) != 4 {
			t.Fatalf("order %d: %+v, %v", order, all, err)
		}
		if sh.head.Rebuilds.Load() != 1 {
			t.Errorf("order %d: %d rebuilds", order, sh.head.Rebuilds.Load())
		}
	}
}

// LockKey keeps writers out of one column, and of no other.
func TestLockKey_OneColumn_OthersGoOn(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 64, CellSize: 64, MaxKey: 8, MaxValue: 40, Shards: 2})
	key := [2][]byte{}
	for i := 0; key[0] == nil || key[1] == nil; i++ {
		k := fmt.Appendf(nil, "k%d", i)
		key[s.HashOf(k)&1] = k
	}
	l, err := s.LockKey(bg, s.Key(key[1]))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextFor(20 * time.Millisecond)
	defer cancel()
	if err := s.Set(ctx, key[1], nil, 0); err == nil {
		t.Error("written under another's lock")
	}
	if err := s.Set(bg, key[0], nil, 0); err != nil {
		t.Error(err)
	}
	if word := s.shards[1].head.Lock.Load(); word&^layout.LockFlagMask != s.domain.Owner.Token() {
		t.Errorf("lock word %#x", word)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := s.Set(bg, key[1], nil, 0); err != nil {
		t.Error(err)
	}
}
