package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/inside"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
)

// row returns what is told of a record beside its key.
func row(it *slab.Item) string {
	return fmt.Sprintf("%s %d %d %d %d", text(it.Value), it.Version, it.Expiry, it.Stale, it.Tag)
}

// look is a lookup of any kind.
func (s *session) look(l *line, at func(st *slab.Stack, k slab.Key) (slab.Item, bool, error)) (it slab.Item, err error) {
	k := l.key(l.words[0])
	ctx, cancel := l.waiting()
	defer cancel()
	if l.err != nil {
		return it, l.err
	}
	found := false
	err = s.under.Read(func(v inside.View) (bool, error) {
		k, ok, err := k.in(ctx, v, false)
		if ok && err == nil {
			it, found, err = at(v.Stack, k)
		}
		return found && err == nil, err
	})
	if err == nil && !found {
		err = errNo
	}
	return it, err
}

func (s *session) lookup(l *line, how slab.How) (answer, error) {
	it, err := s.look(l, func(st *slab.Stack, k slab.Key) (slab.Item, bool, error) { return st.Look(nil, k, how) })
	if err != nil {
		return answer{}, err
	}
	return ok(row(&it))
}

func get(s *session, l *line) (answer, error)  { return s.lookup(l, 0) }
func peek(s *session, l *line) (answer, error) { return s.lookup(l, slab.Quiet|slab.Silent) }

func stale(s *session, l *line) (answer, error) {
	var old bool
	it, err := s.look(l, func(st *slab.Stack, k slab.Key) (it slab.Item, found bool, err error) {
		it, found, old, err = st.LookStale(nil, k)
		return it, found, err
	})
	if err != nil {
		return answer{}, err
	}
	return ok(row(&it), bit(old))
}

// batch is one call where all keys are plain bytes, which is what batches are for.
func batch(s *session, l *line) (answer, error) {
	var keys []key
	var plain [][]byte
	for _, w := range l.words {
		k := l.key(w)
		keys = append(keys, k)
		if !k.byHash && k.namespace == nil {
			plain = append(plain, k.bytes)
		}
	}
	if l.err != nil {
		return answer{}, l.err
	}
	if len(plain) < len(keys) {
		return s.oneByOne(l)
	}
	var b flagstone.Batch
	if err := s.cache.GetBatch(&b, plain); err != nil {
		return answer{}, err
	}
	var rows []string
	for i := range plain {
		v, found := b.Value(i)
		rows = append(rows, batchRow(v, found))
	}
	return many(rows)
}

func (s *session) oneByOne(l *line) (answer, error) {
	var rows []string
	for _, w := range l.words {
		one := &line{words: []string{w}, options: l.options}
		it, err := s.look(one, func(st *slab.Stack, k slab.Key) (slab.Item, bool, error) { return st.Look(nil, k, 0) })
		if err != nil && !errors.Is(err, errNo) {
			return answer{}, err
		}
		rows = append(rows, batchRow(it.Value, err == nil))
	}
	return many(rows)
}

func batchRow(value []byte, found bool) string {
	if !found {
		return "-"
	}
	return "+ " + text(value)
}

// item reads the options of a write.
func (s *session) item(l *line, value []byte) (slab.Item, error) {
	if s.table != nil {
		s.table.Tick()
	}
	it := slab.Item{Value: value, Expiry: l.expiry(s.wall()), Stale: uint16(l.option("stale", 0)), Tag: uint32(l.option("tag", 0))}
	switch {
	case l.err != nil:
		return it, l.err
	case it.Expiry > layout.ExpiryMask, l.option("stale", 0) > math.MaxUint16:
		return it, fmt.Errorf("expiry %d, stale %d: %w", it.Expiry, l.option("stale", 0), flagstone.ErrTTL)
	case l.option("tag", 0) > math.MaxUint32:
		return it, fmt.Errorf("tag: %w", flagstone.ErrOptions)
	}
	return it, nil
}

