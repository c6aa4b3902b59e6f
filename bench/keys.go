package main

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// stream is a sequence of keys, made before the clock runs. The same keys are
// there as bytes and as a string, so that each contestant takes the form it likes
// without copying; values, where a stream has them, are what to set.
type stream struct {
	bytes  []byte
	text   string
	values []byte
	size   int // bytes of a value, in the caches too
}

// newStream returns the keys of ids.
func newStream(ids []uint32, size int) stream {
	b := make([]byte, 0, len(ids)*keySize)
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint64(b, mix(uint64(id)))
		b = binary.LittleEndian.AppendUint64(b, uint64(id))
	}
	return stream{bytes: b, text: string(b), size: size}
}

// idOf returns the id that newStream made a key of.
func idOf(key []byte) uint64 { return binary.LittleEndian.Uint64(key[8:]) }

// newRecords returns the keys of ids with their values.
func newRecords(ids []uint32, size int) stream {
	s := newStream(ids, size)
	s.values = make([]byte, 0, len(ids)*size)
	for _, id := range ids {
		for word := range uint64(size / 8) {
			s.values = binary.LittleEndian.AppendUint64(s.values, mix(uint64(id)<<16|word+1))
		}
	}
	return s
}

func (s stream) len() int             { return len(s.text) / keySize }
func (s stream) key(i int) []byte     { return s.bytes[i*keySize : (i+1)*keySize : (i+1)*keySize] }
func (s stream) keyText(i int) string { return s.text[i*keySize : (i+1)*keySize] }
func (s stream) value(i int) []byte   { return s.values[i*s.size : (i+1)*s.size : (i+1)*s.size] }

// part returns at most n keys, from key i on.
func (s stream) part(i, n int) stream {
	i, end := min(i, s.len()), min(i+n, s.len())
	p := stream{bytes: s.bytes[i*keySize : end*keySize], text: s.text[i*keySize : end*keySize], size: s.size}
	if s.values != nil {
		p.values = s.values[i*s.size : end*s.size]
	}
	return p
}

// mix is the finalizer of SplitMix64, a bijection.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// shuffled returns 0 to n-1 in random order.
func shuffled(r *rand.Rand, n int) []uint32 {
	ids := make([]uint32, n)
	for i := range ids {
		ids[i] = uint32(i)
	}
	r.Shuffle(n, func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids
}

// drawn returns count draws of next.
func drawn(count int, next func() uint32) []uint32 {
	ids := make([]uint32, count)
	for i := range ids {
		ids[i] = next()
	}
	return ids
}

// zipf draws ranks 0 to n-1 with a probability proportional to 1/(rank+1)^theta,
// as YCSB's ZipfianGenerator does (Gray et al., "Quickly generating billion-record
// synthetic databases", SIGMOD 1994).
type zipf struct {
	rand                     *rand.Rand
	n                        int
	theta, alpha, zetan, eta float64
}

func newZipf(r *rand.Rand, n int, theta float64) *zipf {
	zetan := 0.0
	for i := 1; i <= n; i++ {
		zetan += math.Pow(float64(i), -theta)
	}
	zeta2 := 1 + math.Pow(2, -theta)
	return &zipf{
		rand: r, n: n, theta: theta, alpha: 1 / (1 - theta), zetan: zetan,
		eta: (1 - math.Pow(2/float64(n), 1-theta)) / (1 - zeta2/zetan),
	}
}

func (z *zipf) next() int {
	u := z.rand.Float64()
	switch uz := u * z.zetan; {
	case uz < 1:
		return 0
	case uz < 1+math.Pow(2, -z.theta):
		return 1
	}
	return min(int(float64(z.n)*math.Pow(z.eta*u-z.eta+1, z.alpha)), z.n-1)
}
