package flagstone_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/flagstone-shm/flagstone"
)

// No operation on a short key allocates, in namespaces neither, if dst has room.
func TestCache_ShortKeys_NothingIsAllocated(t *testing.T) {
	c := open(t, options(t.TempDir()))
	ctx := context.Background()
	for name, s := range map[string]store{"cache": c, "namespace": c.Namespace("user:v7")} {
		key, value, dst := []byte("a key"), make([]byte, 300), make([]byte, 0, 512)
		counter, gone := []byte("counter"), []byte("gone")
		var keys [][]byte
		for i := range 40 {
			keys = append(keys, fmt.Append(nil, "k", i))
			must(t, s.Set(ctx, keys[i], value[:i*7], 0))
		}
		var b flagstone.Batch
		var token flagstone.Token
		for what, do := range map[string]func() error{
			"Set":         func() error { return s.Set(ctx, key, value, 1<<40) },
			"SetItem":     func() error { _, err := s.SetItem(ctx, key, flagstone.Item{Value: value, Tag: 1}); return err },
			"SetIfAbsent": func() error { _, err := s.SetIfAbsent(ctx, key, value, 0); return err },
			"Get":         func() error { _, _, err := s.Get(dst, keys[3]); return err },
			"Get, long":   func() error { _, _, err := s.Get(dst, keys[39]); return err },
			"Get, miss":   func() error { _, _, err := s.Get(dst, gone); return err },
			"GetItem":     func() error { _, _, err := s.GetItem(dst, keys[39]); return err },
			"Peek":        func() error { _, _, err := s.Peek(dst, keys[39]); return err },
			"TTL":         func() error { _, _, err := s.TTL(keys[39]); return err },
			"GetBatch":    func() error { return s.GetBatch(&b, keys) },
			"Increment":   func() error { _, err := s.Increment(ctx, counter, 1, 0, 1<<40); return err },
			"Touch":       func() error { _, err := s.Touch(ctx, keys[0], 1<<40); return err },
			"Delete":      func() error { _, err := s.Delete(ctx, keys[1]); return err },
			"CompareAndSwap": func() (err error) {
				token, _, err = s.CompareAndSwap(ctx, keys[2], token, value, 0)
				return err
			},
		} {
			it, ok, err := s.GetItem(nil, keys[2])
			if token = it.Token; !ok || err != nil {
				t.Fatal(ok, err)
			}
			var failed error
			n := testing.AllocsPerRun(100, func() {
				if err := do(); err != nil {
					failed = err
				}
			})
			must(t, failed)
			if n != 0 {
				t.Errorf("%s, %s: %v allocations", name, what, n)
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() { _, _, _ = c.Get(nil, []byte("k3")) }); n != 1 {
		t.Errorf("Get without room: %v allocations, not just the value's", n)
	}
	h := make([]byte, 8)
	for what, n := range map[string]float64{
		"SetHash":    testing.AllocsPerRun(100, func() { must(t, c.SetHash(ctx, 1, h, 0)) }),
		"GetHash":    testing.AllocsPerRun(100, func() { _, _, _ = c.GetHash(h[:0], 1) }),
		"DeleteHash": testing.AllocsPerRun(100, func() { _, _ = c.DeleteHash(ctx, 1) }),
	} {
		if n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
}
