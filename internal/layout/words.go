//go:build !steps

package layout

import "sync/atomic"

// Uint64 and Uint32 are the words of memory that processes share.
type (
	Uint64 = atomic.Uint64
	Uint32 = atomic.Uint32
)
