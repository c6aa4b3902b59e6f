package flagstone

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/flagstone-shm/flagstone/slab"
)

// scope is where keys are: the cache itself or a namespace of it. Its methods are
// those that both have.
type scope struct {
	cache *Cache
	name  []byte // of the namespace; nil is the cache itself
}

// Get is Cache.Get.
func (s *scope) Get(dst, key []byte) (value []byte, ok bool, err error) {
	c := s.cache
	c.pulse.beat()
	v := c.current()
	var buf [keyRoom]byte
	for looks := 0; ; {
		id, found, err := s.id(v, buf[:0])
		if found {
			value, ok, err = v.slab.GetKey(dst, s.under(v, id, key))
		}
		if ok || !c.missed(&v, &looks, &err, 1, found) {
			return orElse(value, dst, ok), ok, err
		}
	}
}

// keyRoom is for how long a key in a namespace nothing is allocated.
const keyRoom = 128

// orElse returns value if ok, and dst as it was otherwise.
func orElse(value, dst []byte, ok bool) []byte {
	if ok {
		return value
	}
	return dst
}

// GetItem is Get, returning what is kept with the value too. On a miss or an error
// the item is empty: keep dst.
func (s *scope) GetItem(dst, key []byte) (it Item, ok bool, err error) {
	return s.look(dst, key, 0)
}

// Peek is Get without being a use of the record: its age and its place in the
// order stay, and no statistics count it.
func (s *scope) Peek(dst, key []byte) (value []byte, ok bool, err error) {
	it, ok, err := s.look(dst, key, slab.Quiet|slab.Silent)
	return orElse(it.Value, dst, ok), ok, err
}

// TTL returns how long key's value is still good, NoExpiry if for ever, and
// whether there is one. It is no use of the record.
func (s *scope) TTL(key []byte) (ttl time.Duration, ok bool, err error) {
	it, ok, err := s.look(nil, key, slab.Quiet|slab.Silent|slab.Bare)
	return it.TTL, ok, err
}

func (s *scope) look(dst, key []byte, how slab.How) (Item, bool, error) {
	c := s.cache
	c.pulse.beat()
	v := c.current()
	var buf [keyRoom]byte
	misses := 1
	if how&slab.Silent != 0 {
		misses = 0
	}
	for looks := 0; ; {
		var it slab.Item
		id, found, err := s.id(v, buf[:0])
		ok := false
		if found {
			it, ok, err = v.slab.Look(dst, s.under(v, id, key), how)
		}
		if ok && err == nil {
			return c.unpacked(&it), true, nil
		}
		if !c.missed(&v, &looks, &err, misses, found) {
			return Item{}, false, err
		}
	}
}

// GetBatch looks up all keys and leaves the results in b. The memory accesses of
// different keys overlap, which makes a key of a batch of 16 several times
// cheaper than a Get. Each key is answered as Get would; the batch is no
// snapshot.
func (s *scope) GetBatch(b *Batch, keys [][]byte) error {
	c := s.cache
	c.pulse.beat()
	v := c.current()
	var buf [8]byte
	for looks := 0; ; {
		id, found, err := s.id(v, buf[:0])
		switch {
		case !found:
			b.Miss(len(keys))
		case s.name == nil:
			err = v.slab.GetBatch(b, keys)
		default:
			err = v.slab.GetBatchScoped(b, id, keys)
		}
		if misses := len(keys) - b.Hits(); err == nil && misses == 0 || !c.missed(&v, &looks, &err, misses, found) {
			return err
		}
	}
}

// Batch holds the results of a GetBatch, to be used again for the next. Its values
// live until then; one goroutine uses it at a time; on an error the answers so far
// are in it, and the others are misses.
type Batch = slab.Batch

// Set stores value under key in place of any earlier one. After ttl, counted in
// milliseconds of wall time and rounded up, the value is a miss, at the clock's
// next tick of 10 ms; NoExpiry is never. The value is visible to all processes
// when Set returns, and stays so if this process dies then. It waits for the lock
// of the key's shard until ctx ends (ErrBusy): some milliseconds and a rebuild if
// its owner died. If the shard is full, others are evicted, or Set returns
// ErrFull. It returns ErrKeyTooLong and ErrValueTooLong for what the cache was not
// made for, ErrTTL for a negative ttl. Who loads the key's value at this moment is
// not going to store it.
func (s *scope) Set(ctx context.Context, key, value []byte, ttl time.Duration) error {
	_, _, err := s.put(ctx, key, &Item{Value: value, TTL: ttl}, slab.Anyhow)
	return err
}

// SetItem is Set with all that can be kept with a value. It returns the token of
// what it stored.
func (s *scope) SetItem(ctx context.Context, key []byte, it Item) (Token, error) {
	token, _, err := s.put(ctx, key, &it, slab.Anyhow)
	return token, err
}

// SetIfAbsent is Set if there is no value under key, or an expired one, and
// reports whether it stored. With a tag or StaleFor it is SwapItem.
func (s *scope) SetIfAbsent(ctx context.Context, key, value []byte, ttl time.Duration) (stored bool, err error) {
	_, stored, err = s.put(ctx, key, &Item{Value: value, TTL: ttl}, slab.Absent)
	return stored, err
}

