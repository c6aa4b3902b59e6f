// Package inside is the way for this module's own programs to what lies under a cache:
// the conformance testee speaks of versions, cutoffs and single locks, which the cache
// keeps from its users.
package inside

import (
	"context"

	"github.com/flagstone-shm/flagstone/slab"
)

// Cache is what lies under a *flagstone.Cache.
type Cache struct {
	// Read runs look on the cache's view, and again on a newer one if the directory has
	// changed by then and look has not found what it is looking for.
	Read func(look func(v View) (found bool, err error)) error
	// Update runs op on the view, and again on a newer one as often as op is
	// slab.ErrStale, until ctx ends.
	Update func(ctx context.Context, op func(v View) error) error
}

// View is a view of the directory.
type View struct {
	*slab.Stack
	// Tier returns the slab of the tier that bears the number, or nil.
	Tier func(number uint32) *slab.Slab
	// Scoped returns the key for one in a namespace, waiting for a lock until ctx ends
	// where it has to. Without create, ok is false if nothing is in that namespace.
	Scoped func(ctx context.Context, namespace, key []byte, create bool) (k slab.Key, ok bool, err error)
}

// Of returns what lies under a *flagstone.Cache; package flagstone sets it.
var Of func(cache any) Cache

// Move moves up to limit records that were last used before cutoff, domain time in
// milliseconds, between two *flagstone.Slab of two caches; package flagstone sets it.
var Move func(ctx context.Context, from, to any, cutoff uint64, limit int) (moved int, err error)
