package flagstone

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"
)

// Store is where a Typed keeps its values: a *Cache or a *Namespace. The methods
// are theirs. It is not to be implemented elsewhere, and may grow.
type Store interface {
	Get(dst, key []byte) (value []byte, ok bool, err error)
	GetItem(dst, key []byte) (it Item, ok bool, err error)
	Peek(dst, key []byte) (value []byte, ok bool, err error)
	TTL(key []byte) (ttl time.Duration, ok bool, err error)
	SetItem(ctx context.Context, key []byte, it Item) (Token, error)
	SetIfAbsent(ctx context.Context, key, value []byte, ttl time.Duration) (stored bool, err error)
	CompareAndSwap(ctx context.Context, key []byte, token Token, value []byte, ttl time.Duration) (Token, bool, error)
	AppendOrLoad(ctx context.Context, dst, key []byte, load Loader) ([]byte, error)
	Touch(ctx context.Context, key []byte, ttl time.Duration) (found bool, err error)
	Delete(ctx context.Context, key []byte) (found bool, err error)
	All(ctx context.Context) iter.Seq2[Record, error]
	Tagged(ctx context.Context, tag uint32) iter.Seq2[Record, error]
}

// Typed is a Store whose keys are strings and whose values are of type T. Its
// methods are those of the store, with its waits, errors and costs, and a codec
// between. What the codec refuses is an ErrCodec that names the key, both ways: a
// value that was stored by somebody else, in another form, is no miss. Types that
// may meet in one cache should have a Namespace each, whose name says which version
// of the type it holds. All methods may be called concurrently.
type Typed[T any] struct {
	store Store
	codec Codec[T]
}

// NewTyped returns a view of the store through the codec. It has no state of its
// own: make as many as you like.
func NewTyped[T any](store Store, codec Codec[T]) *Typed[T] { return &Typed[T]{store, codec} }

// TypedLoader is a Loader for values of type T. The item says what is kept with
// the value: TTL, StaleFor, Tag; beside an error its NegativeTTL counts. Its
// Value does not.
type TypedLoader[T any] func(ctx context.Context) (T, Item, error)

// TypedRecord is what Typed.All and Typed.Tagged yield. It may be kept.
type TypedRecord[T any] struct {
	Key   string
	Value T
	Item  Item // what is kept with the value; its Value is nil
}

// Get returns key's value and whether there is one. See Cache.Get.
func (t *Typed[T]) Get(key string) (v T, ok bool, err error) { return t.look(key, t.store.Get) }

// Peek is Get without being a use of the record. See Cache.Peek.
func (t *Typed[T]) Peek(key string) (v T, ok bool, err error) { return t.look(key, t.store.Peek) }

func (t *Typed[T]) look(key string, get func(dst, key []byte) ([]byte, bool, error)) (v T, ok bool, err error) {
	r := borrow(key)
	defer r.giveBack()
	if r.value, ok, err = get(r.value, r.key); ok && err == nil {
		v, err = t.decode(key, r.value)
	}
	return v, ok && err == nil, err
}

// GetItem returns key's value, what is kept with it, for example the token for
// CompareAndSwap, and whether there is one. The item's Value is nil.
func (t *Typed[T]) GetItem(key string) (v T, it Item, ok bool, err error) {
	r := borrow(key)
	defer r.giveBack()
	if it, ok, err = t.store.GetItem(r.value, r.key); ok && err == nil {
		r.value, it.Value = it.Value, nil
		v, err = t.decode(key, r.value)
	}
	return v, it, ok && err == nil, err
}

// TTL returns how long key's value is still good, NoExpiry if for ever, and
// whether there is one. See Cache.TTL.
func (t *Typed[T]) TTL(key string) (ttl time.Duration, ok bool, err error) {
	return t.store.TTL([]byte(key))
}

// Set stores v under key in place of any earlier value. See Cache.Set.
func (t *Typed[T]) Set(ctx context.Context, key string, v T, ttl time.Duration) error {
	_, err := t.SetItem(ctx, key, v, Item{TTL: ttl})
	return err
}

// SetItem is Set with all that can be kept with a value; the item's Value does not
// count. It returns the token of what it stored.
func (t *Typed[T]) SetItem(ctx context.Context, key string, v T, it Item) (token Token, err error) {
	r := borrow(key)
	defer r.giveBack()
	if err = t.encode(r, v); err == nil {
		it.Value = r.value
		token, err = t.store.SetItem(ctx, r.key, it)
	}
	return token, err
}

