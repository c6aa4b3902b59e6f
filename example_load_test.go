package flagstone_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/flagstone-shm/flagstone"
)

func ExampleCache_GetOrLoad() {
	ctx := context.Background()
	cache, err := flagstone.Open(ctx, "", flagstone.Options{Private: true})
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()
	load := func(context.Context) (flagstone.Item, error) { // in one process of all that ask
		fmt.Println("loading")
		return flagstone.Item{Value: []byte("the page"), TTL: time.Minute, StaleFor: time.Hour}, nil
	}
	for range 2 {
		value, err := cache.GetOrLoad(ctx, []byte("/"), load)
		fmt.Printf("%s %v\n", value, err)
	}
	// Output:
	// loading
	// the page <nil>
	// the page <nil>
}

func ExampleCache_GetOrLoad_negative() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	load := func(context.Context) (flagstone.Item, error) {
		fmt.Println("asking the database")
		return flagstone.Item{NegativeTTL: time.Minute}, errors.New("no such user")
	}
	for range 2 {
		_, err := cache.GetOrLoad(ctx, []byte("bob"), load)
		fmt.Println(err)
	}
	// Output:
	// asking the database
	// no such user
	// load failed elsewhere: no such user
}

func ExampleCache_AppendOrLoad() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	page := []byte("<body>")
	for _, part := range []string{"head", "news"} {
		var err error
		page, err = cache.AppendOrLoad(ctx, page, []byte(part), func(context.Context) (flagstone.Item, error) {
			return flagstone.Item{Value: fmt.Append(nil, "<p>", part)}, nil
		})
		check(err)
	}
	fmt.Printf("%s\n", page)
	// Output: <body><p>head<p>news
}

// claimed returns the claim of a key that has no value.
func claimed(cache *flagstone.Cache, key string) *flagstone.Claim {
	claim, err := cache.Claim(ctx, []byte(key), time.Minute)
	check(err)
	return claim
}

func ExampleCache_Claim() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	claim, err := cache.Claim(ctx, []byte("report"), time.Minute)
	check(err)
	_, err = cache.Claim(ctx, []byte("report"), time.Minute)
	fmt.Println(errors.Is(err, flagstone.ErrClaimed))
	_, err = claim.Fill(ctx, flagstone.Item{Value: []byte("done")})
	check(err)
	_, err = cache.Claim(ctx, []byte("report"), time.Minute)
	fmt.Println(errors.Is(err, flagstone.ErrExists))
	// Output:
	// true
	// true
}

func ExampleClaim_Fill() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	claim := claimed(cache, "price")
	check(cache.Set(ctx, []byte("price"), []byte("new"), 0)) // while the old one is being computed
	_, err := claim.Fill(ctx, flagstone.Item{Value: []byte("old")})
	fmt.Println(errors.Is(err, flagstone.ErrClaimLost))
	value, _, err := cache.Get(nil, []byte("price"))
	fmt.Printf("%s %v\n", value, err)
	// Output:
	// true
	// new <nil>
}

func ExampleClaim_Abandon() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	check(claimed(cache, "key").Abandon(ctx, nil, 0)) // the next one may try
	check(claimed(cache, "key").Abandon(ctx, errors.New("no such thing"), time.Minute))
	_, err := cache.Claim(ctx, []byte("key"), time.Minute) // all get the error for a minute
	fmt.Println(err)
	// Output: load failed elsewhere: no such thing
}

func ExampleLoadError() {
	cache, done := example(flagstone.Options{Size: 1 << 20})
	defer done()
	check(claimed(cache, "key").Abandon(ctx, errors.New("timed out"), time.Minute))
	_, err := cache.GetOrLoad(ctx, []byte("key"), func(context.Context) (flagstone.Item, error) { panic("not called") })
	var elsewhere *flagstone.LoadError
	fmt.Println(errors.As(err, &elsewhere), elsewhere.Text, errors.Is(err, flagstone.ErrLoad))
	// Output: true timed out true
}

func ExampleEventKind() {
	cache, done := example(flagstone.Options{Size: 1 << 20, OnEvent: func(e flagstone.Event) {
		if e.Kind == flagstone.EventUnstored {
			fmt.Printf("%v: %s: %v\n", e.Kind, e.Key, errors.Is(e.Err, flagstone.ErrClaimLost))
		}
	}})
	defer done()
	_, err := cache.GetOrLoad(ctx, []byte("price"), func(context.Context) (flagstone.Item, error) {
		check(cache.Set(ctx, []byte("price"), []byte("newer"), 0)) // what is being loaded is old now
		return flagstone.Item{Value: []byte("old")}, nil
	})
	check(err)
	// Output: unstored: price: true
}
