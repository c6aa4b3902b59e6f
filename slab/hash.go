package slab

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// key is what a record is found by: its bytes, whether they are an application's
// hash, and the hash that places it.
//
//	hash | tag 32 | bucket 32, of which the low bits choose the shard too |
type key struct {
	bytes []byte
	flags uint32 // 0 or FlagHashKey
	hash  uint64
}

func (k *key) tag() uint64 { return k.hash >> layout.SlotTagShift }

// word packs length and flags as they stand in CellHeader.KeyFlags.
func (k *key) word() uint32 { return uint32(len(k.bytes)) | k.flags<<layout.KeyFlagsShift }

// HashOf returns the hash that places a key: XXH3-64 with the domain's seed.
// Evict reports records by it.
func (s *Slab) HashOf(k []byte) uint64 { return xxh3.HashSeed(k, s.seed) }

func (s *Slab) keyOf(k []byte) key { return key{bytes: k, hash: s.HashOf(k)} }

// hashKey makes the key of a record that the application finds by its own hash.
// Buf holds its bytes.
func (s *Slab) hashKey(hash uint64, buf *[8]byte) key {
	binary.LittleEndian.PutUint64(buf[:], hash)
	return key{bytes: buf[:], flags: layout.FlagHashKey, hash: mix(hash ^ s.seed)}
}

// rehash computes a stored record's hash from its key bytes.
func (s *Slab) rehash(k []byte, flags uint32) uint64 {
	if flags&layout.FlagHashKey != 0 && len(k) == 8 {
		return mix(binary.LittleEndian.Uint64(k) ^ s.seed)
	}
	return xxh3.HashSeed(k, s.seed)
}

// mix is a bijection of 64-bit words that spreads weak hashes over all bits: the
// finalizer of MurmurHash3 (Austin Appleby, public domain).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
