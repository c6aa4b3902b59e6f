package torture

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"
)

// A value is a checksum of the rest, the key's id, who wrote it, its number, for a chain
// who wrote the link before, and filler that follows from these.
const (
	valueHeader = 40
	mostFiller  = 2000
)

// value is what a value says.
type value struct {
	id     uint64
	writer uint64
	number uint64
	before uint64
}

// bytes returns the value as it is stored. Half of them fit one cell or two.
func (v value) bytes() []byte {
	r := mix(v.id ^ v.number*0x9e3779b97f4a7c15)
	n := r >> 8 % 64
	if r&1 == 1 {
		n = r >> 8 % mostFiller
	}
	b := make([]byte, valueHeader, valueHeader+n+8)
	for i, word := range []uint64{v.id, v.writer, v.number, v.before} {
		binary.LittleEndian.PutUint64(b[8+8*i:], word)
	}
	for uint64(len(b)) < valueHeader+n {
		r = mix(r + 1)
		b = binary.LittleEndian.AppendUint64(b, r)
	}
	b = b[:valueHeader+n]
	binary.LittleEndian.PutUint64(b, xxh3.Hash(b[8:]))
	return b
}

// parse returns what a value says, and what is wrong with it.
func parse(b []byte) (v value, wrong string) {
	if len(b) < valueHeader {
		return v, fmt.Sprintf("torn: a value of %d bytes, %x", len(b), b)
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	v = value{word(1), word(2), word(3), word(4)}
	if sum := xxh3.Hash(b[8:]); sum != word(0) {
		return v, fmt.Sprintf("torn: %d bytes that say they are number %d of %s by %#x have the checksum %016x, not %016x",
			len(b), v.number, keyOf(v.id), v.writer, sum, word(0))
	}
	return v, ""
}

// mix is a permutation that looks random.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