// CompareAndSwap is Set if the value under key is still the one whose token
// GetItem or a write returned, and reports whether it stored. It returns the
// token of the new value, which has no tag and no StaleFor: to keep those too there
// is SwapItem. No value has the token 0.
func (s *scope) CompareAndSwap(ctx context.Context, key []byte, token Token, value []byte, ttl time.Duration) (Token, bool, error) {
	if token == 0 {
		token = Token(slab.Never)
	}
	return s.SwapItem(ctx, key, Item{Value: value, TTL: ttl, Token: token})
}

// SwapItem is SetItem if the value under key is still the one with the item's
// token, which GetItem returned, or if there is none and the token is 0. It reports
// whether it stored, and the token of the new value.
func (s *scope) SwapItem(ctx context.Context, key []byte, it Item) (Token, bool, error) {
	want := uint64(it.Token)
	if want == slab.Anyhow {
		want = slab.Never
	}
	return s.put(ctx, key, &it, want)
}

func (s *scope) put(ctx context.Context, key []byte, it *Item, want uint64) (Token, bool, error) {
	packed, err := s.cache.packed(it)
	if err != nil {
		return 0, false, err
	}
	var buf [keyRoom]byte
	for v := s.cache.writing(); ; {
		var version uint64
		stored := false
		id, ok, err := s.prefix(ctx, v, buf[:0], want == slab.Absent || want == slab.Anyhow)
		if ok {
			version, stored, err = v.slab.Put(ctx, s.under(v, id, key), &packed, want)
		}
		if !s.cache.again(ctx, &v, &err) {
			return Token(version), stored, err
		}
	}
}

// SetBatch stores all items, each as SetItem would; several of one key in their
// order. It takes a shard's lock once for up to 64 of them. If one does not fit
// the cache it stores none; on another error it has stored as many as it says.
// For others the items appear one by one.
func (s *scope) SetBatch(ctx context.Context, items []KeyItem) (stored int, err error) {
	batch := make([]slab.KeyItem, len(items))
	for i := range items {
		if batch[i].Item, err = s.cache.packed(&items[i].Item); err != nil {
			return 0, err
		}
	}
	var id []byte
	err = s.cache.update(ctx, func(v *view) (err error) {
		if id == nil {
			if id, _, err = s.prefix(ctx, v, make([]byte, 0, 8), true); err != nil {
				id = nil
				return err
			}
			for i := range items {
				batch[i].Key = s.under(v, slices.Clip(id), items[i].Key)
			}
		}
		n, err := v.slab.PutBatch(ctx, batch[stored:]) // what is stored may be others' by now
		stored += n
		return err
	})
	return stored, err
}

// Increment adds delta, which may be negative, to the counter under key and
// returns the sum. A counter is a value of 8 bytes, a signed number, little-endian.
// Where there is none it stores initial+delta, which expires after ttl; later
// increments leave the expiry alone. A sum beyond 64 bits is ErrOverflow, a value
// of another length ErrNotCounter, and nothing is changed then. It waits as Set
// does; of increments by any processes none is lost.
func (s *scope) Increment(ctx context.Context, key []byte, delta, initial int64, ttl time.Duration) (sum int64, err error) {
	var counter [8]byte
	binary.LittleEndian.PutUint64(counter[:], uint64(initial))
	packed, err := s.cache.packed(&Item{Value: counter[:], TTL: ttl})
	if err != nil {
		return 0, err
	}
	var buf [keyRoom]byte
	for v := s.cache.writing(); ; {
		id, ok, err := s.prefix(ctx, v, buf[:0], true)
		if ok {
			sum, err = v.slab.Add(ctx, s.under(v, id, key), delta, packed)
		}
		if !s.cache.again(ctx, &v, &err) {
			return sum, err
		}
	}
}

// Touch gives key's value a new ttl and counts as a use of it; value and token
// stay. It reports whether there was one. It waits as Set does.
func (s *scope) Touch(ctx context.Context, key []byte, ttl time.Duration) (found bool, err error) {
	expiry, err := s.cache.expiry(ttl)
	if err != nil {
		return false, err
	}
	var buf [keyRoom]byte
	for v := s.cache.writing(); ; {
		id, ok, err := s.prefix(ctx, v, buf[:0], false)
		if ok {
			found, err = v.slab.Touch(ctx, s.under(v, id, key), expiry)
		}
		if !s.cache.again(ctx, &v, &err) {
			return found, err
		}
	}
}

// Delete removes key and reports whether it was there. Once it returned no
// process finds it, until it is set again; who loads its value at this moment is
// not going to store it. It waits as Set does.
func (s *scope) Delete(ctx context.Context, key []byte) (found bool, err error) {
	var buf [keyRoom]byte
	for v := s.cache.writing(); ; {
		id, ok, err := s.prefix(ctx, v, buf[:0], false)
		if ok {
			found, err = v.slab.Remove(ctx, s.under(v, id, key))
		}
		if !s.cache.again(ctx, &v, &err) {
			return found, err
		}
	}
}
