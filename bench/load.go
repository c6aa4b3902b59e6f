package main

import (
	"context"
	"errors"

	"github.com/maypok86/otter/v2"

	"github.com/flagstone-shm/flagstone"
)

func init() {
	ops["load"] = func(c cache, s stream, dst []byte) (int, error) { return c.(loading).load(s, dst) }
	full = append(full, measurement{
		name: "get or load, hits", op: "load", keys: "uniform", allocation: none, against: []comparison{{"otter", nil}},
	})
}

// loading is a cache that computes what it does not have.
type loading interface {
	// load is get for keys that are all there.
	load(s stream, dst []byte) (int, error)
}

var errLoaded = errors.New("a key that is there was loaded")

func (c *stone) load(s stream, dst []byte) (hits int, err error) {
	ctx := context.Background()
	for i := range s.len() {
		v, err := c.cache.AppendOrLoad(ctx, dst[:0], s.key(i), neverLoad)
		if err != nil {
			return hits, err
		}
		if len(v) == s.size {
			hits++
		}
	}
	return hits, nil
}

func neverLoad(context.Context) (flagstone.Item, error) { return flagstone.Item{}, errLoaded }

func (c *otterCache) load(s stream, dst []byte) (hits int, err error) {
	ctx := context.Background()
	for i := range s.len() {
		v, err := c.cache.Get(ctx, s.keyText(i), otterNeverLoads)
		if err != nil {
			return hits, err
		}
		copy(dst, v)
		hits++
	}
	return hits, nil
}

// otterNeverLoads is converted to the interface once.
var otterNeverLoads otter.Loader[string, []byte] = otter.LoaderFunc[string, []byte](
	func(context.Context, string) ([]byte, error) { return nil, errLoaded })
