package slab

import (
	"bytes"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/lock"
)

// golden is a slab with two records, as any implementation has to write it: at
// each offset the bytes that are not zero. The slab has one shard with six cells
// of 64 bytes, keys up to 8 and values up to 40 bytes; the hash seed is 42.
//
//	Set("a", "1") at domain time 1,000,000
//	Set("key", 40 bytes "0123456789...") at 1,000,005, expiring at 1,700,000,000,500: two cells
var golden = []struct {
	off   int
	bytes []byte
	what  string
}{
	{0, []byte{0x46, 0x4c, 0x41, 0x47, 0x53, 0x4c, 0x42, 0}, "Magic, FLAGSLB"},
	{8, []byte{1, 0, 0, 0}, "ReadVersion"},
	{12, []byte{1, 0, 0, 0}, "WriteVersion"},
	{16, []byte{1, 2, 3, 4, 5, 6, 7, 8}, "Endian"},
	{48, []byte{0, 0x30}, "FileSize 12288: header, shard's head and index, cells"},
	{56, []byte{7}, "SegmentID"},
	{64, []byte{1}, "DomainUUID, first word"},
	{72, []byte{2}, "DomainUUID, second word"},
	{80, []byte{42}, "HashSeed"},
	{88, []byte{1}, "Shards"},
	{92, []byte{64}, "CellSize"},
	{96, []byte{6}, "Cells: 4 records and the reserve"},
	{100, []byte{2}, "Buckets: cells / 4, rounded up"},
	{104, []byte{1}, "Overflow: cells / 7, rounded up"},
	{108, []byte{8}, "MaxKey"},
	{112, []byte{40}, "MaxValue"},
	{116, []byte{2}, "Reserve: 16 bytes in the head, 32 in a tail"},
	{120, []byte{1}, "Order: LRU"},
	{124, []byte{0}, "Full: evict"},
	{128, []byte{4}, "Capacity"},
	{136, []byte{0, 0x10}, "ShardOffset 4096"},
	{144, []byte{0, 0x20}, "ShardStride 8192"},
	{152, []byte{0, 0x02}, "IndexOffset 512"},
	{160, []byte{0, 0x10}, "CellOffset 4096"},
	{168, []byte{0xc0, 0x02}, "GhostOffset 704, the end of the overflow bucket"},
	{176, []byte{0}, "Ghosts: none"},
	{184, []byte{9}, "Created"},
	{256, []byte{1}, "Ready"},

	{4096 + 0, []byte{0}, "Lock: free"},
	{4096 + 64, []byte{0}, "Epoch"},
	{4096 + 72, []byte{2}, "Turn: one record is a tenth of the shard, rounded up"},
	{4096 + 128, []byte{2}, "Sequence"},
	{4096 + 136, []byte{2}, "Live"},
	{4096 + 140, []byte{3}, "Used"},
	{4096 + 144, []byte{0}, "FreeHead: none was freed"},
	{4096 + 148, []byte{3}, "Bump"},
	{4096 + 160, []byte{2}, "Front: cell 2"},
	{4096 + 164, []byte{1}, "Back: cell 1"},
	{4096 + 168, []byte{0}, "TurnLeft"},
	{4096 + 192, []byte{45}, "Bytes"},
	{4096 + 200, []byte{2}, "Sets"},

	{8192 + 0, []byte{0, 0x04}, "cell 1, Version: sequence 1, shard 0, live"},
	{8192 + 8, []byte{0, 0, 0x40, 0x42, 0x0f}, "Recency: turn 0, stamp 1,000,000"},
	{8192 + 16, []byte{2}, "Prev: cell 2"},
	{8192 + 20, []byte{0}, "Next: none"},
	{8192 + 24, []byte{0}, "Expiry: never"},
	{8192 + 32, []byte{1}, "ValueLength"},
	{8192 + 36, []byte{1}, "KeyFlags: one byte of key"},
	{8192 + 40, []byte{0}, "Chain: none"},
	{8192 + 48, []byte{'a', '1'}, "key, value"},

	{8256 + 0, []byte{0, 0x08}, "cell 2, Version: sequence 2"},
	{8256 + 8, []byte{4, 0, 0x45, 0x42, 0x0f}, "Recency: turn 1, stamp 1,000,005"},
	{8256 + 16, []byte{0}, "Prev: none"},
	{8256 + 20, []byte{1}, "Next: cell 1"},
	{8256 + 24, []byte{0xf4, 0x69, 0xe5, 0xcf, 0x8b, 1}, "Expiry: 1,700,000,000,500"},
	{8256 + 32, []byte{40}, "ValueLength"},
	{8256 + 36, []byte{3}, "KeyFlags"},
	{8256 + 40, []byte{3}, "Chain: cell 3"},
	{8256 + 48, []byte("key0123456789012"), "key, the value's first 13 bytes"},

	{8320 + 0, []byte{1, 0x08}, "cell 3, a tail: its head's version, state PART"},
	{8320 + 16, []byte{0}, "Chain: none"},
	{8320 + 24, []byte("345678901234567890123456789"), "the value's last 27 bytes"},
}

