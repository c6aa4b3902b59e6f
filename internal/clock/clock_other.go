//go:build !linux

package clock

import "time"

var start = time.Now()

// Monotonic returns milliseconds of a clock that never steps, counted from the
// start of this process, as no other asks here.
func (System) Monotonic() uint64 { return uint64(time.Since(start).Milliseconds()) }
