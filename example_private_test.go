package flagstone_test

import (
	"context"
	"fmt"
	"log"

	"github.com/flagstone-shm/flagstone"
)

// In tests, and where processes cannot share memory, a cache may be the program's
// own.
func ExampleOpen_private() {
	ctx := context.Background()
	cache, err := flagstone.Open(ctx, "", flagstone.Options{Private: true, Entries: 1000})
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()
	if err := cache.Set(ctx, []byte("key"), []byte("value"), flagstone.NoExpiry); err != nil {
		log.Fatal(err)
	}
	value, ok, err := cache.Get(nil, []byte("key"))
	fmt.Println(string(value), ok, err)
	// Output: value true <nil>
}
