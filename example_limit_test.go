package flagstone_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// limiter lets each client make so many requests in the minute that begins with
// its first one.
type limiter struct {
	counters *flagstone.Namespace
	most     int64
}

func (l *limiter) allows(ctx context.Context, client string) (bool, error) {
	n, err := l.counters.Increment(ctx, []byte(client), 1, 0, time.Minute)
	return n <= l.most, err
}

// A limit for all processes that open the cache by one name. Private is for this
// example.
func Example_limit() {
	ctx := context.Background()
	cache, err := flagstone.Open(ctx, "limits", flagstone.Options{Private: true})
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()
	l := &limiter{cache.Namespace("requests"), 2}
	for range 3 {
		ok, err := l.allows(ctx, "alice")
		fmt.Println(ok, err)
	}
	// Output:
	// true <nil>
	// true <nil>
	// false <nil>
}
