package flagstone

import (
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// observer is a domain looked at without a region. It keeps its own time, by
// which it judges what has expired: the domain's words may stand still. PROTOCOL.md,
// "Regions".
type observer struct {
	*table.Reader
	clocks               // above the Reader's, being less deep
	never  layout.Uint64 // the time at which lookups stamp what they find: 0, so they do not
}

// observe opens a cache without becoming a part of it.
func observe(name string, o Options) (*Cache, error) {
	r, err := table.Inspect(table.Options{Dir: o.Dir, Name: name, Group: o.Group})
	if err != nil {
		return nil, err
	}
	w := &observer{Reader: r}
	w.set(o.Clock)
	return &Cache{handle: &handle{table: w, domain: slab.Domain{Wall: &w.wall, Now: &w.never, ReadOnly: true}, changesWord: r.Words().Changes}}, nil
}

// What only handles with a region do.

func (*observer) Acknowledge(uint64) {}
func (*observer) Detach(uint64)      {}
func (*observer) Count(int, uint64)  {}
func (*observer) Reap() (int, error) { return 0, nil }