// put is a write of the record with the value in word at.
func (s *session) put(l *line, at int, store func(ctx context.Context, v inside.View, k slab.Key, it *slab.Item) (version uint64, stored bool, err error)) (answer, error) {
	k := l.key(l.words[0])
	it, err := s.item(l, l.bytes(l.words[at]))
	if err == nil {
		err = l.err
	}
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := l.waiting()
	defer cancel()
	var version uint64
	stored := false
	err = s.under.Update(ctx, func(v inside.View) error {
		k, _, err := k.in(ctx, v, true)
		if err == nil {
			version, stored, err = store(ctx, v, k, &it)
		}
		return err
	})
	switch {
	case err != nil:
		return answer{}, err
	case !stored:
		return answer{}, errNo
	}
	return ok(version)
}

// as returns a write on a condition; only one without any may go to another tier.
func as(want uint64) func(ctx context.Context, v inside.View, k slab.Key, it *slab.Item) (uint64, bool, error) {
	return func(ctx context.Context, v inside.View, k slab.Key, it *slab.Item) (uint64, bool, error) {
		return v.Put(ctx, k, it, want)
	}
}

func set(s *session, l *line) (answer, error) {
	tier := l.option("tier", 0)
	if tier == 0 {
		return s.put(l, 1, as(slab.Anyhow))
	}
	return s.put(l, 1, func(ctx context.Context, v inside.View, k slab.Key, it *slab.Item) (uint64, bool, error) {
		to := v.Tier(uint32(tier))
		if to == nil {
			return 0, false, fmt.Errorf("tier %d: %w", tier, flagstone.ErrRetired)
		}
		r := []slab.Insertion{{Key: k, Item: *it, LastUse: s.control.Now(), Replace: true}}
		if err := v.Insert(ctx, to, r); err != nil {
			return 0, false, err
		}
		return r[0].Item.Version, r[0].Stored, r[0].Err
	})
}

// conditional is a write to tier 0 only.
func (s *session) conditional(l *line, at int, want uint64) (answer, error) {
	if l.option("tier", 0) != 0 {
		return answer{}, errUnsupported
	}
	return s.put(l, at, as(want))
}

func add(s *session, l *line) (answer, error) { return s.conditional(l, 1, slab.Absent) }

func cas(s *session, l *line) (answer, error) {
	version := l.number(l.words[1])
	if version == slab.Absent || version == slab.Anyhow { // no record has them
		return answer{}, errNo
	}
	return s.conditional(l, 2, version)
}

// replace compares with the version that a look found, as often as it has changed.
func replace(s *session, l *line) (answer, error) {
	if l.option("tier", 0) != 0 {
		return answer{}, errUnsupported
	}
	return s.put(l, 1, func(ctx context.Context, v inside.View, k slab.Key, it *slab.Item) (uint64, bool, error) {
		for {
			there, found, err := v.Look(nil, k, slab.Quiet|slab.Silent|slab.Deep)
			if err != nil || !found {
				return 0, false, err
			}
			if version, stored, err := v.Put(ctx, k, it, there.Version); stored || err != nil {
				return version, stored, err
			}
		}
	})
}

// change is a write of a record that may be there.
func (s *session) change(l *line, do func(ctx context.Context, v inside.View, k slab.Key) (bool, error)) (answer, error) {
	k := l.key(l.words[0])
	ctx, cancel := l.waiting()
	defer cancel()
	if l.err != nil {
		return answer{}, l.err
	}
	found := false
	err := s.under.Update(ctx, func(v inside.View) error {
		k, ok, err := k.in(ctx, v, false)
		if ok && err == nil {
			found, err = do(ctx, v, k)
		}
		return err
	})
	switch {
	case err != nil:
		return answer{}, err
	case !found:
		return answer{}, errNo
	}
	return ok()
}

func del(s *session, l *line) (answer, error) {
	return s.change(l, func(ctx context.Context, v inside.View, k slab.Key) (bool, error) { return v.Remove(ctx, k) })
}

