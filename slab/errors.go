package slab

import (
	"errors"

	"github.com/flagstone-shm/flagstone/internal/format"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
)

var (
	// ErrFull says that the key's shard has no room and the slab's policy is to
	// refuse. Replacing a record by one that needs no more cells always works.
	ErrFull = errors.New("slab is full")
	// ErrKeyTooLong says that a key is longer than the slab was made for.
	ErrKeyTooLong = errors.New("key too long")
	// ErrValueTooLong says that a value is longer than the slab was made for.
	ErrValueTooLong = errors.New("value too long")
	// ErrNotCounter says that a value is not 8 bytes long, as a counter has to be.
	ErrNotCounter = errors.New("value is not a counter")
	// ErrOverflow says that a counter would leave the range of 64-bit integers.
	ErrOverflow = errors.New("counter overflow")
	// ErrClaimLost says that a claim ended before it was filled: its deadline
	// passed and another took it over, its key was set or deleted, or it was evicted.
	ErrClaimLost = errors.New("claim was lost")
	// ErrCorrupt says that shared words contradict each other and a rebuild did
	// not help, as when another process keeps overwriting them.
	ErrCorrupt = errors.New("slab is corrupt")
	// ErrStale says that the directory has changed since the stack was made: look
	// again with a new one. What was done before that was seen is returned with it.
	ErrStale = errors.New("view of the directory is stale")
	// ErrShape says that a slab cannot be a tier of a stack, whose number of shards it
	// has to have.
	ErrShape = errors.New("slab does not fit the stack")
	// ErrTier says that a slab is a tier below others and is used through its stack.
	ErrTier = errors.New("slab is a tier of a stack")
	// ErrNotInStack says that a slab is none of the stack's tiers.
	ErrNotInStack = errors.New("no tier of the stack")
	// ErrTooLarge says that the limits of the slab that a record was to be moved to
	// are smaller. The record stays where it is.
	ErrTooLarge = errors.New("record too large for the slab")
	// ErrReadOnly says that a handle only looks, at memory mapped for reading.
	ErrReadOnly = errors.New("opened for reading only")
	// ErrOptions says that no slab can be made from the options.
	ErrOptions = format.ErrOptions

	// ErrBusy says that a wait ended with its context, or that a lookup could
	// neither succeed nor be sure of a miss within its bound.
	ErrBusy = lock.ErrBusy
	// ErrClosed says that the handle was closed.
	ErrClosed = lock.ErrClosed
	// ErrLost says that this process was taken for dead; see lock.ErrLost.
	ErrLost = lock.ErrLost
	// ErrForked says that the slab is that of the process that this one was forked from.
	ErrForked = shm.ErrForked
	// ErrFault says that the kernel refused an access: the file was truncated.
	ErrFault = shm.ErrFault
)

// FormatError says which field of a file made it refused, and both values.
type FormatError = format.Error
