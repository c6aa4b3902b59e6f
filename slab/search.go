package slab

import (
	"runtime"
	"runtime/debug"
	"sync"
)

// Search is how lookups go about a stack of several tiers. The answer is that of the
// tiers one after the other in any case; what differs is when the memory of the lower
// ones is asked for.
type Search uint8

const (
	// Interleaved asks for the first cache line of the key in all tiers before it
	// waits for any. The default.
	Interleaved Search = iota
	// InOrder asks for a tier's memory when the tiers above have turned out not to
	// have the key.
	InOrder
	// Parallel has Workers ask for bucket and record in the tiers below.
	Parallel
)

// prepare sets what the search needs.
func (st *Stack) prepare() {
	st.ahead = st.Reads > 1 && (st.Search == Interleaved || st.Search == Parallel && st.Workers != nil)
}

// ask asks for a key's memory in the tiers below.
func (st *Stack) ask(hash uint64) {
	for i := 1; i < st.Reads; i++ {
		sh := &st.tiers[i].shards[hash&uint64(len(st.shards)-1)]
		if st.Search == Interleaved {
			sh.finder.PrefetchBucket(hash)
			continue
		}
		select {
		case st.Workers.work <- seek{sh, hash}:
		default: // all are busy
		}
	}
}

// seek is a key to ask for in a shard.
type seek struct {
	sh   *shard
	hash uint64
}

// Workers are goroutines that ask for memory on behalf of others.
type Workers struct {
	work chan seek
	stop chan struct{}
	done sync.WaitGroup
}

// NewWorkers starts n workers, to be stopped with Close.
func NewWorkers(n int) *Workers {
	w := &Workers{work: make(chan seek, n), stop: make(chan struct{})}
	for range n {
		w.done.Go(w.run)
	}
	return w
}

// Close stops them. Stacks that still have them find all busy.
func (w *Workers) Close() {
	close(w.stop)
	w.done.Wait()
}

func (w *Workers) run() {
	debug.SetPanicOnFault(true)
	for {
		select {
		case s := <-w.work:
			s.ask()
		case <-w.stop:
			return
		}
	}
}

// ask brings the bucket and the record that it names nearer to all processors.
func (s seek) ask() {
	defer func() { _ = recover() }() // a fault: who asked meets it too
	s.sh.finder.PrefetchBucket(s.hash)
	s.sh.finder.PrefetchRecord(s.hash)
	runtime.KeepAlive(s.sh.slab)
}
