package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// Monotonic returns milliseconds of a clock that never steps, stands still while
// the machine is suspended, and is the same for all processes.
func (System) Monotonic() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for this clock
	return uint64(ts.Nano()) / uint64(time.Millisecond)
}
