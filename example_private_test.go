package flagstone_test

import (
	"fmt"

	"github.com/flagstone-shm/flagstone"
)

// In tests, and where processes cannot share memory, a cache may be the program's
// own.
func ExampleOpen_private() {
	cache, err := flagstone.Open(ctx, "", flagstone.Options{Private: true, Entries: 1000})
	check(err)
	defer cache.Close()
	check(cache.Set(ctx, []byte("key"), []byte("value"), flagstone.NoExpiry))
	value, ok, err := cache.Get(nil, []byte("key"))
	fmt.Println(string(value), ok, err)
	// Output: value true <nil>
}
