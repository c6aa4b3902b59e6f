package signal

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/flagstone-shm/flagstone/internal/shm"
)

// guarded runs f, which touches no mapped memory but a region, and returns a
// fault of it as shm.ErrFault.
func guarded(f func() error) (err error) {
	if shm.Forked() { // the parent's region
		return shm.ErrForked
	}
	defer func(old bool) {
		debug.SetPanicOnFault(old)
		switch e := recover().(type) {
		case nil:
		case interface {
			runtime.Error
			Addr() uintptr
		}:
			err = fmt.Errorf("doorbell: %w: %w", shm.ErrFault, e)
		default:
			panic(e)
		}
	}(shm.Guard())
	return f()
}
