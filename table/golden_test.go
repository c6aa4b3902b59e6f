//go:build linux

package table

import (
	"slices"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// goldenHeader is the header page of the domain that the test describes, field
// by field, as any implementation has to write it. The rest of the page is zero.
var goldenHeader = [][]byte{
	{0x46, 0x4c, 0x41, 0x47, 0x43, 0x54, 0x4c, 0}, // 0: Magic, "FLAGCTL"
	{1, 0, 0, 0},             // 8: ReadVersion 1
	{1, 0, 0, 0},             // 12: WriteVersion 1
	{1, 2, 3, 4, 5, 6, 7, 8}, // 16: Endian
	{0, 0, 0, 0, 0, 0, 0, 0}, // 24: Compatible, no feature
	{0, 0, 0, 0, 0, 0, 0, 0}, // 32: Incompatible, no feature
	{0x5f, 0x3f, 0x13, 0x75, 0xc9, 0x7e, 0x26, 0xef}, // 40: Fingerprint of layout 1.0
	{0, 0x20, 0, 0, 0, 0, 0, 0},                      // 48: FileSize 8192
	{4, 0, 0, 0},                                     // 56: Mutexes
	{2, 0, 0, 0},                                     // 60: Entries
	{3, 0, 0, 0},                                     // 64: Regions
	{5, 0, 0, 0},                                     // 68: Held
	{6, 0, 0, 0},                                     // 72: Mapped
	{0x80, 0x02, 0, 0},                               // 76: RegionStride 640 = 512 + 8*5 + 8*6, to a line
	{0, 0x10, 0, 0, 0, 0, 0, 0},                      // 80: MutexOffset 4096
	{0, 0x11, 0, 0, 0, 0, 0, 0},                      // 88: EntryOffset 4096 + 4*64
	{0x80, 0x12, 0, 0, 0, 0, 0, 0},                   // 96: RegionOffset 4352 + 2*192
	{0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11}, // 104: HashSeed
	{8, 7, 6, 5, 4, 3, 2, 1},                         // 112: DomainUUID, first word
	{0x10, 0x0f, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 9},    // 120: DomainUUID, second word
	{0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11}, // 128: BootID, first word
	{0x20, 0x1f, 0x1e, 0x1d, 0x1c, 0x1b, 0x1a, 0x19}, // 136: BootID, second word
	{0x12, 0xf0, 0xde, 0xbc, 0x9a, 1, 0, 0},          // 144: Created
	{0x79, 0x0d, 0x57, 0xb8, 0x0c, 0x65, 0xa6, 0x2c}, // 152: Checksum, XXH3-64 of all above
	make([]byte, 32),         // 160: unused, to the line's end
	{1, 0, 0, 0, 0, 0, 0, 0}, // 192: Ready
}

func TestHeader_Golden(t *testing.T) {
	g, err := Plan(Options{Regions: 3, Entries: 2, Mutexes: 4, Held: 5, Mapped: 6})
	must(t, err)
	h := header{
		Geometry: g, seed: 0x1122334455667788, created: 0x0000019abcdef012,
		uuid: [2]uint64{0x0102030405060708, 0x090a0b0c0d0e0f10},
		boot: [2]uint64{0x1112131415161718, 0x191a1b1c1d1e1f20},
	}
	seg := shm.Heap(layout.PageSize)
	h.write(seg.Window())
	golden := slices.Concat(goldenHeader...)
	got := seg.Window().Append(nil, 0, uint64(len(golden)))
	for i := range golden {
		if got[i] != golden[i] {
			t.Errorf("byte %d is %#02x, want %#02x", i, got[i], golden[i])
		}
	}
	for i, b := range seg.Window().Append(nil, uint64(len(golden)), layout.PageSize-uint64(len(golden))) {
		if b != 0 {
			t.Errorf("byte %d is %#02x, want 0", i+len(golden), b)
		}
	}
}
