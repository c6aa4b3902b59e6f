package main

import (
	"context"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/flagstone-shm/flagstone/internal/inside"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
)

// key is a key as the line protocol writes it.
type key struct {
	word      string
	bytes     []byte // of the key, or of the one in the namespace
	hash      uint64
	byHash    bool
	namespace []byte // nil is none
}

// key reads a word that stands for a key.
func (l *line) key(w string) key {
	k := key{word: w}
	switch {
	case strings.HasPrefix(w, "#"):
		hash, err := strconv.ParseUint(w[1:], 16, 64)
		if err != nil || len(w) != 17 {
			l.wrong("hash %q", w)
		}
		k.byHash, k.hash = true, hash
	case strings.HasPrefix(w, "@"):
		name, within, found := strings.Cut(w[1:], "/")
		if !found {
			l.wrong("key in a namespace %q", w)
		}
		k.namespace, k.bytes = append([]byte{}, l.bytes(name)...), l.bytes(within)
	default:
		k.bytes = l.bytes(w)
	}
	return k
}

// in returns the key as a stack takes it. Without create, ok is false if nothing is in
// the key's namespace.
func (k key) in(ctx context.Context, v inside.View, create bool) (out slab.Key, ok bool, err error) {
	switch {
	case k.byHash:
		return v.HashKey(k.hash, new([8]byte)), true, nil
	case k.namespace != nil:
		return v.Scoped(ctx, k.namespace, k.bytes, create)
	}
	return v.Key(k.bytes), true, nil
}

// written returns how a scanned record's key is written. An id of 0, which only damage
// makes, shows in the hash, which is that of id and key.
func written(v inside.View, n slab.Name) string {
	switch {
	case n.ByHash:
		return "#" + hex16(n.Hash)
	case n.Scope != 0 || v.HashOf(n.Key) != n.Hash:
		return text(append(binary.LittleEndian.AppendUint64(nil, n.Scope), n.Key...))
	}
	return text(n.Key)
}

// expiry returns the wall time of the options ttl and expiry; 0 is never.
func (l *line) expiry(wall uint64) uint64 {
	at := l.option("expiry", 0)
	if ttl := l.option("ttl", 0); ttl != 0 {
		at = min(wall+min(ttl, layout.ExpiryMask), layout.ExpiryMask)
	}
	return at
}
