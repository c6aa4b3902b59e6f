package flagstone_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math"
	"os"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/table"
)

var ctx = context.Background()

// example is a cache for one example, and how to get rid of it.
func example(o flagstone.Options) (*flagstone.Cache, func()) {
	dir, err := os.MkdirTemp("", "flagstone-example-")
	check(err)
	o.Dir = dir
	c, err := flagstone.Open(ctx, "example", o)
	check(err)
	return c, func() { check(errors.Join(c.Close(), os.RemoveAll(dir))) }
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func Example() {
	ctx := context.Background()
	// Every process opens the cache by its name; the first one makes it. Private, which
	// nobody else can open, is for this example.
	cache, err := flagstone.Open(ctx, "sessions", flagstone.Options{Private: true})
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()

	if err := cache.Set(ctx, []byte("alice"), []byte("logged in"), time.Hour); err != nil {
		log.Fatal(err)
	}
	value, ok, err := cache.Get(nil, []byte("alice"))
	fmt.Printf("%s %v %v\n", value, ok, err)
	// Output: logged in true <nil>
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "flagstone-example-")
	check(err)
	defer os.RemoveAll(dir)
	_, err = flagstone.Open(ctx, "thumbnails", flagstone.Options{Dir: dir, MustExist: true})
	fmt.Println(errors.Is(err, flagstone.ErrNotFound))

	cache, err := flagstone.Open(ctx, "thumbnails", flagstone.Options{Dir: dir, Entries: 1000, MaxValue: 4096})
	check(err)
	defer cache.Close()
	stats, err := cache.Stats()
	fmt.Println(stats.Geometry.Capacity, len(stats.Processes), err)
	// Output:
	// true
	// 1000 1 <nil>
}

func ExampleCache_Differences() {
	cache, done := example(flagstone.Options{Entries: 1000})
	defer done()
	other, err := flagstone.Open(ctx, "example", flagstone.Options{Dir: dirOf(cache), Entries: 5000})
	check(err)
	defer other.Close()
	fmt.Println(other.Differences())
	// Output: [{Entries 5000 1000}]
}

// dirOf is where an example's cache was made: DIR/NAME.flagstone/vN holds its files.
func dirOf(c *flagstone.Cache) string { return c.Table().Dir() + "/../.." }

func ExampleDestroy() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	check(flagstone.Destroy(ctx, dirOf(cache), "example"))
	_, _, err := cache.Get(nil, []byte("key"))
	fmt.Println(errors.Is(err, flagstone.ErrDestroyed))
	// Output: true
}

func ExampleCache_Get() {
	ctx := context.Background()
	cache, err := flagstone.Open(ctx, "", flagstone.Options{Private: true})
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()
	if err := cache.Set(ctx, []byte("answer"), []byte("42"), flagstone.NoExpiry); err != nil {
		log.Fatal(err)
	}

	buffer := make([]byte, 0, 64) // used again for every lookup, so that none allocates
	for _, key := range []string{"answer", "question"} {
		value, ok, err := cache.Get(buffer[:0], []byte(key))
		fmt.Printf("%q %v %v\n", value, ok, err)
	}
	// Output:
	// "42" true <nil>
	// "" false <nil>
}

func ExampleCache_GetItem() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	_, err := cache.SetItem(ctx, []byte("page"), flagstone.Item{Value: []byte("<html>"), Tag: 7, StaleFor: time.Minute})
	check(err)
	it, ok, err := cache.GetItem(nil, []byte("page"))
	fmt.Printf("%s, tag %d, stale for %v, %v %v\n", it.Value, it.Tag, it.StaleFor, ok, err)
	// Output: <html>, tag 7, stale for 1m0s, true <nil>
}

func ExampleCache_Peek() {
	clock := &testClock{}
	cache, done := example(flagstone.Options{Size: 1 << 20, Clock: clock})
	defer done()
	check(cache.Set(ctx, []byte("key"), []byte("value"), 0))
	clock.pass(60_000)
	cache.Table().Tick()
	value, _, err := cache.Peek(nil, []byte("key")) // is no use of the record
	removed, _ := cache.Evict(ctx, 30*time.Second, 10)
	fmt.Printf("%s %v, evicted: %d\n", value, err, len(removed))
	// Output: value <nil>, evicted: 1
}

