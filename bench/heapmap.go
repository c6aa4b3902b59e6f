package main

import (
	"bytes"
	"sync"
)

// heapMap has large values, each in an object of its own that is never changed, so
// that it may be copied without the lock.
type heapMap struct {
	mu sync.RWMutex // guards m
	m  map[[keySize]byte][]byte
}

func (c *heapMap) get(s stream, dst []byte) (hits int, err error) {
	for i := range s.len() {
		c.mu.RLock()
		v, ok := c.m[[keySize]byte(s.key(i))]
		c.mu.RUnlock()
		if ok {
			copy(dst, v)
			hits++
		}
	}
	return hits, nil
}

// getBatch takes the lock once for a group.
func (c *heapMap) getBatch(s stream, dst []byte) (hits int, err error) {
	for from := 0; from < s.len(); from += batchSize {
		group := s.part(from, batchSize)
		c.mu.RLock()
		for i := range group.len() {
			if v, ok := c.m[[keySize]byte(group.key(i))]; ok {
				copy(dst[i*s.size:], v)
				hits++
			}
		}
		c.mu.RUnlock()
	}
	return hits, nil
}

func (c *heapMap) set(s stream) (int, error) {
	for i := range s.len() {
		v := bytes.Clone(s.value(i))
		c.mu.Lock()
		c.m[[keySize]byte(s.key(i))] = v
		c.mu.Unlock()
	}
	return s.len(), nil
}

func (c *heapMap) settle()      {}
func (c *heapMap) close() error { return nil }
