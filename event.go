package flagstone

import "github.com/flagstone-shm/flagstone/slab"

// EventKind is what an Event is about.
type EventKind int

// What OnEvent is told.
const (
	EventStolen     EventKind = iota + 1 // the lock of a shard was left by the dead, and this handle took it
	EventRebuilt                         // this handle rebuilt a shard
	EventCorrupt                         // that did not help: an operation returned ErrCorrupt
	EventUnstored                        // GetOrLoad returned a value that it could not store; Err says why
	EventSlabAdded                       // this handle attached a slab; How says how it heard of it
	EventSlabGone                        // a slab was retired, and this handle has let go of it
	EventUnattached                      // a slab could not be attached; Err says why
)

// String returns the kind's name.
func (k EventKind) String() string {
	if names := []string{"stolen", "rebuilt", "corrupt", "unstored", "slab added", "slab gone", "unattached"}; k >= 1 && int(k) <= len(names) {
		return names[k-1]
	}
	return "unknown"
}

// Event is something out of the ordinary.
type Event struct {
	Kind    EventKind
	Shard   int    // EventStolen to EventCorrupt
	Dropped uint64 // EventRebuilt: damaged records that had to be given up
	Key     []byte // EventUnstored
	Err     error  // why; nil if there is no more to say
	Slab    string // EventSlabAdded, EventSlabGone: its name
	SlabID  uint64 // and its segment id
	Tier    int    // and its tier
	How     How    // how this handle heard of it
}

// notify passes a slab's event on.
func (h *handle) notify(e slab.Event) {
	kinds := map[slab.EventKind]EventKind{slab.Stolen: EventStolen, slab.Rebuilt: EventRebuilt, slab.Corrupt: EventCorrupt}
	h.tell(Event{Kind: kinds[e.Kind], Shard: e.Shard, Dropped: e.Dropped, Err: e.Err})
}

func (h *handle) tell(e Event) {
	if h.onEvent != nil {
		h.onEvent(e)
	}
}
