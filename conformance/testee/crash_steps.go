//go:build steps

package main

import "github.com/flagstone-shm/flagstone/internal/step"

func init() {
	// Called before each store, of any goroutine.
	step.Passing = func() {
		if left.Load() > 0 && left.Add(-1) == 0 {
			die()
		}
	}
}
