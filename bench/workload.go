package main

import (
	"iter"
	"math/rand/v2"
	"slices"
)

const (
	longest      = 1 << 20   // keys of a stream, if the cache has no more
	longestSets  = 256 << 20 // bytes of a stream's values
	blockSize    = 16 << 20  // bytes of values made at a time for filling
	hotKeys      = 1024
	zipfTheta    = 0.99
	evictedShare = 100 // one record of so many is evicted at a time
)

// purposes of random numbers; each has a sequence of its own, so that, for one, the
// order in which records are stored says nothing about which of them are popular.
const (
	forOrder = iota
	forWarmth
	forKeys
	forScatter
)

// workload makes the streams of one process, each when it is first asked for. The
// same seed and salt make the same streams.
type workload struct {
	shape
	length int // of each stream
	seed   uint64
	salt   uint64
	made   map[string]stream
}

func newWorkload(sh shape, seed, salt uint64) *workload {
	length := min(4*sh.Entries, max(longest, sh.Entries))
	return &workload{shape: sh, length: length, seed: seed, salt: salt, made: make(map[string]stream)}
}

func (w *workload) random(salt, purpose uint64) *rand.Rand {
	return rand.New(rand.NewPCG(w.seed, salt<<8|purpose))
}

// order returns every id once, in random order.
func (w *workload) order(purpose uint64) []uint32 {
	return shuffled(w.random(w.salt, purpose), w.Entries)
}

// records yields every key once, in random order, with its value: block by
// block, as all values at once may be more than the memory has room for.
func (w *workload) records(purpose uint64) iter.Seq[stream] {
	return func(yield func(stream) bool) {
		for ids := range slices.Chunk(w.order(purpose), max(window, blockSize/w.Value)) {
			if !yield(newRecords(ids, w.Value)) {
				return
			}
		}
	}
}

func (w *workload) keys(name string) stream {
	s, ok := w.made[name]
	if !ok {
		s = w.make(name)
		w.made[name] = s
	}
	return s
}

func (w *workload) make(name string) stream {
	r := w.random(w.salt, forKeys)
	n := uint32(w.Entries)
	anyKey := func() uint32 { return r.Uint32N(n) }
	keys := func(next func() uint32) stream { return newStream(drawn(w.length, next), w.Value) }
	switch name {
	case "uniform":
		return keys(anyKey)
	case "records": // uniform, with values
		return newRecords(drawn(min(w.length, longestSets/w.Value), anyKey), w.Value)
	case "kept": // uniform, but for as many as are evicted at a time, which are left to grow old
		old := n / evictedShare
		return keys(func() uint32 { return old + r.Uint32N(n-old) })
	case "absent":
		return keys(func() uint32 { return n + r.Uint32N(n) })
	case "hot":
		few := shuffled(r, w.Entries)[:min(hotKeys, w.Entries)]
		return keys(func() uint32 { return few[r.IntN(len(few))] })
	case "zipf":
		// Ranks are scattered alike in all processes: their favourites are the same.
		scattered := shuffled(w.random(0, forScatter), w.Entries)
		z := newZipf(r, w.Entries, zipfTheta)
		return keys(func() uint32 { return scattered[z.next()] })
	}
	panic("no stream " + name)
}
