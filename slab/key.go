package slab

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// Key is what a record is found by: bytes, what kind of bytes they are, and the
// hash that places it. The bytes must not change while it is used.
//
//	hash | tag 32 | bucket 32, of which the low bits choose the shard too |
type Key struct {
	bytes []byte
	flags uint32 // layout.Flag*
	hash  uint64
}

func (k *Key) tag() uint64 { return k.hash >> layout.SlotTagShift }

// word packs length and flags as they stand in CellHeader.KeyFlags.
func (k *Key) word() uint32 { return uint32(len(k.bytes)) | k.flags<<layout.KeyFlagsShift }

// claim returns the key of the claim on k: the same place, another kind.
func (k Key) claim() Key {
	k.flags |= layout.FlagClaim
	return k
}

// ID returns a string that no other key has.
func (k Key) ID() string { return string(append([]byte{byte(k.flags)}, k.bytes...)) }

// HashOf returns the hash that places a key: XXH3-64 with the domain's seed.
// Evict reports records by it.
func (st *Stack) HashOf(k []byte) uint64 { return xxh3.HashSeed(k, st.seed) }

// Key returns the key of plain bytes.
func (st *Stack) Key(k []byte) Key { return Key{bytes: k, hash: st.HashOf(k)} }

// HashKey returns the key of a record that the application finds by its own hash.
// Buf holds its bytes.
func (st *Stack) HashKey(hash uint64, buf *[8]byte) Key {
	binary.LittleEndian.PutUint64(buf[:], hash)
	return Key{bytes: buf[:], flags: layout.FlagHashKey, hash: mix(hash ^ st.seed)}
}

// NamespaceKey returns the key of the record that holds a namespace's id.
func (st *Stack) NamespaceKey(name []byte) Key {
	return Key{bytes: name, flags: layout.FlagNamespace, hash: st.HashOf(name)}
}

// ScopedKey returns the key of bytes that begin with a namespace's id, 8 bytes.
func (st *Stack) ScopedKey(k []byte) Key {
	return Key{bytes: k, flags: layout.FlagScoped, hash: st.HashOf(k)}
}

// KeyOf returns the key of a record that is called so, in the namespace with that id.
func (st *Stack) KeyOf(n Name) Key {
	switch {
	case n.ByHash:
		return st.HashKey(n.Hash, new([8]byte))
	case n.Scope != 0:
		return st.ScopedKey(append(binary.LittleEndian.AppendUint64(nil, n.Scope), n.Key...))
	}
	return st.Key(n.Key)
}

// scopeID returns the id that the value of a namespace's record is.
func scopeID(value []byte) (id uint64, ok bool) {
	if len(value) != 8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(value), true
}

// rehash computes a stored record's hash from its key bytes.
func (st *Stack) rehash(k []byte, flags uint32) uint64 {
	if flags&layout.FlagHashKey != 0 && len(k) == 8 {
		return mix(binary.LittleEndian.Uint64(k) ^ st.seed)
	}
	return xxh3.HashSeed(k, st.seed)
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

// Name is a record's key as the outside knows it.
type Name struct {
	Key    []byte // the key's bytes; the application's hash, 8 bytes little-endian, if ByHash
	Hash   uint64 // HashOf(Key), the application's hash if ByHash, or that of scope and key
	ByHash bool   // stored by HashKey
	Scope  uint64 // id of its namespace; 0 is none
}

// nameOf returns how a record is called; inner is true for one that only this
// library uses: a claim, or a namespace's id.
func nameOf(k []byte, flags uint32, hash uint64) (n Name, inner bool) {
	n = Name{Key: k, Hash: hash}
	switch {
	case flags&layout.FlagHashKey != 0 && len(k) == 8:
		n.ByHash, n.Hash = true, binary.LittleEndian.Uint64(k)
	case flags&layout.FlagScoped != 0 && len(k) >= 8:
		n.Scope, n.Key = binary.LittleEndian.Uint64(k), k[8:]
	}
	return n, flags&(layout.FlagClaim|layout.FlagNamespace) != 0
}
