package main

import (
	"context"
	"sync"
)

// goMap is what a program uses that needs no sharing, no eviction and no expiry.
type goMap struct {
	mu sync.RWMutex // guards m
	m  map[[keySize]byte][valueSize]byte
}

func newGoMap(_ context.Context, o options) (cache, error) {
	return &goMap{m: make(map[[keySize]byte][valueSize]byte, o.Entries)}, nil
}

func (c *goMap) get(s stream, dst []byte) (hits int, err error) {
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
func (c *goMap) getBatch(s stream, dst []byte) (hits int, err error) {
	for from := 0; from < s.len(); from += batchSize {
		group := s.part(from, batchSize)
		c.mu.RLock()
		for i := range group.len() {
			if v, ok := c.m[[keySize]byte(group.key(i))]; ok {
				copy(dst[i*valueSize:], v[:])
				hits++
			}
		}
		c.mu.RUnlock()
	}
	return hits, nil
}

func (c *goMap) set(s stream) (int, error) {
	for i := range s.len() {
		c.mu.Lock()
		c.m[[keySize]byte(s.key(i))] = [valueSize]byte(s.value(i))
		c.mu.Unlock()
	}
	return s.len(), nil
}

func (c *goMap) settle()      {}
func (c *goMap) close() error { return nil }
