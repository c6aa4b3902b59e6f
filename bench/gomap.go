package main

import (
	"context"
	"sync"
)

// newGoMap returns what a program uses that needs no sharing, no eviction and no
// expiry: a map behind a lock. A type for each size, as a type parameter for the
// value made lookups a fifth slower.
func newGoMap(_ context.Context, o options) (cache, error) {
	switch n := o.Shape.Entries; o.Shape.Value {
	case 16:
		return &map16{m: make(map[[keySize]byte][16]byte, n)}, nil
	case 64:
		return &map64{m: make(map[[keySize]byte][64]byte, n)}, nil
	default:
		return &heapMap{m: make(map[[keySize]byte][]byte, n)}, nil
	}
}

// map64 has its values in the map itself, which is fastest while they are small.
type map64 struct {
	mu sync.RWMutex // guards m
	m  map[[keySize]byte][64]byte
}

func (c *map64) get(s stream, dst []byte) (hits int, err error) {
	for i := range s.len() {
		c.mu.RLock()
		v, ok := c.m[[keySize]byte(s.key(i))]
		c.mu.RUnlock()
		if ok {
			copy(dst, v[:])
			hits++
		}
	}
	return hits, nil
}

// getBatch takes the lock once for a group.
func (c *map64) getBatch(s stream, dst []byte) (hits int, err error) {
	for from := 0; from < s.len(); from += batchSize {
		group := s.part(from, batchSize)
		c.mu.RLock()
		for i := range group.len() {
			if v, ok := c.m[[keySize]byte(group.key(i))]; ok {
				copy(dst[i*s.size:], v[:])
				hits++
			}
		}
		c.mu.RUnlock()
	}
	return hits, nil
}

func (c *map64) set(s stream) (int, error) {
	for i := range s.len() {
		c.mu.Lock()
		c.m[[keySize]byte(s.key(i))] = [64]byte(s.value(i))
		c.mu.Unlock()
	}
	return s.len(), nil
}

func (c *map64) settle()      {}
func (c *map64) close() error { return nil }

// map16 is map64 for smaller values.
type map16 struct {
	mu sync.RWMutex // guards m
	m  map[[keySize]byte][16]byte
}

func (c *map16) get(s stream, dst []byte) (hits int, err error) {
	for i := range s.len() {
		c.mu.RLock()
		v, ok := c.m[[keySize]byte(s.key(i))]
		c.mu.RUnlock()
		if ok {
			copy(dst, v[:])
			hits++
		}
	}
	return hits, nil
}

// getBatch takes the lock once for a group.
func (c *map16) getBatch(s stream, dst []byte) (hits int, err error) {
	for from := 0; from < s.len(); from += batchSize {
		group := s.part(from, batchSize)
		c.mu.RLock()
		for i := range group.len() {
			if v, ok := c.m[[keySize]byte(group.key(i))]; ok {
				copy(dst[i*s.size:], v[:])
				hits++
			}
		}
		c.mu.RUnlock()
	}
	return hits, nil
}

func (c *map16) set(s stream) (int, error) {
	for i := range s.len() {
		c.mu.Lock()
		c.m[[keySize]byte(s.key(i))] = [16]byte(s.value(i))
		c.mu.Unlock()
	}
	return s.len(), nil
}

func (c *map16) settle()      {}
func (c *map16) close() error { return nil }
