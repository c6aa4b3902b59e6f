package demo

import (
	"context"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/table"
)

// witness watches the directory for a slab below the first, and notes after which
// moment it was published, began to drain, and was retired: that of the last look that
// did not show it. So what is counted from there is an upper bound; it is close where
// the witness is not kept from the processor.
type witness struct {
	mu     sync.Mutex // guards seen
	seen   life
	before int64 // when the last look began
}

// life is when things happened to a slab; see now. 0: not yet.
type life struct {
	Entry     table.Entry `json:"-"`
	Published int64       `json:"published"`
	Draining  int64       `json:"draining"`
	Retired   int64       `json:"retired"`
}

func (w *witness) life() life {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// run watches until the slab is retired, or ctx ends.
func (w *witness) run(ctx context.Context, t *table.Table) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for ctx.Err() == nil {
		imminent := w.look(t)
		if w.life().Retired != 0 {
			return
		}
		if !imminent {
			pause := unix.NsecToTimespec(100_000)
			_ = unix.Nanosleep(&pause, nil) // a short one does not matter
		}
	}
}

// look notes what has changed, and reports whether a slab is being made.
func (w *witness) look(t *table.Table) (imminent bool) {
	began := now()
	var below *table.Entry
	for _, e := range t.Entries() {
		imminent = imminent || e.State == table.StateCreating
		if e.Kind == table.KindSlab && e.Tier > 0 && e.State != table.StateCreating {
			below = &e
		}
	}
	at := w.before
	w.before = began
	w.mu.Lock()
	defer w.mu.Unlock()
	set := func(when *int64, is bool) {
		if is && *when == 0 {
			*when = at
		}
	}
	if below != nil {
		w.seen.Entry = *below
		set(&w.seen.Published, below.State.Published())
		set(&w.seen.Draining, below.State >= table.StateDraining)
	}
	set(&w.seen.Retired, w.seen.Published != 0 && (below == nil || below.State == table.StateRetired))
	return imminent
}
