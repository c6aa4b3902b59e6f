package shm

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"
)

var (
	// ErrNoSpace says that the file system has no room for a segment. Nothing was made.
	ErrNoSpace = errors.New("no room for a shared segment")
	// ErrNoMemory says that this process, or its control group, may not have so much
	// memory. Nothing was made.
	ErrNoMemory = errors.New("no more memory allowed")
	// ErrFileSystem says that processes cannot be sure to share memory and locks on a
	// file system.
	ErrFileSystem = errors.New("unsuitable file system")
	// ErrUnsafeFile says that a file is not what a segment has to be: a regular
	// file of this user, reached without a symbolic link.
	ErrUnsafeFile = errors.New("not a regular file of this user")
	// ErrForked says that a process was forked, without exec, by one that shares
	// memory: what that has opened is not for the child.
	ErrForked = errors.New("handle belongs to the process that this one was forked from")
	// ErrUnsupported says that this system has none of the calls by which processes
	// share segments.
	ErrUnsupported = fmt.Errorf("memory shared by processes, on other systems than Linux: %w", errors.ErrUnsupported)
)

// Segment is a mapped file, or memory of the Go heap that stands in for one.
type Segment struct {
	name   string
	base   unsafe.Pointer
	size   uint64
	heap   []uint64
	closed atomic.Bool
}

// Heap returns a segment on the Go heap, for one process alone and for tests under
// the race detector. Size is rounded up to a page. What is large the runtime takes
// from the system as zeros, so that pages count from their first use on.
func Heap(size uint64) *Segment {
	size = (size + 4095) &^ 4095
	// One line more than needed, so that the base can be aligned to a line.
	heap := make([]uint64, size/8+8)
	base := unsafe.Pointer(&heap[0])
	base = unsafe.Add(base, -uintptr(base)&63)
	return &Segment{name: "heap", base: base, size: size, heap: heap}
}

// Name returns the file's path as it was opened.
func (s *Segment) Name() string { return s.name }

// Forked reports whether the segment belongs to the process that this one was forked
// from. It costs a load and a branch.
func (s *Segment) Forked() bool { return Forked() && s.heap == nil }

// Window returns the whole segment.
func (s *Segment) Window() Window { return Window{s.base, s.size} }

// Bytes returns the whole segment as bytes, for applications that lay out their
// own. It must not be used after Close, and the segment must be kept reachable.
func (s *Segment) Bytes() []byte { return unsafe.Slice((*byte)(s.base), s.size) }

// Close gives the memory back at once without unmapping: zeros, read-only except in
// race builds, take its place, so that a reader that is still inside finds empty words instead of
// a fault. The address range goes when the segment is no longer reachable. Memory
// of the heap stays as it is, and in a forked child there is nothing to give back.
func (s *Segment) Close() error {
	if s.heap != nil || Forked() || s.closed.Swap(true) {
		return nil
	}
	return s.clear()
}
