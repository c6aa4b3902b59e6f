package flagstone

import (
	"context"

	"github.com/flagstone-shm/flagstone/internal/clock"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/table"
)

// host is what surrounds a cache: other processes (*table.Table), others to look
// at only (observer), or nobody (private).
type host interface {
	Name() string
	UUID() [2]uint64
	HashSeed() uint64
	Geometry() table.Geometry

	// The directory, for views.
	Usable() error
	Present() bool
	Changes() uint64
	Acknowledge(changes uint64)
	Entries() []table.Entry
	Attach(table.Entry) (*shm.Segment, error)
	Detach(segment uint64)
	Retired(table.Entry) bool
	StateWord(table.Entry) *layout.Uint64

	// The clocks, as new as the last Tick.
	Wall() uint64
	Now() uint64
	Tick() (moved bool)

	// The handles.
	Regions() []table.Region
	Count(counter int, value uint64)
	Totals() [32]uint64
	Reap() (reaped int, err error)
	Watch(context.Context) <-chan table.Event
	Close() error
}

// clocks are the two clock words of a handle that shares none.
type clocks struct {
	source    table.Clock
	wall, now layout.Uint64
}

func (k *clocks) set(source table.Clock) {
	if k.source = source; source == nil {
		k.source = clock.System{}
	}
	k.Tick()
}

func (k *clocks) Wall() uint64 { return k.wall.Load() }
func (k *clocks) Now() uint64  { return k.now.Load() }

func (k *clocks) Tick() (moved bool) {
	wall, now := clock.Advance(&k.wall, k.source.Wall()), clock.Advance(&k.now, k.source.Monotonic()+1)
	return wall || now
}
