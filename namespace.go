package flagstone

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"

	"github.com/flagstone-shm/flagstone/slab"
)

// Namespace is a part of a cache with keys of its own. All processes that name it
// alike share it, and Clear empties it at once. It is a handle without state:
// make as many as you like. Its keys take 8 bytes more, and each of its operations
// one more lookup, of the namespace's id, a random number that begins its keys.
type Namespace struct{ scope }

// Namespace returns the namespace of that name, which may be any string that is no
// longer than a key. It need not exist.
func (c *Cache) Namespace(name string) *Namespace {
	return &Namespace{scope{c, append(make([]byte, 0, len(name)), name...)}}
}

// Name returns the namespace's name.
func (n *Namespace) Name() string { return string(n.name) }

// Clear removes everything from the namespace, in one write: it gives it a new id.
// The records of the old one are found no more, and leave as they age. It waits as
// Set does. Writes that overlap it may be lost with the rest.
func (n *Namespace) Clear(ctx context.Context) error {
	v, err := n.cache.fresh()
	if err != nil {
		return err
	}
	_, _, err = v.slab.Put(ctx, v.slab.NamespaceKey(n.name), &slab.Item{Value: newID()}, slab.Anyhow)
	return err
}

// All is Cache.All for the namespace. It looks at the whole cache.
func (n *Namespace) All(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		v, err := n.cache.fresh()
		var id []byte
		var ok bool
		if err == nil {
			id, ok, err = n.id(v, nil)
		}
		if err != nil {
			yield(Record{}, err)
		} else if ok {
			n.cache.scan(ctx, yield, inScope(binary.LittleEndian.Uint64(id)))
		}
	}
}

// id appends the namespace's id to dst; ok is false if it has none: nothing is in it.
func (s *scope) id(v *view, dst []byte) (id []byte, ok bool, err error) {
	it, ok, err := v.slab.Use(dst, v.slab.NamespaceKey(s.name))
	return it.Value, ok && len(it.Value) == len(dst)+8, err
}

// newID makes an id. It is random, as a namespace whose id was evicted, being
// unused for longer than all of its records, must not meet its old records again.
func newID() []byte { return binary.LittleEndian.AppendUint64(nil, rand.Uint64()|1) }

// key returns the slab's key for one of this scope's; ok is false if it is in a
// namespace that has nothing. Buf is room for it.
func (s *scope) key(v *view, buf, key []byte) (k slab.Key, ok bool, err error) {
	if s.name == nil {
		return v.slab.Key(key), true, nil
	}
	id, ok, err := s.id(v, buf)
	if !ok || err != nil {
		return k, false, err
	}
	return v.slab.ScopedKey(append(id, key...)), true, nil
}

// writable returns a view that was up to date during the call and the slab's key
// for one of this scope's; a namespace without id gets one.
func (s *scope) writable(ctx context.Context, key []byte) (v *view, k slab.Key, err error) {
	if v, err = s.cache.fresh(); err != nil {
		return nil, k, err
	}
	want := slab.Absent
	for range mostLooks {
		k, ok, err := s.key(v, nil, key)
		if ok || err != nil {
			return v, k, err
		}
		if _, _, err := v.slab.Put(ctx, v.slab.NamespaceKey(s.name), &slab.Item{Value: newID()}, want); err != nil {
			return v, k, err
		}
		want = slab.Anyhow // if it is there and no id
	}
	return v, k, fmt.Errorf("%w: namespace %q keeps losing its id", ErrBusy, s.name)
}

// batch is GetBatch in a namespace.
func (s *scope) batch(v *view, b *Batch, keys [][]byte) error {
	id, ok, err := s.id(v, nil)
	if err != nil {
		return err
	}
	if !ok {
		b.Miss(len(keys))
		return nil
	}
	scoped := make([][]byte, len(keys))
	for i, key := range keys {
		scoped[i] = append(id[:8:8], key...)
	}
	return v.slab.GetBatchScoped(b, scoped)
}

func encodeCounter(n int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }
