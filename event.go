package flagstone

import "github.com/flagstone-shm/flagstone/slab"

// EventKind is what an Event is about.
type EventKind int

// What OnEvent is told.
const (
	EventStolen       EventKind = iota + 1 // the lock of a shard was left by the dead, and this handle took it
	EventRebuilt                           // this handle rebuilt a shard
	EventCorrupt                           // that did not help: an operation returned ErrCorrupt
	EventUnstored                          // GetOrLoad returned a value that it could not store; Err says why
	EventSlabAdded                         // this handle attached a slab; How says how it heard of it
	EventSlabGone                          // a slab was retired, and this handle has let go of it
	EventUnattached                        // a slab could not be attached; Err says why
	EventSteward                           // this handle has become the steward
	EventResigned                          // it is the steward no more, as it is idle
	EventGrew                              // as steward it has added a slab
	EventNotGrown                          // it could not, though one is needed; Err says why: ErrBudget, ErrNoSpace
	EventDrained                           // it has retired a slab, after moving Count records elsewhere
	EventDrainStopped                      // it has opened a slab again that it drained: there is no room elsewhere, says Err, or, if that is nil, it is needed after all
	EventEvicted                           // a scheduled eviction has removed Count records
	EventSinkRefused                       // the Sink did not take what it was offered; Err says why
)

// String returns the kind's name.
func (k EventKind) String() string {
	names := []string{
		"stolen", "rebuilt", "corrupt", "unstored", "slab added", "slab gone", "unattached",
		"steward", "resigned", "grew", "not grown", "drained", "drain stopped", "evicted", "sink refused",
	}
	if k >= 1 && int(k) <= len(names) {
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
	Slab    string // EventSlabAdded, EventSlabGone, EventGrew to EventDrainStopped: its name
	SlabID  uint64 // and its segment id; EventSinkRefused too
	Tier    int    // and its tier
	How     How    // EventSlabAdded to EventUnattached: how this handle heard of it
	Count   int    // EventDrained, EventDrainStopped, EventEvicted: records moved or evicted
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
