package slab

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// TestInsert_AnyTierAnyOrder_LikeAMap: what is inserted into a tier, replacing or not,
// put, moved or withdrawn by version is what a map has; no key is in two tiers.
func TestInsert_AnyTierAnyOrder_LikeAMap(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := newWorld()
		shape := Options{Entries: 200, Shards: 2, MaxKey: 16, MaxValue: 300}
		st := newStack(t, w, StackOptions{Promote: true}, shape, shape, shape)
		type entry struct {
			value   string
			version uint64
		}
		model := map[string]entry{}
		for step := range rapid.IntRange(1, 60).Draw(r, "steps") {
			key := fmt.Sprint("k", rapid.IntRange(0, 9).Draw(r, "key"))
			value := fmt.Sprint(step, "-", string(make([]byte, rapid.SampledFrom([]int{0, 200}).Draw(r, "size"))))
			had, has := model[key]
			tier := st.tiers[rapid.IntRange(0, 2).Draw(r, "tier")].Slab
			switch rapid.SampledFrom([]string{"put", "insert", "withdraw", "move", "get"}).Draw(r, "op") {
			case "put":
				version, _, err := st.Put(t.Context(), st.Key([]byte(key)), &Item{Value: []byte(value)}, Anyhow)
				if err != nil {
					r.Fatal(err)
				}
				model[key] = entry{value, version}
			case "insert":
				in := []Insertion{{Key: st.Key([]byte(key)), Item: Item{Value: []byte(value), Tag: 5}, LastUse: 1, Replace: rapid.Bool().Draw(r, "replace")}}
				if err := st.Insert(t.Context(), tier, in); err != nil || !in[0].Settled {
					r.Fatal(err, in)
				}
				if in[0].Stored != (in[0].Replace || !has) {
					r.Fatal(in, has)
				}
				if in[0].Stored {
					if in[0].Item.Version <= had.version {
						r.Fatal("no newer version")
					}
					model[key] = entry{value, in[0].Item.Version}
				}
			case "withdraw":
				out := []Withdrawal{{Key: st.Key([]byte(key)), Version: had.version + uint64(rapid.SampledFrom([]int{0, 2}).Draw(r, "other"))}}
				if err := st.Withdraw(t.Context(), out); err != nil || !out[0].Settled {
					r.Fatal(err)
				}
				if out[0].Removed != (has && out[0].Version == had.version) {
					r.Fatal(out, had, has)
				}
				if out[0].Removed {
					delete(model, key)
				}
			case "move":
				for _, other := range st.tiers {
					if other.Slab != tier {
						if _, err := st.Move(t.Context(), tier, other.Slab, 1<<40, 3); err != nil {
							r.Fatal(err)
						}
					}
				}
			}
			for key, want := range model {
				it, ok, err := st.Look(nil, st.Key([]byte(key)), 0)
				if !ok || err != nil || string(it.Value) != want.value || it.Version != want.version {
					r.Fatalf("%s: %q %v %v, want %q", key, it.Value, ok, err, want.value)
				}
			}
			if n, err := st.Len(); err != nil || n != uint64(len(model)) {
				r.Fatal(n, len(model), err)
			}
		}
		if problems, err := st.Check(t.Context()); err != nil || len(problems) > 0 {
			r.Fatal(problems, err)
		}
	})
}

// TestLockAll_SomeColumnBusyOrStale_NothingIsHeld: what was taken is given back.
func TestLockAll_SomeColumnBusyOrStale_NothingIsHeld(t *testing.T) {
	w := newWorld()
	segs := stackSegments(t, Options{Entries: 200, Shards: 4})
	a, b := openStack(t, w.member(1), StackOptions{}, segs...), openStack(t, w.member(2), StackOptions{}, segs...)
	free := func() {
		t.Helper()
		if holders, err := a.Holders(); err != nil || len(holders) > 0 {
			t.Fatal(holders, err)
		}
	}
	all, err := a.LockAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	past, cancel := contextFor(0)
	defer cancel()
	if _, err := b.LockAll(past); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	if holders, err := a.Holders(); err != nil || len(holders) != 4 {
		t.Fatal(holders, err)
	}
	if err := all.Unlock(); err != nil {
		t.Fatal(err)
	}
	free()
	// The last column is in another's hands.
	if _, err := b.shards[3].mutex.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	soon, cancel := contextFor(20 * time.Millisecond)
	defer cancel()
	if _, err := a.LockAll(soon); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	if err := b.shards[3].unlock(false); err != nil { // in need of repair
		t.Fatal(err)
	}
	free()
	if all, err = a.LockAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := a.Stats(); err != nil || st.Rebuilds != 1 {
		t.Fatal(st, err)
	}
	if err := all.Unlock(); err != nil {
		t.Fatal(err)
	}
	var changes layout.Uint64
	old := openStack(t, w.member(3), StackOptions{Changes: &changes, Seen: 1}, segs...)
	if _, err := old.LockAll(t.Context()); !errors.Is(err, ErrStale) {
		t.Fatal(err)
	}
	free()
}