func TestSlab_Golden(t *testing.T) {
	g, err := Plan(Options{Entries: 4, CellSize: 64, MaxKey: 8, MaxValue: 40, Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	seg := newSegment(t, Options{Entries: 4, CellSize: 64, MaxKey: 8, MaxValue: 40, Shards: 1})
	if err := Format(seg, g, testID, 9); err != nil {
		t.Fatal(err)
	}
	s := open(t, seg, w.member(0))
	if err := s.Set(bg, []byte("a"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	w.now.Add(5)
	value := bytes.Repeat([]byte("0123456789"), 4)
	if err := s.Set(bg, []byte("key"), value, w.wall.Load()+500); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, g.FileSize())
	for _, f := range golden {
		copy(want[f.off:], f.bytes)
	}
	got := seg.Window().Append(nil, 0, g.FileSize())
	// Two words follow from others: the layout's fingerprint, and the checksum.
	copy(want[40:48], got[40:48])
	copy(want[192:200], got[192:200])
	// The slots: tag and cell, in the buckets that the hashes choose.
	for cell, k := range []string{"a", "key"} {
		h := s.HashOf([]byte(k))
		off := 4096 + 512 + int(h&0xffffffff*2>>32)*64
		for ; want[off] != 0; off += 8 {
		}
		copy(want[off:], []byte{byte(cell + 1), 0, 0, 0, byte(h >> 32), byte(h >> 40), byte(h >> 48), byte(h >> 56)})
	}
	for _, f := range golden {
		if b := got[f.off : f.off+len(f.bytes)]; !bytes.Equal(b, f.bytes) {
			t.Errorf("%s, at %d: % x, want % x", f.what, f.off, b, f.bytes)
		}
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("byte %d is %#02x, want %#02x", i, got[i], want[i])
		}
	}
}

// The hash and the token, as other languages have to compute them.
func TestHash_Golden(t *testing.T) {
	s := &Slab{Stack: &Stack{seed: 42}}
	var buf [8]byte
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{`XXH3-64 of ""`, (&Stack{}).HashOf(nil), 0x2d06800538d394c2},
		{`XXH3-64 of "" with seed 42`, s.HashOf(nil), 0xb029411ff43d84d2},
		{`XXH3-64 of "key" with seed 42`, s.HashOf([]byte("key")), 0x67197794b225585e},
		{"mix(0)", mix(0), 0},
		{"mix(1)", mix(1), 0xb456bcfc34c2cb2c},
		{"mix(2^64-1)", mix(1<<64 - 1), 0x64b5720b4b825f21},
		{"an application's hash 1 with seed 42", func() uint64 { k := s.HashKey(1, &buf); return k.hash }(), mix(1 ^ 42)},
		{"token of region 2, generation 5", lock.Token(2, 5), 5<<layout.LockGenerationShift | 3<<layout.LockRegionShift},
	} {
		if c.got != c.want {
			t.Errorf("%s is %#x, want %#x", c.name, c.got, c.want)
		}
	}
	for _, x := range []uint64{0, 1, 42, 1 << 63, 0xdeadbeef} { // mix is a bijection: place is its inverse
		if got := mix(s.place(x) ^ s.seed); got != x {
			t.Errorf("place(%#x) leads to %#x", x, got)
		}
	}
}
