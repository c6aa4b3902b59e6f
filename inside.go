package flagstone

import (
	"context"

	"github.com/flagstone-shm/flagstone/internal/inside"
	"github.com/flagstone-shm/flagstone/slab"
)

func init() {
	inside.Of = func(cache any) inside.Cache {
		c := cache.(*Cache)
		return inside.Cache{
			Read: c.lookInside,
			Update: func(ctx context.Context, op func(inside.View) error) error {
				return c.update(ctx, func(v *view) error { return op(c.inside(v)) })
			},
		}
	}
	inside.Move = func(ctx context.Context, from, to any, cutoff uint64, limit int) (int, error) {
		return from.(*Slab).moveOver(ctx, to.(*Slab), cutoff, limit)
	}
}

func (c *Cache) lookInside(look func(inside.View) (found bool, err error)) error {
	c.pulse.beat()
	v := c.current()
	for looks := 0; ; {
		found, err := look(c.inside(v))
		if found || !c.stale(&v, &looks, &err) {
			return err
		}
	}
}

func (c *Cache) inside(v *view) inside.View {
	return inside.View{
		Stack: v.slab,
		Tier: func(number uint32) *slab.Slab {
			for _, t := range v.tiers {
				if t.entry.Tier == number {
					return t.slab
				}
			}
			return nil
		},
		Scoped: func(ctx context.Context, namespace, key []byte, create bool) (k slab.Key, ok bool, err error) {
			s := scope{c, namespace}
			id, ok, err := s.prefix(ctx, v, nil, create)
			if ok {
				k = s.under(v, id, key)
			}
			return k, ok, err
		},
	}
}