func ExampleCache_TTL() {
	clock := &testClock{}
	cache, done := example(flagstone.Options{Size: 1 << 20, Clock: clock})
	defer done()
	check(cache.Set(ctx, []byte("key"), nil, time.Minute))
	clock.pass(20_000)
	cache.Table().Tick()
	fmt.Println(cache.TTL([]byte("key")))
	// Output: 40s true <nil>
}

func ExampleCache_GetBatch() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	check(cache.Set(ctx, []byte("a"), []byte("1"), 0))
	check(cache.Set(ctx, []byte("c"), []byte("3"), 0))

	var batch flagstone.Batch
	check(cache.GetBatch(&batch, [][]byte{[]byte("a"), []byte("b"), []byte("c")}))
	for i := range batch.Len() {
		value, ok := batch.Value(i)
		fmt.Printf("%q %v\n", value, ok)
	}
	// Output:
	// "1" true
	// "" false
	// "3" true
}

func ExampleCache_Set() {
	ctx := context.Background()
	cache, err := flagstone.Open(ctx, "", flagstone.Options{Private: true, MaxValue: 1000})
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()
	limited, cancel := context.WithTimeout(ctx, time.Second) // how long to wait for a lock at most
	defer cancel()
	fmt.Println(cache.Set(limited, []byte("key"), []byte("value"), time.Minute))

	err = cache.Set(limited, []byte("key"), make([]byte, 1001), time.Minute)
	fmt.Println(errors.Is(err, flagstone.ErrValueTooLong))
	// Output:
	// <nil>
	// true
}

func ExampleCache_SetItem() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	token, err := cache.SetItem(ctx, []byte("key"), flagstone.Item{Value: []byte("1"), TTL: time.Hour, Tag: 42})
	check(err)
	_, stored, err := cache.CompareAndSwap(ctx, []byte("key"), token, []byte("2"), time.Hour)
	fmt.Println(stored, err)
	// Output: true <nil>
}

func ExampleCache_SetIfAbsent() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	for _, worker := range []string{"first", "second"} {
		stored, err := cache.SetIfAbsent(ctx, []byte("leader"), []byte(worker), time.Minute)
		fmt.Println(worker, stored, err)
	}
	// Output:
	// first true <nil>
	// second false <nil>
}

func ExampleCache_CompareAndSwap() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	check(cache.Set(ctx, []byte("list"), []byte("a"), 0))
	for stored := false; !stored; { // until nobody else has changed it in between
		it, _, err := cache.GetItem(nil, []byte("list"))
		check(err)
		_, stored, err = cache.CompareAndSwap(ctx, []byte("list"), it.Token, append(it.Value, ",b"...), 0)
		check(err)
	}
	value, _, err := cache.Get(nil, []byte("list"))
	fmt.Printf("%s %v\n", value, err)
	// Output: a,b <nil>
}

func ExampleCache_SetBatch() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	stored, err := cache.SetBatch(ctx, []flagstone.KeyItem{
		{Key: []byte("a"), Item: flagstone.Item{Value: []byte("1")}},
		{Key: []byte("b"), Item: flagstone.Item{Value: []byte("2"), TTL: time.Minute}},
	})
	fmt.Println(stored, err)
	// Output: 2 <nil>
}

func ExampleCache_Increment() {
	ctx := context.Background()
	cache, err := flagstone.Open(ctx, "", flagstone.Options{Private: true})
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()
	for range 3 { // at most two requests in the minute that begins with the first
		n, err := cache.Increment(ctx, []byte("requests of alice"), 1, 0, time.Minute)
		fmt.Println(n, n <= 2, err)
	}
	// Output:
	// 1 true <nil>
	// 2 true <nil>
	// 3 false <nil>
}

func ExampleCache_Touch() {
	cache, done := example(flagstone.Options{Size: 1 << 20, Clock: &testClock{}})
	defer done()
	check(cache.Set(ctx, []byte("session"), nil, time.Minute))
	found, err := cache.Touch(ctx, []byte("session"), time.Hour)
	fmt.Println(found, err)
	fmt.Println(cache.TTL([]byte("session")))
	// Output:
	// true <nil>
	// 1h0m0s true <nil>
}

func ExampleCache_SetHash() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	const hash = 0x9e3779b97f4a7c15 // the application's own
	fmt.Println(cache.SetHash(ctx, hash, []byte("value"), 0))
	// Output: <nil>
}