func touch(s *session, l *line) (answer, error) {
	expiry := l.number(l.words[1])
	if l.err == nil && expiry > layout.ExpiryMask {
		return answer{}, fmt.Errorf("expiry %d: %w", expiry, flagstone.ErrTTL)
	}
	return s.change(l, func(ctx context.Context, v inside.View, k slab.Key) (bool, error) { return v.Touch(ctx, k, expiry) })
}

func incr(s *session, l *line) (answer, error) {
	k, delta, initial := l.key(l.words[0]), l.signed(l.words[1]), int64(0)
	if w, given := l.options["initial"]; given {
		initial = l.signed(w)
	}
	it, err := s.item(l, binary.LittleEndian.AppendUint64(nil, uint64(initial)))
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := l.waiting()
	defer cancel()
	var sum int64
	err = s.under.Update(ctx, func(v inside.View) error {
		k, _, err := k.in(ctx, v, true)
		if err == nil {
			sum, err = v.Add(ctx, k, delta, it)
		}
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return ok(sum)
}

func clearNamespace(s *session, l *line) (answer, error) {
	name := l.bytes(l.words[0])
	ctx, cancel := l.waiting()
	defer cancel()
	if l.err != nil {
		return answer{}, l.err
	}
	found := false
	err := s.under.Update(ctx, func(v inside.View) (err error) {
		found, err = v.Remove(ctx, v.NamespaceKey(name))
		return err
	})
	if err == nil && !found {
		err = errNo
	}
	if err != nil {
		return answer{}, err
	}
	return ok()
}

// clearAll tells how many records went by the slabs' own count.
func clearAll(s *session, l *line) (answer, error) {
	ctx, cancel := l.waiting()
	defer cancel()
	var cleared uint64
	err := s.under.Update(ctx, func(v inside.View) error {
		before, err := v.Stats()
		if err != nil {
			return err
		}
		if err := v.Clear(ctx); err != nil {
			return err
		}
		after, err := v.Stats()
		cleared = after.Cleared - before.Cleared
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return ok(cleared)
}

func scan(s *session, l *line) (answer, error) {
	ctx, cancel := l.waiting()
	defer cancel()
	var at slab.Position
	var rows []string
	err := s.under.Update(ctx, func(v inside.View) error {
		return v.ScanFrom(ctx, &at, func(r slab.Record) bool {
			if r.Expiry == 0 || r.Expiry > s.wall() {
				rows = append(rows, written(v, r.Name)+" "+row(&r.Item))
			}
			return true
		})
	})
	if err != nil {
		return answer{}, err
	}
	slices.Sort(rows)
	return many(rows)
}

func (s *session) evicted(l *line, do func(ctx context.Context, v inside.View) ([]uint64, error)) (answer, error) {
	if l.err != nil {
		return answer{}, l.err
	}
	ctx, cancel := l.waiting()
	defer cancel()
	n := 0
	err := s.under.Update(ctx, func(v inside.View) error {
		some, err := do(ctx, v)
		n += len(some)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return ok(n)
}

func evict(s *session, l *line) (answer, error) {
	cutoff, limit := l.number(l.words[0]), l.count(l.words[1])
	return s.evicted(l, func(ctx context.Context, v inside.View) ([]uint64, error) { return v.Evict(ctx, cutoff, limit) })
}

func evictTag(s *session, l *line) (answer, error) {
	tag := uint32(l.number(l.words[0]))
	return s.evicted(l, func(ctx context.Context, v inside.View) ([]uint64, error) { return v.EvictTag(ctx, tag, math.MaxInt) })
}

func evictNear(s *session, l *line) (answer, error) {
	k, limit := l.key(l.words[0]), l.count(l.words[1])
	return s.evicted(l, func(ctx context.Context, v inside.View) ([]uint64, error) {
		k, ok, err := k.in(ctx, v, false)
		if err != nil || !ok {
			return nil, err
		}
		return v.EvictNear(ctx, k, math.MaxUint64, limit)
	})
}
