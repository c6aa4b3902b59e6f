//go:build !linux

package shm

import (
	"os"
	"runtime"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// Create, OpenFile, OpenReadOnly, CheckFileSystem, CheckMapping, Room, Reserve, Release,
// Map and MapReadOnly return ErrUnsupported on this system.
func Create(*os.File, string, uint64, os.FileMode) (*Segment, *os.File, error) {
	return nil, nil, ErrUnsupported
}

func OpenFile(*os.File, string, bool, os.FileMode) (*os.File, error) { return nil, ErrUnsupported }

func OpenReadOnly(*os.File, string) (*os.File, error) { return nil, ErrUnsupported }

func CheckFileSystem(*os.File) (bool, error) { return false, ErrUnsupported }

func CheckMapping(*os.File, *os.File) error { return ErrUnsupported }

func Room(*os.File, uint64) error { return ErrUnsupported }

func Reserve(*os.File, uint64) error { return ErrUnsupported }

func Release(*os.File, uint64) error { return ErrUnsupported }

func Map(*os.File, uint64) (*Segment, error) { return nil, ErrUnsupported }

func MapReadOnly(*os.File, uint64) (*Segment, error) { return nil, ErrUnsupported }

// Forked reports false: nothing is shared.
func Forked() bool { return false }

// NotForked returns ErrUnsupported on this system.
func NotForked() error { return ErrUnsupported }

// clear has nothing to do: without files no segment is mapped.
func (*Segment) clear() error { return nil }

// FutexWait waits a moment, as it may: the caller looks again. Segments are of one
// process here, whose goroutines queue in front of a lock's words.
func FutexWait(addr *layout.Uint32, seen uint32, timeout time.Duration) error {
	runtime.Gosched()
	if addr.Load() == seen {
		time.Sleep(min(timeout, time.Millisecond))
	}
	return nil
}

// FutexWake wakes nobody: waiters look by themselves.
func FutexWake(*layout.Uint32, int) error { return nil }
