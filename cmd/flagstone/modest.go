package main

import "github.com/flagstone-shm/flagstone"

// modest keeps a handle of one operation from being the steward meanwhile.
func modest(o flagstone.Options) flagstone.Options {
	o.Steward.Off = true
	return o
}
