package flagstone_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// account is what the examples keep.
type account struct {
	Name  string
	Cents int
}

// accounts are those of one example, and how to get rid of them.
func accounts() (*flagstone.Typed[account], func()) {
	cache, done := example(flagstone.Options{Size: 1 << 20, Clock: &testClock{}})
	return flagstone.NewTyped(cache.Namespace("account:v1"), flagstone.JSON[account]()), done
}

func ExampleNewTyped() {
	ctx := context.Background()
	cache, err := flagstone.Open(ctx, "", flagstone.Options{Private: true})
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()
	type account struct {
		Name  string
		Cents int
	}
	typed := flagstone.NewTyped(cache.Namespace("account:v1"), flagstone.JSON[account]()) // or cache
	if err := typed.Set(ctx, "alice", account{"Alice", 100}, time.Hour); err != nil {
		log.Fatal(err)
	}
	fmt.Println(typed.Get("alice"))
	// Output: {Alice 100} true <nil>
}

func ExampleJSON() {
	codec := flagstone.JSON[account]()
	data, err := codec.Append(nil, account{"Alice", 100})
	fmt.Printf("%s %v\n", data, err)
	fmt.Println(codec.Decode(data))
	// Output:
	// {"Name":"Alice","Cents":100} <nil>
	// {Alice 100} <nil>
}

func ExampleRaw() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	texts := flagstone.NewTyped(cache, flagstone.Raw[string]())
	check(texts.Set(ctx, "greeting", "hello", 0))
	value, ok, err := cache.Get(nil, []byte("greeting")) // the bytes are those of the string
	fmt.Printf("%s %v %v\n", value, ok, err)
	// Output: hello true <nil>
}

func ExampleBinary() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	hosts := flagstone.NewTyped(cache, flagstone.Binary[netip.Addr]())
	check(hosts.Set(ctx, "localhost", netip.MustParseAddr("127.0.0.1"), 0))
	fmt.Println(hosts.Get("localhost"))
	// Output: 127.0.0.1 true <nil>
}

func ExampleTyped_Get() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	typed := flagstone.NewTyped(cache, flagstone.JSON[account]())
	fmt.Println(typed.Get("alice"))
	check(cache.Set(ctx, []byte("alice"), []byte("no JSON"), 0)) // by another program, say
	_, ok, err := typed.Get("alice")
	fmt.Println(ok, errors.Is(err, flagstone.ErrCodec))
	// Output:
	// { 0} false <nil>
	// false true
}

func ExampleTyped_GetItem() {
	typed, done := accounts()
	defer done()
	check(typed.Set(ctx, "alice", account{"Alice", 100}, time.Hour))
	v, it, ok, err := typed.GetItem("alice")
	fmt.Println(v, it.TTL, it.Token != 0, ok, err)
	// Output: {Alice 100} 1h0m0s true true <nil>
}

func ExampleTyped_Peek() {
	typed, done := accounts()
	defer done()
	check(typed.Set(ctx, "alice", account{"Alice", 100}, time.Hour))
	fmt.Println(typed.Peek("alice")) // is no use of the record
	// Output: {Alice 100} true <nil>
}

func ExampleTyped_TTL() {
	typed, done := accounts()
	defer done()
	check(typed.Set(ctx, "alice", account{"Alice", 100}, time.Hour))
	fmt.Println(typed.TTL("alice"))
	// Output: 1h0m0s true <nil>
}

func ExampleTyped_Set() {
	typed, done := accounts()
	defer done()
	fmt.Println(typed.Set(ctx, "alice", account{"Alice", 100}, flagstone.NoExpiry))
	// Output: <nil>
}

func ExampleTyped_SetItem() {
	typed, done := accounts()
	defer done()
	token, err := typed.SetItem(ctx, "alice", account{"Alice", 100}, flagstone.Item{TTL: time.Hour, Tag: 7})
	fmt.Println(token != 0, err)
	// Output: true <nil>
}

func ExampleTyped_SetIfAbsent() {
	typed, done := accounts()
	defer done()
	for _, cents := range []int{100, 200} {
		stored, err := typed.SetIfAbsent(ctx, "alice", account{"Alice", cents}, time.Hour)
		fmt.Println(stored, err)
	}
	// Output:
	// true <nil>
	// false <nil>
}

func ExampleTyped_CompareAndSwap() {
	typed, done := accounts()
	defer done()
	check(typed.Set(ctx, "alice", account{"Alice", 100}, 0))
	for stored := false; !stored; { // until nobody else has changed it in between
		v, it, _, err := typed.GetItem("alice")
		check(err)
		v.Cents += 50
		_, stored, err = typed.CompareAndSwap(ctx, "alice", it.Token, v, 0)
		check(err)
	}
	fmt.Println(typed.Get("alice"))
	// Output: {Alice 150} true <nil>
}

func ExampleTyped_GetOrLoad() {
	typed, done := accounts()
	defer done()
	v, err := typed.GetOrLoad(ctx, "alice", func(context.Context) (account, flagstone.Item, error) {
		return account{"Alice", 100}, flagstone.Item{TTL: time.Minute, StaleFor: time.Hour}, nil
	})
	fmt.Println(v, err)
	// Output: {Alice 100} <nil>
}

func ExampleTyped_Touch() {
	typed, done := accounts()
	defer done()
	check(typed.Set(ctx, "alice", account{"Alice", 100}, time.Minute))
	fmt.Println(typed.Touch(ctx, "alice", time.Hour))
	fmt.Println(typed.TTL("alice"))
	// Output:
	// true <nil>
	// 1h0m0s true <nil>
}

func ExampleTyped_Delete() {
	typed, done := accounts()
	defer done()
	check(typed.Set(ctx, "alice", account{"Alice", 100}, 0))
	fmt.Println(typed.Delete(ctx, "alice"))
	fmt.Println(typed.Delete(ctx, "alice"))
	// Output:
	// true <nil>
	// false <nil>
}

func ExampleTyped_All() {
	typed, done := accounts()
	defer done()
	check(typed.Set(ctx, "alice", account{"Alice", 100}, 0))
	check(typed.Set(ctx, "bob", account{"Bob", 200}, time.Hour))
	for r, err := range typed.All(ctx) {
		check(err)
		fmt.Println(r.Key, r.Value, r.Item.TTL)
	}
	// Unordered output:
	// alice {Alice 100} 0s
	// bob {Bob 200} 1h0m0s
}

func ExampleTyped_Tagged() {
	typed, done := accounts()
	defer done()
	for i, name := range []string{"Alice", "Bob", "Carol"} {
		_, err := typed.SetItem(ctx, name, account{name, 100}, flagstone.Item{Tag: uint32(i % 2)})
		check(err)
	}
	for r, err := range typed.Tagged(ctx, 1) {
		check(err)
		fmt.Println(r.Key, r.Value)
	}
	// Output: Bob {Bob 100}
}
