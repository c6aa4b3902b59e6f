package shm

import "unsafe"

// Window is a bounds-checked view of a segment. Its base and length are
// multiples of 8. The zero Window is empty. It must not outlive its Segment:
// whoever uses one keeps the Segment reachable (see Segment.Catch).
type Window struct {
	base unsafe.Pointer
	size uint64
}

// Len returns the window's length in bytes.
func (w Window) Len() uint64 { return w.size }

// At overlays a struct of atomics on the window. Off must be a multiple of 8
// and the struct must lie inside; anything else is a bug of the caller, who has
// to check shared numbers first, and panics with an error that Catch turns into
// ErrBounds.
func At[T any](w Window, off uint64) *T {
	var t T
	if off&7 != 0 || off > w.size || w.size-off < uint64(unsafe.Sizeof(t)) {
		panic(errBounds)
	}
	return (*T)(unsafe.Add(w.base, off))
}

// Sub returns the part of w that starts at off and has n bytes, both multiples of 8.
func (w Window) Sub(off, n uint64) Window {
	if (off|n)&7 != 0 {
		panic(errBounds)
	}
	return Window{w.at(off, n), n}
}

// Prefetch asks for the cache line at off without waiting for it. It never
// faults; off outside the window is ignored.
func (w Window) Prefetch(off uint64) {
	if off < w.size {
		prefetch(unsafe.Add(w.base, off))
	}
}

// at returns the address of n bytes at off.
func (w Window) at(off, n uint64) unsafe.Pointer {
	if off > w.size || n > w.size-off {
		panic(errBounds)
	}
	return unsafe.Add(w.base, off)
}

// errBounds is what an access outside a window panics with. It carries no
// numbers, so that the checks are cheap enough to be inlined everywhere.
var errBounds error = boundsError{}

type boundsError struct{}

func (boundsError) Error() string { return "offset and length reach beyond the end, or are misaligned" }