func ExampleCache_GetHash() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	check(cache.SetHash(ctx, 1234, []byte("value"), 0))
	value, ok, err := cache.GetHash(nil, 1234)
	fmt.Printf("%s %v %v\n", value, ok, err)
	// Output: value true <nil>
}

func ExampleCache_DeleteHash() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	check(cache.SetHash(ctx, 1234, []byte("value"), 0))
	found, err := cache.DeleteHash(ctx, 1234)
	fmt.Println(found, err)
	// Output: true <nil>
}

func ExampleCache_HashOf() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	names := map[uint64]string{cache.HashOf([]byte("alice")): "alice"} // to know what Evict removed
	_, err := cache.SetItem(ctx, []byte("alice"), flagstone.Item{Tag: 7})
	check(err)
	removed, err := cache.EvictTag(ctx, 7, 1)
	fmt.Println(names[removed[0]], err)
	// Output: alice <nil>
}

func ExampleCache_Delete() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	check(cache.Set(ctx, []byte("key"), []byte("value"), 0))
	for range 2 {
		found, err := cache.Delete(ctx, []byte("key"))
		fmt.Println(found, err)
	}
	// Output:
	// true <nil>
	// false <nil>
}

func ExampleCache_Evict() {
	clock := &testClock{}
	cache, done := example(flagstone.Options{Size: 1 << 20, Clock: clock})
	defer done()
	check(cache.Set(ctx, []byte("old"), nil, 0))
	clock.pass(60_000)
	cache.Table().Tick()
	check(cache.Set(ctx, []byte("new"), nil, 0))

	removed, err := cache.Evict(ctx, 30*time.Second, 100)
	fmt.Println(len(removed), removed[0] == cache.HashOf([]byte("old")), err)
	// Output: 1 true <nil>
}

func ExampleCache_EvictPairs() {
	clock := &testClock{}
	cache, done := example(flagstone.Options{Size: 1 << 20, Clock: clock, Precision: time.Millisecond})
	defer done()
	for _, key := range []string{"first", "second", "third"} {
		check(cache.Set(ctx, []byte(key), []byte("value of "+key), 0))
		clock.pass(1000)
		cache.Table().Tick()
	}
	pairs, err := cache.EvictPairs(ctx, time.Second, 10)
	for _, p := range pairs {
		fmt.Printf("%s: %s, unused for %v\n", p.Key, p.Value, p.Idle)
	}
	fmt.Println(err)
	// Output:
	// first: value of first, unused for 3s
	// second: value of second, unused for 2s
	// <nil>
}

func ExampleCache_EvictNear() {
	clock := &testClock{}
	cache, done := example(flagstone.Options{Entries: 100, OnFull: flagstone.Refuse, Clock: clock})
	defer done()
	var err error
	for i := 0; err == nil; i++ { // until it is full
		err = cache.Set(ctx, fmt.Append(nil, i), nil, 0)
	}
	clock.pass(60_000)
	cache.Table().Tick()
	removed, err := cache.EvictNear(ctx, []byte("one more"), 30*time.Second, 1)
	fmt.Println(len(removed), err)
	// Output: 1 <nil>
}

func ExampleCache_EvictNearHash() {
	clock := &testClock{}
	cache, done := example(flagstone.Options{Size: 1 << 20, Clock: clock})
	defer done()
	check(cache.SetHash(ctx, 1, nil, 0))
	clock.pass(60_000)
	cache.Table().Tick()
	removed, err := cache.EvictNearHash(ctx, 2, 30*time.Second, 1)
	fmt.Println(removed, err)
	// Output: [1] <nil>
}

func ExampleCache_EvictTag() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	const fromDatabase = 7 // what to drop when the database changes
	for _, key := range []string{"a", "b"} {
		_, err := cache.SetItem(ctx, []byte(key), flagstone.Item{Tag: fromDatabase})
		check(err)
	}
	check(cache.Set(ctx, []byte("c"), nil, 0))
	removed, err := cache.EvictTag(ctx, fromDatabase, math.MaxInt)
	fmt.Println(len(removed), err)
	// Output: 2 <nil>
}

