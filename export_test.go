package flagstone

import (
	"context"
	"encoding/binary"
	"math"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// Scopes calls do for each record in a namespace, with the namespace's id.
func (c *Cache) Scopes(ctx context.Context, do func(scope uint64)) error {
	return c.update(ctx, func(v *view) error {
		return v.slab.Scan(ctx, func(r slab.Record) bool {
			if r.Scope != 0 {
				do(r.Scope)
			}
			return true
		})
	})
}

// ID returns the namespace's id, 0 if it has none.
func (c *Cache) ID(name string) uint64 {
	s := c.view.Load().slab
	it, ok, err := s.Peek(nil, s.NamespaceKey([]byte(name)))
	if !ok || err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(it.Value)
}

// Waiting returns how many lookups of this handle have had to wait for a load.
func (c *Cache) Waiting() uint64 { return c.loads.waits.Load() }

// Shift moves up to limit records of one tier to another one, those unused for
// longest first.
func (c *Cache) Shift(ctx context.Context, from, to, limit int) (moved int, err error) {
	err = c.update(ctx, func(v *view) error {
		if max(from, to) >= len(v.tiers) {
			return ErrRetired
		}
		n, err := v.slab.Move(ctx, v.tiers[from].slab, v.tiers[to].slab, math.MaxUint64, limit-moved)
		moved += n
		return err
	})
	return moved, err
}

// Seed returns the seed of the cache's hashes.
func (c *Cache) Seed() uint64 { return c.table.HashSeed() }

// GrowBelow is what a steward does that took the slab with that id to be the last one.
func (c *Cache) GrowBelow(ctx context.Context, last uint64) (*Slab, error) {
	return c.grow(ctx, "", Shape{}, last)
}

// Held returns how many records each tier holds.
func (c *Cache) Held() (records []uint64, err error) {
	v, err := c.fresh()
	if err != nil {
		return nil, err
	}
	for _, t := range v.tiers {
		st, err := t.slab.Stats()
		if err != nil {
			return nil, err
		}
		records = append(records, st.Records)
	}
	return records, v.slab.Missing
}

// StateWord returns the state word of a directory entry.
func (c *Cache) StateWord(e table.Entry) *layout.Uint64 { return c.table.StateWord(e) }
