package table

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// Locks here belong to the open file description of `control`: they go when its
// last descriptor and its mapping are gone or its process dies, and no other
// description of the same file matters. Classic POSIX locks would vanish with any of them.

// toTheEnd as a number of bytes is all there are. No byte from LeaseByte on is
// anything but a lease, in any major version.
const toTheEnd = 0

// leaseByte is the byte whose lock is region i's lease.
func leaseByte(i int) int64 { return layout.LeaseByte + int64(i) }

const (
	firstBackoff   = 100 * time.Microsecond
	longestBackoff = 10 * time.Millisecond
)

// awaitLock takes the lock of one byte, ErrBusy if ctx ends first. There is no
// way to wait in the kernel that a context could end.
func awaitLock(ctx context.Context, f *os.File, b int64) error {
	for nap := firstBackoff; ; nap = min(2*nap, longestBackoff) {
		if ok, err := tryLock(f, b); ok || err != nil {
			return err
		}
		if err := pause(ctx, nap); err != nil {
			return fmt.Errorf("%s: lock byte %#x: %w: another process is at work or stopped there or, if none is, a child that a dead one forked without exec keeps it, see fuser -v %s: %w",
				f.Name(), b, ErrBusy, f.Name(), err)
		}
	}
}

// pause sleeps for about d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
