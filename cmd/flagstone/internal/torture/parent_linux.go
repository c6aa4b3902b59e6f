package torture

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// dieWithParent has the kernel kill this process when its parent ends: also one that has
// exec'ed in place, as what the parent asked for at its start went with a thread.
func dieWithParent() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("die with the parent: %w", err)
	}
	return nil
}
