package main

import "math/rand/v2"

const (
	longest   = 1 << 20 // keys of a stream
	hotKeys   = 1024
	zipfTheta = 0.99
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
	entries int
	length  int // of each stream
	seed    uint64
	salt    uint64
	made    map[string]stream
}

func newWorkload(entries int, seed, salt uint64) *workload {
	return &workload{entries: entries, length: min(longest, 4*entries), seed: seed, salt: salt, made: make(map[string]stream)}
}

func (w *workload) random(salt, purpose uint64) *rand.Rand {
	return rand.New(rand.NewPCG(w.seed, salt<<8|purpose))
}

// records returns every key once, in random order, with its value.
func (w *workload) records(purpose uint64) stream {
	return newRecords(shuffled(w.random(w.salt, purpose), w.entries))
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
	n := uint32(w.entries)
	anyKey := func() uint32 { return r.Uint32N(n) }
	switch name {
	case "uniform":
		return newStream(drawn(w.length, anyKey))
	case "records": // uniform, with values
		return newRecords(drawn(w.length, anyKey))
	case "absent":
		return newStream(drawn(w.length, func() uint32 { return n + r.Uint32N(n) }))
	case "hot":
		few := shuffled(r, w.entries)[:min(hotKeys, w.entries)]
		return newStream(drawn(w.length, func() uint32 { return few[r.IntN(len(few))] }))
	case "zipf":
		// Ranks are scattered alike in all processes: their favourites are the same.
		scattered := shuffled(w.random(0, forScatter), w.entries)
		z := newZipf(r, w.entries, zipfTheta)
		return newStream(drawn(w.length, func() uint32 { return scattered[z.next()] }))
	}
	panic("no stream " + name)
}
