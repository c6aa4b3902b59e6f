package flagstone_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/flagstone-shm/flagstone"
)

func ExampleCache_CreateSlab() {
	cache, done := example(flagstone.Options{Entries: 1000})
	defer done()

	archive, err := cache.CreateSlab(ctx, "archive", flagstone.Shape{Entries: 10_000, OnFull: flagstone.Refuse})
	check(err)
	check(archive.Set(ctx, []byte("2024"), []byte("report"), 0))
	_, inCache, err := cache.Get(nil, []byte("2024"))
	check(err)
	_, err = cache.CreateSlab(ctx, "archive", flagstone.Shape{})
	fmt.Println(inCache, errors.Is(err, flagstone.ErrSlabExists))
	// Output: false true
}

func ExampleCache_OpenSlab() {
	cache, done := example(flagstone.Options{Entries: 1000})
	defer done()
	made, err := cache.CreateSlab(ctx, "archive", flagstone.Shape{Entries: 1000})
	check(err)
	check(made.Set(ctx, []byte("2024"), []byte("report"), 0))

	archive, err := cache.OpenSlab(ctx, "archive") // in another process, elsewhere
	check(err)
	value, _, err := archive.Get(nil, []byte("2024"))
	fmt.Printf("%s %v\n", value, err)
	_, err = cache.OpenSlab(ctx, "attic")
	fmt.Println(errors.Is(err, flagstone.ErrNoSlab))
	// Output:
	// report <nil>
	// true
}

// archived is a cache with an entry that was not used for an hour and one that was, its
// only tier, and an independent slab.
func archived() (cache *flagstone.Cache, top, archive *flagstone.Slab, done func()) {
	clock := &testClock{}
	cache, done = example(flagstone.Options{Entries: 1000, Clock: clock})
	archive, err := cache.CreateSlab(ctx, "archive", flagstone.Shape{Entries: 1000})
	check(err)
	tiers, err := cache.Tiers()
	check(err)
	check(cache.Set(ctx, []byte("old"), []byte("1"), 0))
	clock.pass(3_600_000)
	cache.Table().Tick()
	check(cache.Set(ctx, []byte("new"), []byte("2"), 0))
	return cache, tiers[0], archive, done
}

func ExampleCache_Move() {
	cache, top, archive, done := archived()
	defer done()
	moved, err := cache.Move(ctx, top, archive, time.Minute, 100)
	check(err)
	value, _, err := archive.Get(nil, []byte("old"))
	fmt.Printf("%d moved: %s %v\n", moved, value, err)
	// Output: 1 moved: 1 <nil>
}

func ExampleSlab_Evict() {
	cache, top, _, done := archived()
	defer done()
	hashes, err := top.Evict(ctx, time.Minute, 100)
	fmt.Println(len(hashes), hashes[0] == cache.HashOf([]byte("old")), err)
	// Output: 1 true <nil>
}

func ExampleSlab_EvictPairs() {
	_, top, _, done := archived()
	defer done()
	pairs, err := top.EvictPairs(ctx, time.Minute, 100)
	check(err)
	for _, p := range pairs {
		fmt.Printf("%s: %s, unused for %v\n", p.Key, p.Value, p.Idle)
	}
	// Output: old: 1, unused for 1h0m0s
}

func ExampleSlab_InsertBatch() {
	_, top, archive, done := archived()
	defer done()
	pairs, err := top.EvictPairs(ctx, time.Minute, math.MaxInt)
	check(err)
	// Here the application may look at them, or leave some out. Meanwhile they are in
	// neither slab: Move has no such moment.
	stored, err := archive.InsertBatch(ctx, pairs)
	fmt.Println(stored, err)
	// Output: 1 <nil>
}

func ExampleCache_Grow() {
	cache, done := example(flagstone.Options{Entries: 1000})
	defer done()
	below, err := cache.Grow(ctx, "cold", flagstone.Shape{Entries: 10_000})
	check(err)
	for i := range 5000 { // what has no room above goes below
		check(cache.Set(ctx, fmt.Append(nil, i), []byte("v"), 0))
	}
	_, ok, err := cache.Get(nil, []byte("0"))
	fmt.Println(below.Tier(), ok, err)
	// Output: 1 true <nil>
}

func ExampleCache_Tiers() {
	cache, done := example(flagstone.Options{Entries: 1000})
	defer done()
	_, err := cache.Grow(ctx, "cold", flagstone.Shape{})
	check(err)
	tiers, err := cache.Tiers()
	check(err)
	for _, s := range tiers {
		fmt.Println(s.Tier(), s.Name())
	}
	// Output:
	// 0 primary
	// 1 cold
}

func ExampleSlab_Drain() {
	cache, done := example(flagstone.Options{Entries: 1000})
	defer done()
	below, err := cache.Grow(ctx, "cold", flagstone.Shape{})
	check(err)
	check(cache.Set(ctx, []byte("key"), []byte("v"), 0))
	moved, err := below.Drain(ctx) // into the others
	check(err)
	_, err = below.Drain(ctx)
	fmt.Println(moved, errors.Is(err, flagstone.ErrRetired))
	// Output: 0 true
}

func ExampleSlab_Name() {
	_, top, archive, done := archived()
	defer done()
	fmt.Println(top.Name(), archive.Name())
	// Output: primary archive
}

func ExampleSlab_ID() {
	cache, top, _, done := archived()
	defer done()
	for _, e := range cache.Table().Entries() {
		if e.SegmentID == top.ID() {
			fmt.Println(e.State, e.Name)
		}
	}
	// Output: OPEN primary
}

