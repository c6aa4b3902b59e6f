package torture

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"
)

// A value is a checksum of the rest, the id of its key, its number, who wrote it, for
// a chain the link before, and filler that follows from these.
const (
	valueHeader = 40
	mostFiller  = 1900
)

// value is what a value says.
type value struct {
	id, number, writer, before uint64
}

// bytes returns the value as it is stored: half of them in a cell or two, the others
// in up to 17.
func (v value) bytes() []byte {
	random := xxh3.HashSeed(binary.LittleEndian.AppendUint64(nil, v.number), v.id^v.writer)
	length := random >> 8 % 64
	if random&1 == 1 {
		length = random >> 8 % mostFiller
	}
	b := make([]byte, 8, valueHeader+length+8)
	for _, word := range []uint64{v.id, v.number, v.writer, v.before} {
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	for uint64(len(b)) < valueHeader+length {
		random = random*0x9e3779b97f4a7c15 + 1
		b = binary.LittleEndian.AppendUint64(b, random)
	}
	b = b[:valueHeader+length]
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
		return v, fmt.Sprintf("torn: %d bytes that say they are number %d of key %d by life %d have the checksum %016x, not %016x",
			len(b), v.number, v.id, v.writer, sum, word(0))
	}
	return v, ""
}
