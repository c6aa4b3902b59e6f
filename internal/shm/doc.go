// Package shm maps shared memory and is the only home of unsafe: segments,
// bounds-checked windows over them, prefetching, futexes, and the conversion of
// memory faults into errors.
//
// The race detector does not look at mapped files, so a segment can also live
// on the Go heap; under the race detector, and on machines without total store
// order, bytes are copied with atomic word operations (copy_atomic.go).
package shm
