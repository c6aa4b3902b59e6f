package shm

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

var (
	// ErrFault says that the kernel refused an access to mapped memory: the file
	// was truncated under the mapping, or its file system ran out of pages.
	ErrFault = errors.New("memory fault in a mapped segment")
	// ErrBounds says that a check of a shared number was missing: a bug, reported
	// as an error because shared bytes never panic.
	ErrBounds = errors.New("access outside a window")
)

// Guard makes faults of the calling goroutine panic instead of killing the
// process. Its result goes to Catch:
//
//	defer seg.Catch(shm.Guard(), &err)
func Guard() bool { return debug.SetPanicOnFault(true) }

// Catch, deferred, undoes Guard, turns a fault inside this segment into
// ErrFault, or ErrForked in a forked child, and an access outside a window into ErrBounds, and keeps the
// segment's mapping alive until then. Other panics go on.
func (s *Segment) Catch(old bool, err *error) {
	s.Unguard(old)
	if r := recover(); r != nil {
		*err = s.Recovered(r)
	}
}

// Unguard and Recovered are the parts of Catch, for deferred functions that do
// more. Unguard keeps the mapping alive until then.
func (s *Segment) Unguard(old bool) {
	debug.SetPanicOnFault(old)
	runtime.KeepAlive(s)
}

// Recovered turns what recover returned into ErrFault, ErrForked or ErrBounds; what
// it does not know goes on as a panic.
func (s *Segment) Recovered(r any) error {
	switch e := r.(type) {
	case boundsError:
		return fmt.Errorf("%w: %w", ErrBounds, e)
	case interface {
		runtime.Error
		Addr() uintptr
	}:
		// Beside the caller's own memory guarded code reaches mappings only, perhaps
		// another one than this.
		if Forked() {
			return fmt.Errorf("%s: %w", s.name, ErrForked)
		}
		off := e.Addr() - uintptr(s.base)
		if uint64(off) < s.size {
			return fmt.Errorf("%s at offset %d of %d: %w", s.name, off, s.size, ErrFault)
		}
		return fmt.Errorf("beside %s: %w", s.name, ErrFault)
	}
	panic(r)
}
