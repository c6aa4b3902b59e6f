package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/flagstone-shm/flagstone"
)

type stone struct {
	cache   *flagstone.Cache
	batch   flagstone.Batch
	keys    [batchSize][]byte
	destroy func() error
}

// openFlagstone opens the domain that o names; who makes it destroys it.
func openFlagstone(ctx context.Context, o options) (cache, error) {
	options, err := o.Shape.slab()
	if err != nil {
		return nil, err
	}
	options.Dir, options.MustExist, options.Precision = o.Dir, o.Attach, o.Precision
	c, err := flagstone.Open(ctx, o.Domain, options)
	if err != nil {
		return nil, err
	}
	s := &stone{cache: c, destroy: func() error { return nil }}
	if !o.Attach {
		s.destroy = func() error { return flagstone.Destroy(context.Background(), o.Dir, o.Domain) }
	}
	return s, nil
}

func (c *stone) get(s stream, dst []byte) (hits int, err error) {
	for i := range s.len() {
		v, ok, err := c.cache.Get(dst[:0], s.key(i))
		if err != nil {
			return hits, err
		}
		if ok && len(v) == s.size {
			hits++
		}
	}
	return hits, nil
}

// getBatch leaves the values in the batch, which is the caller's buffer.
func (c *stone) getBatch(s stream, _ []byte) (hits int, err error) {
	for from := 0; from < s.len(); from += batchSize {
		group := s.part(from, batchSize)
		for i := range group.len() {
			c.keys[i] = group.key(i)
		}
		if err := c.cache.GetBatch(&c.batch, c.keys[:group.len()]); err != nil {
			return hits, err
		}
		for i := range group.len() {
			if v, ok := c.batch.Value(i); ok && len(v) == s.size {
				hits++
			}
		}
	}
	return hits, nil
}

func (c *stone) set(s stream) (int, error) {
	ctx := context.Background()
	for i := range s.len() {
		if err := c.cache.Set(ctx, s.key(i), s.value(i), flagstone.NoExpiry); err != nil {
			return i, err
		}
	}
	return s.len(), nil
}

func (c *stone) settle() {}

// close also fails if anything was evicted: then the others held more.
func (c *stone) close() error {
	st, err := c.cache.Stats()
	if err == nil && st.EvictedFull != 0 {
		err = fmt.Errorf("flagstone evicted %d records, %d remain", st.EvictedFull, st.Records)
	}
	return errors.Join(err, c.cache.Close(), c.destroy())
}
