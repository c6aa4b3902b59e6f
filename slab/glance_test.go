package slab

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// The straight line and the whole lookup agree for every length of key, value and
// room, and bytes beside the value stay as they were.
func TestGlance_EveryLength_AnswersAsRead(t *testing.T) {
	o := Options{Entries: 64, CellSize: 4096, MaxKey: 64, MaxValue: 4000, Shards: 1}
	s, w := newSlab(t, o)
	sh := &s.shards[0]
	lengths := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 33, 63, 64}
	for _, keyLen := range lengths {
		key := bytes.Repeat([]byte{byte(keyLen + 1)}, keyLen)
		for _, valueLen := range append(lengths, 100, 127, 128, 129, 1000, 2047, 2048, 2049, 3900) {
			value := make([]byte, valueLen)
			for i := range value {
				value[i] = byte(i*7 + keyLen)
			}
			if err := s.Set(bg, key, value, w.wall.Load()+5); err != nil {
				t.Fatal(err)
			}
			if _, ok, err := s.Get(nil, key); !ok || err != nil { // to the front, so that no turn is due
				t.Fatal(ok, err)
			}
			for _, room := range []int{0, valueLen - 1, valueLen, valueLen + 1, valueLen + 40} {
				if room < 0 {
					continue
				}
				buf := bytes.Repeat([]byte{0xa5}, room+16)
				n := s.Glance(buf[:0:room], s.Key(key))
				name := fmt.Sprintf("key of %d, value of %d, room for %d", keyLen, valueLen, room)
				switch fits := valueLen <= room && valueLen <= 2048; {
				case fits != (n >= 0):
					t.Fatalf("%s: %d", name, n)
				case fits && (n != valueLen || !bytes.Equal(buf[:n], value)):
					t.Fatalf("%s: %d, % x", name, n, buf[:n])
				}
				for i := max(n, 0); i < len(buf) && (n >= 0 || i >= room); i++ {
					if buf[i] != 0xa5 {
						t.Fatalf("%s: byte %d was overwritten", name, i)
					}
				}
			}
			other := append(bytes.Clone(key), 'x')
			if keyLen > 0 {
				other = bytes.Clone(key)
				other[keyLen-1] ^= 1
			}
			// A key of the same tag, as a collision would have it.
			if n := s.Glance(make([]byte, 0, 4096), Key{other, 0, s.HashOf(key)}); n >= 0 {
				t.Fatalf("key of %d: another key was taken for it", keyLen)
			}
		}
	}
	if n := s.Glance(make([]byte, 0, 64), Key{nil, 0, s.HashOf([]byte("absent"))}); n >= 0 {
		t.Fatal("an absent key was found")
	}
	w.wall.Add(5)
	if n := s.Glance(make([]byte, 0, 4096), s.Key(nil)); n >= 0 {
		t.Fatal("an expired value was found")
	}
	sh.head.Epoch.Store(layout.EpochRebuilding)
	if err := s.Set(bg, nil, nil, 0); err != nil { // rebuilds
		t.Fatal(err)
	}
	sh.head.Epoch.Store(sh.head.Epoch.Load() | layout.EpochRebuilding)
	if n := s.Glance(make([]byte, 0, 64), s.Key(nil)); n >= 0 {
		t.Fatal("a shard under rebuild answered")
	}
}
