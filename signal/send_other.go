//go:build !linux

package signal

import (
	"syscall"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

const defaultSignal = syscall.Signal(0)

// checkSignal allows none on this system.
func checkSignal(syscall.Signal) error { return shm.ErrUnsupported }

func (*Ringing) send(*layout.Region, uint64, func() bool) error { return shm.ErrUnsupported }