func ExampleCache_Clear() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	check(cache.Set(ctx, []byte("key"), nil, 0))
	fmt.Println(cache.Clear(ctx))
	fmt.Println(cache.Len())
	// Output:
	// <nil>
	// 0 <nil>
}

func ExampleCache_Len() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	for i := range 10 {
		check(cache.Set(ctx, fmt.Append(nil, i), nil, 0))
	}
	fmt.Println(cache.Len())
	// Output: 10 <nil>
}

func ExampleCache_All() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	check(cache.Set(ctx, []byte("a"), []byte("1"), 0))
	check(cache.Set(ctx, []byte("b"), []byte("2"), time.Hour))
	for r, err := range cache.All(ctx) {
		check(err)
		fmt.Printf("%s=%s expires: %v\n", r.Key, r.Value, r.TTL != flagstone.NoExpiry)
	}
	// Unordered output:
	// a=1 expires: false
	// b=2 expires: true
}

func ExampleCache_Tagged() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	for i := range uint32(6) {
		_, err := cache.SetItem(ctx, fmt.Append(nil, "key ", i), flagstone.Item{Tag: i % 3})
		check(err)
	}
	for r, err := range cache.Tagged(ctx, 2) {
		check(err)
		fmt.Printf("%s\n", r.Key)
	}
	// Unordered output:
	// key 2
	// key 5
}

func ExampleCache_Check() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	check(cache.Set(ctx, []byte("key"), []byte("value"), 0))
	problems, err := cache.Check(ctx)
	fmt.Println(len(problems), err)
	// Output: 0 <nil>
}

func ExampleCache_Rebuild() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	check(cache.Set(ctx, []byte("key"), []byte("value"), 0))
	fmt.Println(cache.Rebuild(ctx)) // never needed, always allowed
	value, ok, err := cache.Get(nil, []byte("key"))
	fmt.Printf("%s %v %v\n", value, ok, err)
	// Output:
	// <nil>
	// value true <nil>
}

func ExampleCache_Repair() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	check(cache.Set(ctx, []byte("key"), []byte("value"), 0))
	if problems, err := cache.Check(ctx); err == nil && len(problems) > 0 {
		fmt.Println(problems)
	}
	fmt.Println(cache.Repair(ctx)) // records that are whole stay
	value, ok, err := cache.Get(nil, []byte("key"))
	fmt.Printf("%s %v %v\n", value, ok, err)
	// Output:
	// <nil>
	// value true <nil>
}

func ExampleCache_Close() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	fmt.Println(cache.Close()) // the cache stays, for others and for the next Open
	_, _, err := cache.Get(nil, []byte("key"))
	fmt.Println(errors.Is(err, flagstone.ErrClosed))
	// Output:
	// <nil>
	// true
}

func ExampleCache_Stats() {
	cache, done := example(flagstone.Options{Entries: 1000})
	defer done()
	check(cache.Set(ctx, []byte("key"), []byte("value"), 0))
	_, _, err := cache.Get(nil, []byte("key"))
	check(err)
	stats, err := cache.Stats()
	fmt.Println(stats.Records, stats.Bytes, stats.Sets, stats.Total.Hits, err)
	// Output: 1 8 1 1 <nil>
}

func ExampleCache_Holders() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	holders, err := cache.Holders() // of shards that are locked at this moment
	fmt.Println(len(holders), err)
	// Output: 0 <nil>
}

func ExampleCache_Watch() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	for event := range cache.Watch(watching) {
		if event.Kind == table.Published {
			fmt.Println(event.Entry.Name)
			cancel()
		}
	}
	// Output: primary
}

func ExampleCache_Table() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	check(cache.Table().SetFlags(1<<3, 0)) // a state flag that the other processes see
	for _, r := range cache.Table().Regions() {
		fmt.Println(r.Self, r.Flags)
	}
	// Output: true 8
}

func ExampleCache_SwapItem() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	_, err := cache.SetItem(ctx, []byte("page"), flagstone.Item{Value: []byte("1"), Tag: 7})
	check(err)
	it, _, err := cache.GetItem(nil, []byte("page"))
	check(err)
	it.Value = append(it.Value, '2') // tag, time to live and token stay
	_, swapped, err := cache.SwapItem(ctx, []byte("page"), it)
	removed, _ := cache.EvictTag(ctx, 7, 10)
	fmt.Println(swapped, err, len(removed))
	// Output: true <nil> 1
}
