// Package clock is the system's time in milliseconds, and words that keep it.
package clock

import (
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// System is the clocks of this machine.
type System struct{}

// Wall returns the milliseconds since 1970.
func (System) Wall() uint64 { return uint64(time.Now().UnixMilli()) }

// Advance moves a clock word to now, and reports whether it did. Words only go
// forward, except that one further ahead than layout.ClockLeapMillis is garbage,
// or the trace of a stepped clock. The CAS pairs with the Advance of others: of
// two, the later time stays.
func Advance(word *layout.Uint64, now uint64) bool {
	for seen := word.Load(); seen < now || seen-now > layout.ClockLeapMillis; seen = word.Load() {
		if word.CompareAndSwap(seen, now) {
			return true
		}
	}
	return false
}
