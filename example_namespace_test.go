package flagstone_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/flagstone-shm/flagstone"
)

func ExampleCache_Namespace() {
	ctx := context.Background()
	cache, err := flagstone.Open(ctx, "", flagstone.Options{Private: true})
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()
	users, pages := cache.Namespace("user:v7"), cache.Namespace("page")
	if err := users.Set(ctx, []byte("1"), []byte("alice"), time.Hour); err != nil {
		log.Fatal(err)
	}
	if err := pages.Set(ctx, []byte("1"), []byte("<html>"), time.Hour); err != nil {
		log.Fatal(err)
	}
	value, ok, err := users.Get(nil, []byte("1"))
	fmt.Printf("%s %v %v\n", value, ok, err)
	// Output: alice true <nil>
}

func ExampleNamespace_Get() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	users := cache.Namespace("user:v7")
	check(users.Set(ctx, []byte("1"), []byte("alice"), 0))
	value, ok, err := users.Get(nil, []byte("1"))
	fmt.Printf("%s %v %v\n", value, ok, err)
	_, ok, err = cache.Namespace("user:v8").Get(nil, []byte("1"))
	fmt.Println(ok, err)
	// Output:
	// alice true <nil>
	// false <nil>
}

func ExampleNamespace_Clear() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	users, pages := cache.Namespace("user"), cache.Namespace("page")
	check(users.Set(ctx, []byte("1"), []byte("alice"), 0))
	check(pages.Set(ctx, []byte("1"), []byte("<html>"), 0))
	check(pages.Clear(ctx)) // one write, however many there are
	_, ok, err := pages.Get(nil, []byte("1"))
	fmt.Println(ok, err)
	_, ok, err = users.Get(nil, []byte("1"))
	fmt.Println(ok, err)
	// Output:
	// false <nil>
	// true <nil>
}

func ExampleNamespace_All() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	users := cache.Namespace("user")
	check(users.Set(ctx, []byte("1"), []byte("alice"), 0))
	check(cache.Set(ctx, []byte("2"), []byte("in no namespace"), 0))
	for r, err := range users.All(ctx) {
		check(err)
		fmt.Printf("%s=%s\n", r.Key, r.Value)
	}
	// Output: 1=alice
}

func ExampleNamespace_ID() {
	clock := &testClock{}
	cache, done := example(flagstone.Options{Size: 1 << 20, Clock: clock})
	defer done()
	users := cache.Namespace("user")
	check(users.Set(ctx, []byte("1"), []byte("alice"), 0))
	id, ok, err := users.ID()
	fmt.Println(ok, err)
	clock.pass(60_000)
	cache.Table().Tick()
	pairs, err := cache.EvictPairs(ctx, 30*time.Second, 10) // of all namespaces
	for _, p := range pairs {
		fmt.Printf("%s, a user: %v\n", p.Key, p.Scope == id)
	}
	fmt.Println(err)
	// Output:
	// true <nil>
	// 1, a user: true
	// <nil>
}

func ExampleNamespace_Name() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	fmt.Println(cache.Namespace("user:v7").Name())
	// Output: user:v7
}
