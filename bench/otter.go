package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/maypok86/otter/v2"
)

// otterCache keeps the caller's keys and values themselves: whoever fills it
// made them for it. That is the cheapest use of otter.
type otterCache struct {
	cache   *otter.Cache[string, []byte]
	entries int
}

func newOtter(_ context.Context, o options) (cache, error) {
	c, err := otter.New(&otter.Options[string, []byte]{
		MaximumSize: o.Shape.Entries + o.Shape.Entries/4 + 1024, InitialCapacity: o.Shape.Entries,
	})
	return &otterCache{c, o.Shape.Entries}, err
}

func (c *otterCache) get(s stream, dst []byte) (hits int, err error) {
	for i := range s.len() {
		if v, ok := c.cache.GetIfPresent(s.keyText(i)); ok {
			copy(dst, v)
			hits++
		}
	}
	return hits, nil
}

func (c *otterCache) getBatch(s stream, dst []byte) (hits int, err error) {
	for from := 0; from < s.len(); from += batchSize {
		group := s.part(from, batchSize)
		for i := range group.len() {
			if v, ok := c.cache.GetIfPresent(group.keyText(i)); ok {
				copy(dst[i*s.size:], v)
				hits++
			}
		}
	}
	return hits, nil
}

func (c *otterCache) set(s stream) (int, error) {
	for i := range s.len() {
		c.cache.Set(s.keyText(i), s.value(i))
	}
	return s.len(), nil
}

func (c *otterCache) settle() { c.cache.CleanUp() }

func (c *otterCache) close() error {
	c.settle()
	n := c.cache.EstimatedSize()
	c.cache.StopAllGoroutines()
	if n != c.entries {
		return fmt.Errorf("otter holds %d of %d records", n, c.entries)
	}
	return nil
}

// otterClone copies keys and values on their way in, as a program does that has
// them in a buffer it uses again. Flagstone and the map always do that.
type otterClone struct{ *otterCache }

func newOtterClone(ctx context.Context, o options) (cache, error) {
	c, err := newOtter(ctx, o)
	return otterClone{c.(*otterCache)}, err
}

func (c otterClone) set(s stream) (int, error) {
	for i := range s.len() {
		c.cache.Set(strings.Clone(s.keyText(i)), bytes.Clone(s.value(i)))
	}
	return s.len(), nil
}
