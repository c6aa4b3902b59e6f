//go:build steps

package layout

import (
	"sync/atomic"

	"github.com/flagstone-shm/flagstone/internal/step"
)

// Uint64 is a word of memory that processes share; each store to it is a step.
type Uint64 struct{ word atomic.Uint64 }

// Load is the word's.
func (w *Uint64) Load() uint64 { return w.word.Load() }

// Store is the word's, after its step.
func (w *Uint64) Store(v uint64) { step.Here(); w.word.Store(v) }

// Add is the word's, after its step.
func (w *Uint64) Add(d uint64) uint64 { step.Here(); return w.word.Add(d) }

// And is the word's, after its step.
func (w *Uint64) And(v uint64) uint64 { step.Here(); return w.word.And(v) }

// Or is the word's, after its step.
func (w *Uint64) Or(v uint64) uint64 { step.Here(); return w.word.Or(v) }

// Swap is the word's, after its step.
func (w *Uint64) Swap(v uint64) uint64 { step.Here(); return w.word.Swap(v) }

// CompareAndSwap is the word's, after its step.
func (w *Uint64) CompareAndSwap(old, v uint64) bool {
	step.Here()
	return w.word.CompareAndSwap(old, v)
}

// Uint32 is a word of memory that processes share; each store to it is a step.
type Uint32 struct{ word atomic.Uint32 }

// Load is the word's.
func (w *Uint32) Load() uint32 { return w.word.Load() }

// Store is the word's, after its step.
func (w *Uint32) Store(v uint32) { step.Here(); w.word.Store(v) }

// Add is the word's, after its step.
func (w *Uint32) Add(d uint32) uint32 { step.Here(); return w.word.Add(d) }

// And is the word's, after its step.
func (w *Uint32) And(v uint32) uint32 { step.Here(); return w.word.And(v) }

// Or is the word's, after its step.
func (w *Uint32) Or(v uint32) uint32 { step.Here(); return w.word.Or(v) }

// Swap is the word's, after its step.
func (w *Uint32) Swap(v uint32) uint32 { step.Here(); return w.word.Swap(v) }

// CompareAndSwap is the word's, after its step.
func (w *Uint32) CompareAndSwap(old, v uint32) bool {
	step.Here()
	return w.word.CompareAndSwap(old, v)
}