// SetIfAbsent is Set if there is no value under key, and reports whether it stored.
// See Cache.SetIfAbsent.
func (t *Typed[T]) SetIfAbsent(ctx context.Context, key string, v T, ttl time.Duration) (stored bool, err error) {
	r := borrow(key)
	defer r.giveBack()
	if err = t.encode(r, v); err == nil {
		stored, err = t.store.SetIfAbsent(ctx, r.key, r.value, ttl)
	}
	return stored, err
}

// CompareAndSwap is Set if the value under key is still the one with that token,
// and reports whether it stored. It returns the token of the new value. See
// Cache.CompareAndSwap.
func (t *Typed[T]) CompareAndSwap(ctx context.Context, key string, token Token, v T, ttl time.Duration) (next Token, stored bool, err error) {
	r := borrow(key)
	defer r.giveBack()
	if err = t.encode(r, v); err == nil {
		next, stored, err = t.store.CompareAndSwap(ctx, r.key, token, r.value, ttl)
	}
	return next, stored, err
}

// GetOrLoad returns key's value. If there is none, load computes it, once for all
// processes and goroutines that ask at the same time. All of them, the one that
// loads too, get what the codec makes of it. See Cache.GetOrLoad.
func (t *Typed[T]) GetOrLoad(ctx context.Context, key string, load TypedLoader[T]) (v T, err error) {
	r := borrow(key)
	defer r.giveBack()
	r.value, err = t.store.AppendOrLoad(ctx, r.value, r.key, func(ctx context.Context) (Item, error) {
		v, it, err := load(ctx)
		if err != nil {
			return it, err
		}
		loaded := room{key: r.key}
		err = t.encode(&loaded, v)
		it.Value = loaded.value
		return it, err
	})
	if err == nil {
		v, err = t.decode(key, r.value)
	}
	return v, err
}

// Touch gives key's value a new ttl and counts as a use of it. It reports whether
// there was one. See Cache.Touch.
func (t *Typed[T]) Touch(ctx context.Context, key string, ttl time.Duration) (found bool, err error) {
	return t.store.Touch(ctx, []byte(key), ttl)
}

// Delete removes key and reports whether it was there. See Cache.Delete.
func (t *Typed[T]) Delete(ctx context.Context, key string) (found bool, err error) {
	return t.store.Delete(ctx, []byte(key))
}

// All yields the store's records, except for those stored by SetHash. One that the
// codec refuses comes without a value beside its ErrCodec, and the loop may go on;
// any other error comes last, beside an empty record. See Cache.All.
func (t *Typed[T]) All(ctx context.Context) iter.Seq2[TypedRecord[T], error] {
	return t.records(t.store.All(ctx))
}

// Tagged is All for the records with one tag.
func (t *Typed[T]) Tagged(ctx context.Context, tag uint32) iter.Seq2[TypedRecord[T], error] {
	return t.records(t.store.Tagged(ctx, tag))
}

func (t *Typed[T]) records(stored iter.Seq2[Record, error]) iter.Seq2[TypedRecord[T], error] {
	return func(yield func(TypedRecord[T], error) bool) {
		for r, err := range stored {
			if r.ByHash {
				continue
			}
			out := TypedRecord[T]{Key: string(r.Key), Item: r.Item}
			if out.Item.Value = nil; err == nil {
				out.Value, err = t.decode(out.Key, r.Value)
			}
			if !yield(out, err) {
				return
			}
		}
	}
}

// encode leaves the bytes of v in r.
func (t *Typed[T]) encode(r *room, v T) (err error) {
	if r.value, err = t.codec.Append(r.value, v); err != nil {
		err = fmt.Errorf("%w: encode %T for key %q: %w", ErrCodec, v, r.key, err)
	}
	return err
}

func (t *Typed[T]) decode(key string, data []byte) (T, error) {
	v, err := t.codec.Decode(data)
	if err != nil {
		var none T
		return none, fmt.Errorf("%w: decode %d bytes of key %q as %T: %w", ErrCodec, len(data), key, v, err)
	}
	return v, nil
}

// room is memory for the key and the encoded value of one operation.
type room struct{ key, value []byte }

var rooms = sync.Pool{New: func() any { return new(room) }}

func borrow(key string) *room {
	r := rooms.Get().(*room)
	r.key = append(r.key[:0], key...)
	return r
}

func (r *room) giveBack() {
	r.value = r.value[:0]
	rooms.Put(r)
}
