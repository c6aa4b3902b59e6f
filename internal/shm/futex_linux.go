package shm

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/step"
)

// Operations of futex(2); not the PRIVATE ones, as waker and waiter are
// different processes.
const (
	futexWait = 0
	futexWake = 1
)

// FutexWait sleeps while *addr equals seen, for timeout at most, until FutexWake.
// It may return early for no reason (a signal, say): the caller looks again. It
// holds an OS thread meanwhile. It pairs with FutexWake after a change of *addr.
func FutexWait(addr *layout.Uint32, seen uint32, timeout time.Duration) error {
	ts := unix.NsecToTimespec(timeout.Nanoseconds())
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(addr)), futexWait,
		uintptr(seen), uintptr(unsafe.Pointer(&ts)), 0, 0)
	switch errno {
	case 0, unix.EAGAIN, unix.EINTR, unix.ETIMEDOUT:
		return nil
	}
	return futexError("wait", errno)
}

// FutexWake wakes at most n waiters of addr.
func FutexWake(addr *layout.Uint32, n int) error {
	step.Here()
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(addr)), futexWake, uintptr(n), 0, 0, 0)
	if errno != 0 {
		return futexError("wake", errno)
	}
	return nil
}

// futexError says ErrFault where the word's page is gone, ErrForked where it never was.
func futexError(step string, errno unix.Errno) error {
	if errno == unix.EFAULT && Forked() {
		return fmt.Errorf("futex %s: %w", step, ErrForked)
	}
	if errno == unix.EFAULT {
		return fmt.Errorf("futex %s: %w", step, ErrFault)
	}
	return fmt.Errorf("futex %s: %w", step, error(errno))
}
