package flagstone

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"

	"github.com/flagstone-shm/flagstone/slab"
)

// Namespace is a part of a cache with keys of its own. All processes that name it
// alike share it, and Clear empties it at once. It is a handle without state:
// make as many as you like. Its keys take 8 bytes more, and each of its operations
// one more lookup, of the namespace's id, a random number that begins its keys. All
// methods may be called concurrently.
type Namespace struct{ scope }

// Namespace returns the namespace of that name, which may be any string that is no
// longer than a key. It need not exist.
func (c *Cache) Namespace(name string) *Namespace {
	return &Namespace{scope{c, append(make([]byte, 0, len(name)), name...)}}
}

// Name returns the namespace's name.
func (n *Namespace) Name() string { return string(n.name) }

// ID returns the id that the namespace has now, to compare with Pair.Scope; ok is
// false if it has none: nothing is in it. It changes with Clear. It costs a lookup,
// and may return ErrBusy as Get does.
func (n *Namespace) ID() (id uint64, ok bool, err error) {
	v, err := n.cache.fresh()
	if err != nil {
		return 0, false, err
	}
	var buf [8]byte
	for looks := 0; ; {
		b, ok, err := n.id(v, buf[:0])
		if ok {
			id = binary.LittleEndian.Uint64(b)
		}
		if ok || !n.cache.stale(&v, &looks, &err) {
			return id, ok, err
		}
	}
}

// Clear removes everything from the namespace, in one write: it takes its id from
// it, and the next write gives it another. The records of the old one are found no
// more, and leave as they age. It waits as Set does. Writes that overlap it may be
// lost with the rest.
func (n *Namespace) Clear(ctx context.Context) error {
	return n.cache.update(ctx, func(v *view) error {
		_, err := v.slab.Remove(ctx, v.slab.NamespaceKey(n.name))
		return err
	})
}

// id appends the namespace's id to dst; ok is false if it has none: nothing is in
// it. The cache itself has an id of no bytes.
func (s *scope) id(v *view, dst []byte) (id []byte, ok bool, err error) {
	if s.name == nil {
		return dst, true, nil
	}
	it, ok, err := v.slab.Use(dst, v.slab.NamespaceKey(s.name))
	return it.Value, ok && len(it.Value) == len(dst)+8, err
}

// newID makes an id. It is random, as a namespace whose id was evicted to make room,
// or lost, must not meet its old records again.
func newID() []byte { return binary.LittleEndian.AppendUint64(nil, rand.Uint64()|1) }

// prefix appends the namespace's id to dst as id does, but where that would say that
// it is busy it waits until ctx ends, unless the handle is read-only. With create a
// namespace without id gets one. It is ErrStale if the view is too old to tell.
func (s *scope) prefix(ctx context.Context, v *view, dst []byte, create bool) (id []byte, ok bool, err error) {
	id, ok, err = s.id(v, dst)
	busy := errors.Is(err, ErrBusy) && !s.cache.domain.ReadOnly
	switch {
	case ok || err != nil && !busy:
		return id, ok, err
	case create:
		id, err = v.slab.Keep(ctx, dst, v.slab.NamespaceKey(s.name), &slab.Item{Value: newID()})
		return id, err == nil, err
	case busy:
		id, ok, err = v.slab.GetWaiting(ctx, dst, v.slab.NamespaceKey(s.name))
		return id, ok && len(id) == len(dst)+8, err
	case s.cache.table.Changes() != v.changes:
		return dst, false, slab.ErrStale
	}
	return id, false, nil
}

// under returns the slab's key for one of this scope's. It stands in id's memory,
// if that has room.
func (s *scope) under(v *view, id, key []byte) slab.Key {
	if s.name == nil {
		return v.slab.Key(key)
	}
	return v.slab.ScopedKey(append(id, key...))
}

// key returns the slab's key for one of this scope's, to be used by several
// operations; the namespace is given an id if it has none.
func (s *scope) key(ctx context.Context, key []byte) (k slab.Key, err error) {
	err = s.cache.update(ctx, func(v *view) error {
		id, _, err := s.prefix(ctx, v, nil, true)
		if err == nil {
			k = s.under(v, id, key)
		}
		return err
	})
	return k, err
}
