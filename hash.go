package flagstone

import (
	"context"
	"time"

	"github.com/flagstone-shm/flagstone/slab"
)

// HashOf returns the 64-bit hash by which Evict names a key that is in no namespace.
func (c *Cache) HashOf(key []byte) uint64 { return c.view.Load().slab.HashOf(key) }

// GetHash is Get for what SetHash stored.
func (c *Cache) GetHash(dst []byte, hash uint64) (value []byte, ok bool, err error) {
	c.pulse.beat()
	v := c.current()
	value, ok, err = v.slab.GetHash(dst, hash)
	for looks := 0; !ok && c.missed(&v, &looks, &err, 1, true); {
		value, ok, err = v.slab.GetHash(dst, hash)
	}
	return value, ok, err
}

// SetHash is Set with the application's own 64-bit hash as key. Two applications'
// keys with one hash are one key. Hashes and byte keys never meet.
func (c *Cache) SetHash(ctx context.Context, hash uint64, value []byte, ttl time.Duration) error {
	packed, err := c.packed(&Item{Value: value, TTL: ttl})
	if err != nil {
		return err
	}
	var buf [8]byte
	for v := c.writing(); ; {
		_, _, err := v.slab.Put(ctx, v.slab.HashKey(hash, &buf), &packed, slab.Anyhow)
		if !c.again(ctx, &v, &err) {
			return err
		}
	}
}

// DeleteHash is Delete for what SetHash stored.
func (c *Cache) DeleteHash(ctx context.Context, hash uint64) (found bool, err error) {
	for v := c.writing(); ; {
		found, err = v.slab.DeleteHash(ctx, hash)
		if !c.again(ctx, &v, &err) {
			return found, err
		}
	}
}
