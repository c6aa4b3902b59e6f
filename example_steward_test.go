package flagstone_test

import (
	"context"
	"fmt"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// A process that is there to be the steward, whoever else uses the cache: it keeps what
// was used within ten minutes, in up to 64 MiB beyond the first slab.
func ExampleCache_Lead() {
	steward := make(chan bool, 1)
	cache, done := example(flagstone.Options{
		Size:    1 << 20,
		Steward: flagstone.StewardOptions{KeepFor: 10 * time.Minute, Budget: 64 << 20},
		OnEvent: func(e flagstone.Event) {
			if e.Kind == flagstone.EventSteward {
				steward <- true
			}
		},
	})
	defer done()
	ctx, stop := context.WithCancel(ctx)
	go func() {
		fmt.Println("steward:", <-steward)
		stop()
	}()
	fmt.Println(cache.Lead(ctx))
	// Output:
	// steward: true
	// <nil>
}
