package main

import (
	"bytes"
	"context"
	"fmt"
)

// batchSize is how many keys getBatch looks up at a time.
const batchSize = 16

// cache is a contestant. Its loops over a part of a stream are its own, so that
// no call through this interface is in the time of one key.
type cache interface {
	// get looks the keys up one by one, copies each value to the front of dst, and
	// returns how many there were.
	get(s stream, dst []byte) (int, error)
	// getBatch looks the keys up in groups of batchSize and leaves the values of a
	// group in a buffer of the caller's.
	getBatch(s stream, dst []byte) (int, error)
	// set stores the stream's values and returns how many.
	set(s stream) (int, error)
	// settle finishes what the cache does in the background.
	settle()
	close() error
}

// makers has the contestants by name.
var makers = map[string]func(ctx context.Context, o options) (cache, error){
	"flagstone":    openFlagstone,
	"map":          newGoMap,
	"otter":        newOtter,
	"otter, clone": newOtterClone,
	"memmove":      newMemmove,
	"redis":        startRedis,
}

// op is what is measured.
type op func(c cache, s stream, dst []byte) (int, error)

var ops = map[string]op{
	"get":   cache.get,
	"batch": cache.getBatch,
	"set":   func(c cache, s stream, _ []byte) (int, error) { return c.set(s) },
	"mixed": mixed,
}

// turn is how many lookups, and then how many stores, mixed does in turns: enough
// that the calls through the interface do not show.
const turn = 8

// mixed looks up half of the keys and stores the other half.
func mixed(c cache, s stream, dst []byte) (done int, err error) {
	for i := 0; i < s.len(); i += 2 * turn {
		hits, err := c.get(s.part(i, turn), dst)
		if err != nil {
			return done, err
		}
		stored, err := c.set(s.part(i+turn, turn))
		if err != nil {
			return done, err
		}
		done += hits + stored
	}
	return done, nil
}

// fill stores all records: every contestant starts complete, warm and right.
func fill(name string, c cache, w *workload) error {
	for records := range w.records(forOrder) {
		if err := each(records, c.set); err != nil {
			return fmt.Errorf("fill %s: %w", name, err)
		}
	}
	return warm(name, c, w)
}

// warm looks all records up, in another order than they were stored in, and
// compares the values of some.
func warm(name string, c cache, w *workload) error {
	dst := make([]byte, batchSize*w.Value)
	for records := range w.records(forWarmth) {
		if err := each(records, func(s stream) (int, error) { return c.getBatch(s, dst) }); err != nil {
			return fmt.Errorf("warm %s: %w", name, err)
		}
		for i := 0; i < records.len(); i += 97 {
			n, err := c.get(records.part(i, 1), dst)
			if err != nil {
				return fmt.Errorf("verify %s: %w", name, err)
			}
			if n != 1 || !bytes.Equal(dst[:w.Value], records.value(i)) {
				return fmt.Errorf("verify %s: key %x is not there or has another value", name, records.key(i))
			}
		}
	}
	c.settle()
	return nil
}

// each calls f with the stream part by part and expects it to succeed for all keys.
func each(s stream, f func(stream) (int, error)) error {
	for i := 0; i < s.len(); i += window {
		p := s.part(i, window)
		n, err := f(p)
		if err != nil {
			return err
		}
		if n != p.len() {
			return fmt.Errorf("%d of %d keys from %d on", n, p.len(), i)
		}
	}
	return nil
}
