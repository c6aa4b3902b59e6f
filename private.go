package flagstone

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// private is a domain of one handle, on the heap. It also owns the slab's locks;
// only goroutines of this process contend for them, in front of their words.
type private struct {
	clocks
	name     string
	geometry table.Geometry
	identity slab.Identity
	entry    table.Entry
	segment  *shm.Segment // until Attach
	joined   time.Time
	counters [32]atomic.Uint64

	stop   context.Context // ends at Close
	cancel context.CancelFunc
}

// largestHeap is beyond what a process can have, and within what Go can be asked for.
const largestHeap = 1 << 40

// openPrivate makes a cache that nobody else can see.
func openPrivate(name string, o Options, g slab.Geometry) (*Cache, error) {
	geometry, err := table.Plan(table.Options{Regions: o.Regions})
	if err != nil {
		return nil, err
	}
	if g.FileSize() > largestHeap {
		return nil, fmt.Errorf("%w: %d bytes of heap", ErrNoSpace, g.FileSize())
	}
	p := &private{
		name: name, geometry: geometry, segment: shm.Heap(g.FileSize()), joined: time.Now(),
		identity: slab.Identity{SegmentID: 1, Domain: [2]uint64{rand.Uint64(), rand.Uint64()}, HashSeed: rand.Uint64()},
		entry:    table.Entry{State: table.StateOpen, Kind: table.KindSlab, SegmentID: 1, Stack: 1, Size: g.FileSize(), Name: primary},
	}
	p.set(o.Clock)
	p.stop, p.cancel = context.WithCancel(context.Background())
	if err := slab.Format(p.segment, g, p.identity, p.Wall()); err != nil {
		return nil, err
	}
	return &Cache{handle: &handle{table: p, domain: p.domain()}}, nil
}

func (p *private) domain() slab.Domain {
	return slab.Domain{Owner: p, Wall: &p.wall, Now: &p.now}
}

// bury puts a closed slab in the place of the view's, whose memory nothing can
// take from under a lookup and which goes when nobody looks any more. The caller
// holds refreshing.
func (p *private) bury(c *Cache) error {
	g, err := slab.Plan(slab.Options{Entries: 1, MaxKey: 8, MaxValue: 8, Shards: 1})
	if err != nil {
		return err
	}
	seg := shm.Heap(g.FileSize())
	if err := slab.Format(seg, g, p.identity, p.Wall()); err != nil {
		return err
	}
	empty, err := slab.Open(seg, p.domain(), p.identity)
	if err != nil {
		return err
	}
	c.view.Store(&view{changes: p.Changes(), slab: empty.Stack, tiers: []tier{{p.entry, empty}}})
	return empty.Close()
}

func (p *private) Token() uint64    { return lock.Token(0, 1) }
func (p *private) Dead(uint64) bool { return true } // there is no other owner
// Ask has nobody to ask.
func (*private) Ask(uint64) {}

func (p *private) Name() string             { return p.name }
func (p *private) UUID() [2]uint64          { return p.identity.Domain }
func (p *private) HashSeed() uint64         { return p.identity.HashSeed }
func (p *private) Geometry() table.Geometry { return p.geometry }

func (p *private) Present() bool { return true }

func (p *private) Usable() error {
	if p.stop.Err() != nil {
		return ErrClosed
	}
	return nil
}
func (p *private) Changes() uint64        { return 1 } // the directory never changes
func (p *private) Acknowledge(uint64)     {}
func (p *private) Entries() []table.Entry { return []table.Entry{p.entry} }

// Attach hands the slab's memory over, which is not kept here.
func (p *private) Attach(table.Entry) (seg *shm.Segment, err error) {
	seg, p.segment = p.segment, nil
	return seg, nil
}
func (p *private) Detach(uint64)                        {}
func (p *private) Retired(table.Entry) bool             { return false }
func (p *private) StateWord(table.Entry) *layout.Uint64 { return nil } // tier 0 is all there is

func (p *private) Regions() []table.Region {
	return []table.Region{{
		Generation: 1, Alive: true, Self: true, Pid: uint32(os.Getpid()), UID: uint32(os.Getuid()),
		Wake: "poll", Joined: p.joined, Mapped: []uint64{p.entry.SegmentID}, Counters: p.Totals(),
	}}
}

func (p *private) Count(counter int, value uint64) { p.counters[counter].Store(value) }

func (p *private) Totals() (all [32]uint64) {
	for n := range all {
		all[n] = p.counters[n].Load()
	}
	return all
}

func (p *private) Reap() (int, error) { return 0, nil }

// Watch has nothing to tell.
func (p *private) Watch(ctx context.Context) <-chan table.Event {
	events := make(chan table.Event)
	ctx, cancel := context.WithCancel(ctx)
	release := context.AfterFunc(p.stop, cancel)
	context.AfterFunc(ctx, func() { release(); cancel(); close(events) })
	return events
}

func (p *private) Close() error {
	p.cancel()
	return nil
}
