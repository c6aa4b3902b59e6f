package table

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// EventKind is what an Event is about.
type EventKind int

// What happens in a domain.
const (
	Joined         EventKind = iota + 1 // a handle was opened
	Left                                // a handle was closed, or reaped before its death was seen
	Died                                // a handle's process is dead and not yet reaped
	FlagsChanged                        // a region's state flags changed
	Published                           // a segment can be attached
	Draining                            // a segment takes nothing new
	Retired                             // a segment can no longer be attached
	Destroyed                           // the domain is no more; the last event
	Reopened                            // a segment that was draining takes records again
	StewardChanged                      // another handle is the steward, or none
)

// String returns the kind's name.
func (k EventKind) String() string {
	names := []string{
		"joined", "left", "died", "flags", "published", "draining", "retired", "destroyed",
		"reopened", "steward",
	}
	if i := int(k) - 1; i >= 0 && i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("EventKind(%d)", int(k))
}

// Event is a difference between two looks at the domain.
type Event struct {
	Kind    EventKind
	Time    time.Time // of the look that found it
	Region  *Region   // for Joined to FlagsChanged; as it was last seen
	Entry   *Entry    // for Published to Retired, and Reopened; as it was last seen
	Steward *Holder   // for StewardChanged; nil if there is none
}

// watchInterval is how often a watcher looks though nobody rang: for the dead,
// who ring no bell.
const watchInterval = 200 * time.Millisecond

// Watch delivers what happens in the domain, first what is there already as
// Joined, Published and StewardChanged. A segment that is Retired was Published and
// Draining before, if only at the same look. It compares looks, so what came and went
// between two of them may be missed, and deaths, a steward's too, are found within
// 0.2 s. The channel is closed when ctx ends, at Close, after Destroyed and on
// ErrFault. The receiver may be as slow as it likes; any number of watchers may run.
func (t *Table) Watch(ctx context.Context) <-chan Event {
	wake, cancel := t.news.subscribe(nil)
	return t.watch(ctx, wake, cancel)
}

// watch looks whenever wake says so, and calls ended at its end.
func (t *reading) watch(ctx context.Context, wake <-chan struct{}, ended func()) <-chan Event {
	events := make(chan Event)
	ctx, stop := context.WithCancel(ctx)
	release := context.AfterFunc(t.stop, stop)
	go func() {
		defer close(events)
		defer stop()
		defer release()
		defer ended()
		timer := time.NewTicker(watchInterval)
		defer timer.Stop()
		before := view{}
		for ctx.Err() == nil {
			now, err := t.view()
			if err != nil {
				return // closed, or the file is gone from under us
			}
			for _, e := range before.changes(now) {
				select {
				case events <- e:
				case <-ctx.Done():
					return
				}
			}
			if now.destroyed {
				return
			}
			before = now
			select {
			case <-wake:
			case <-timer.C:
			case <-ctx.Done():
			}
		}
	}()
	return events
}

// view is one look at the domain.
type view struct {
	regions   map[Holder]Region
	entries   map[entryKey]Entry
	steward   Holder // if led
	led       bool
	destroyed bool
}

type entryKey struct {
	index      int
	generation uint32
}

func (t *reading) view() (view, error) {
	v := view{regions: map[Holder]Region{}, entries: map[entryKey]Entry{}}
	t.Present()
	err := t.use(func() error {
		v.destroyed = t.Destroyed()
		for i := range int(t.header.Regions) {
			if r, ok := t.readRegion(i); ok {
				v.regions[Holder{r.Index, r.Generation}] = r
			}
		}
		for i := range int(t.header.Entries) {
			if e, _, ok := t.readEntry(i); ok && e.State != StateCreating {
				v.entries[entryKey{e.Index, e.Generation}] = e
			}
		}
		v.steward, v.led = t.stewardNow()
		return nil
	})
	return v, err
}

// changes lists what makes the later view differ.
func (v view) changes(later view) (events []Event) {
	now := time.Now()
	region := func(kind EventKind, r Region) { events = append(events, Event{Kind: kind, Time: now, Region: &r}) }
	entry := func(kind EventKind, e Entry) { events = append(events, Event{Kind: kind, Time: now, Entry: &e}) }
	// stages tells all that an entry has gone through since it was in state old: there is
	// no other way to RETIRED.
	stages := func(old State, e Entry) {
		if old < StateActive && e.State >= StateActive {
			entry(Published, e)
		}
		if old < StateDraining && e.State >= StateDraining {
			entry(Draining, e)
		}
		if old < StateRetired && e.State == StateRetired {
			entry(Retired, e)
		}
	}
	for holder, old := range v.regions {
		if _, ok := later.regions[holder]; !ok && old.Alive {
			region(Left, old)
		}
	}
	for holder, r := range later.regions {
		old, ok := v.regions[holder]
		if !ok {
			region(Joined, r)
			old = Region{Alive: true, Flags: r.Flags}
		}
		if r.Flags != old.Flags {
			region(FlagsChanged, r)
		}
		if old.Alive && !r.Alive {
			region(Died, r)
		}
	}
	for key, old := range v.entries {
		if _, ok := later.entries[key]; !ok && old.State != StateRetired {
			state := old.State
			old.State = StateRetired
			stages(state, old)
		}
	}
	for key, e := range later.entries {
		old, seen := v.entries[key]
		if first := v.entries == nil; first && e.State == StateRetired {
			continue // it was before
		}
		if seen && old.State == StateDraining && e.State == StateOpen {
			entry(Reopened, e)
		}
		stages(old.State, e)
	}
	if later.led != v.led || later.steward != v.steward {
		changed := Event{Kind: StewardChanged, Time: now}
		if later.led {
			changed.Steward = &later.steward
		}
		events = append(events, changed)
	}
	if later.destroyed {
		events = append(events, Event{Kind: Destroyed, Time: now})
	}
	return events
}

// fan passes wake-ups on to everybody who waits for them in this handle.
type fan struct {
	c  chan struct{} // Table.C
	mu sync.Mutex    // guards subs
	// Each with what is called for a peer's ring, or nil if the channel is told of it.
	subs map[chan struct{}]func(reasons uint64)
}

func (f *fan) init() {
	f.c = make(chan struct{}, 1)
	f.subs = map[chan struct{}]func(reasons uint64){f.c: nil}
}

// wake leaves a wake-up for each; one not yet taken will do.
func (f *fan) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for sub := range f.subs {
		leave(sub)
	}
}

// rung is wake for a peer's ring, by the goroutine that heard it.
func (f *fan) rung(reasons uint64) {
	for _, call := range f.callers() {
		call(reasons)
	}
}

// callers leaves a wake-up for those who want no call, and returns the others' calls.
func (f *fan) callers() (calls []func(reasons uint64)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for sub, call := range f.subs {
		if call == nil {
			leave(sub)
		} else {
			calls = append(calls, call)
		}
	}
	return calls
}

func leave(sub chan<- struct{}) {
	select {
	case sub <- struct{}{}:
	default:
	}
}

func (f *fan) subscribe(call func(reasons uint64)) (c chan struct{}, cancel func()) {
	c = make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subs[c] = call
	return c, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.subs, c)
	}
}
