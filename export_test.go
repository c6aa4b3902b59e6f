package flagstone

import (
	"context"
	"encoding/binary"

	"github.com/flagstone-shm/flagstone/slab"
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

// Seed returns the seed of the cache's hashes.
func (c *Cache) Seed() uint64 { return c.table.HashSeed() }

// GrowBelow is what a steward does that took the slab with that id to be the last one.
func (c *Cache) GrowBelow(ctx context.Context, last uint64) (*Slab, error) {
	return c.grow(ctx, "", Shape{}, last)
}