func ExampleSlab_Tier() {
	_, top, archive, done := archived()
	defer done()
	fmt.Println(top.Tier(), archive.Tier()) // each the first of its own cache
	// Output: 0 0
}

func ExampleSlab_Cache() {
	cache, top, archive, done := archived()
	defer done()
	check(archive.Cache().Namespace("reports").Set(ctx, []byte("2024"), []byte("report"), 0))
	n, err := archive.Cache().Len() // with the namespace's id
	fmt.Println(top.Cache() == cache, n, err)
	// Output: true 2 <nil>
}

func ExampleSlab_Close() {
	_, _, archive, done := archived()
	defer done()
	check(archive.Close())
	_, _, err := archive.Get(nil, []byte("key"))
	fmt.Println(errors.Is(err, flagstone.ErrClosed))
	// Output: true
}

func ExampleSlab_Retire() {
	cache, _, archive, done := archived()
	defer done()
	other, err := cache.OpenSlab(ctx, "archive")
	check(err)
	check(archive.Retire(ctx))
	_, _, err = other.Get(nil, []byte("key"))
	fmt.Println(errors.Is(err, flagstone.ErrRetired))
	_, err = cache.OpenSlab(ctx, "archive")
	fmt.Println(errors.Is(err, flagstone.ErrNoSlab))
	// Output:
	// true
	// true
}

func ExampleSlab_Lock() {
	_, _, archive, done := archived()
	defer done()
	consistent, err := archive.Lock(ctx)
	check(err)
	if !consistent { // the last holder died: finish, or begin again
		check(archive.Set(ctx, []byte("step"), []byte("0"), 0))
	}
	check(archive.Set(ctx, []byte("step"), []byte("1"), 0)) // it locks nothing but its own kind
	fmt.Println(archive.Unlock(true))
	// Output: <nil>
}

func ExampleSlab_TryLock() {
	_, _, archive, done := archived()
	defer done()
	ok, _, err := archive.TryLock()
	check(err)
	again, _, err := archive.TryLock()
	check(err)
	fmt.Println(ok, again)
	// Output: true false
}

func ExampleSlab_Unlock() {
	_, _, archive, done := archived()
	defer done()
	fmt.Println(errors.Is(archive.Unlock(true), flagstone.ErrNotHeld))
	_, err := archive.Lock(ctx)
	check(err)
	check(archive.Unlock(false)) // half done
	consistent, err := archive.Lock(ctx)
	fmt.Println(consistent, err)
	// Output:
	// true
	// false <nil>
}

func ExampleSlab_LockWriters() {
	_, _, archive, done := archived()
	defer done()
	check(archive.Set(ctx, []byte("a"), []byte("1"), 0))
	check(archive.Set(ctx, []byte("b"), []byte("2"), 0))
	_, err := archive.LockWriters(ctx)
	check(err)
	n := 0
	for _, err := range archive.All(ctx) { // of one moment
		check(err)
		n++
	}
	brief, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	err = archive.Set(brief, []byte("c"), []byte("3"), 0)
	fmt.Println(n, errors.Is(err, flagstone.ErrBusy))
	check(archive.Unlock(true))
	// Output: 2 true
}

func ExampleSlab_Descriptor() {
	_, _, archive, done := archived()
	defer done()
	d := archive.Descriptor()
	fmt.Println(d.Name, d.SlabID == archive.ID())
	// Output: archive true
}

func ExampleCache_OpenDescriptor() {
	cache, _, archive, done := archived()
	defer done()
	message, err := archive.Descriptor().MarshalText()
	check(err)
	// In another process, which got the message:
	var d flagstone.Descriptor
	check(d.UnmarshalText(message))
	same, err := cache.OpenDescriptor(ctx, d)
	check(err)
	fmt.Println(same.ID() == archive.ID())

	check(archive.Retire(ctx))
	_, err = cache.OpenDescriptor(ctx, d)
	fmt.Println(errors.Is(err, flagstone.ErrRetired))
	// Output:
	// true
	// true
}

func ExampleDescriptor_MarshalText() {
	d := flagstone.Descriptor{Domain: [2]uint64{1, 2}, SlabID: 3, Entry: 4, Generation: 5, Size: 1 << 20, Name: "the archive"}
	text, err := d.MarshalText()
	fmt.Printf("%s %v\n", text, err)
	// Output: flagstone:1/00000000000000010000000000000002/0000000000000003/4/5/1048576/the%20archive/29b62055 <nil>
}

func ExampleDescriptor_UnmarshalText() {
	var d flagstone.Descriptor
	err := d.UnmarshalText([]byte("flagstone:1/00000000000000010000000000000002/0000000000000003/four/5/1048576/the%20archive/29b62055"))
	fmt.Println(errors.Is(err, flagstone.ErrDescriptor), err)
	// Output: true not a slab's descriptor: entry: strconv.ParseUint: parsing "four": invalid syntax
}

func ExampleCache_TierStats() {
	cache, done := example(flagstone.Options{Entries: 1000})
	defer done()
	_, err := cache.Grow(ctx, "cold", flagstone.Shape{Entries: 10_000})
	check(err)
	const n = 5000
	for i := range n { // what has no room above goes below
		check(cache.Set(ctx, fmt.Append(nil, i), []byte("v"), 0))
	}
	tiers, err := cache.TierStats()
	check(err)
	records := uint64(0)
	for _, t := range tiers {
		fmt.Println(t.Tier, t.Name, t.State, t.Records > 0)
		records += t.Records
	}
	fmt.Println(records == n, tiers[1].MovedIn == tiers[1].Records)
	// Output:
	// 0 primary OPEN true
	// 1 cold OPEN true
	// true true
}
