package flagstone

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// handle is a place in a domain: one region, one pulse. The caches of one Open share
// it: that of the domain's primary slab, and one for each independent slab.
type handle struct {
	pulse       pulse
	steward     steward
	table       host
	control     *table.Table // nil unless this handle has a region: then it is the host
	domain      slab.Domain
	changesWord *layout.Uint64
	onEvent     func(Event)
	loadTimeout time.Duration

	// Guards the next four. It is held while a stack is opened or closed, as the locks
	// of a slab must not have two ends in one handle: one would rob the other.
	opening sync.Mutex
	closed  bool              // no more are opened
	caches  map[uint64]*Cache // by the segment id of tier 0
	users   map[*Slab]*Cache  // who still uses the caches of independent slabs
	left    Counters          // of those that were closed

	dismissed sync.WaitGroup // those that close slabs
}

// forked returns ErrForked in a child of the process that opened the handle. It comes
// before all locks, which threads that the child has not may hold.
func (h *handle) forked() error {
	if _, alone := h.table.(*private); !alone && shm.Forked() {
		return ErrForked
	}
	return nil
}

// open returns the cache of a stack, used by s, and opens it if this handle has not
// yet. Of is one of the handle's caches, whose options it shares.
func (h *handle) open(of *Cache, top table.Entry, s *Slab) (*Cache, error) {
	h.opening.Lock()
	defer h.opening.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	c := h.caches[top.SegmentID]
	if c == nil {
		c = &Cache{handle: h, slabName: top.Name, stackOptions: of.stackOptions, stack: top.SegmentID}
		c.scope.cache = c
		c.close = sync.OnceValue(func() error { return h.shutOne(c) })
		switch err := c.refresh(nil, ByCall); {
		case errors.Is(err, ErrNotFound):
			return nil, fmt.Errorf("%w: slab %q, %016x", ErrRetired, top.Name, top.SegmentID)
		case errors.Is(err, ErrRetired), errors.Is(err, ErrClosed), errors.Is(err, ErrDestroyed):
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("%w: slab %q: %w", ErrUnattached, top.Name, err)
		}
		h.caches[top.SegmentID] = c
	}
	if h.users == nil {
		h.users = map[*Slab]*Cache{}
	}
	if c.slabName != primary {
		h.users[s] = c
	}
	return c, nil
}

// leave closes the slab's cache if nobody uses it any more.
func (h *handle) leave(s *Slab) error {
	if h.forked() != nil {
		return nil
	}
	h.opening.Lock()
	defer h.opening.Unlock()
	c, uses := h.users[s]
	delete(h.users, s)
	if !uses || slices.Contains(slices.Collect(maps.Values(h.users)), c) {
		return nil
	}
	return h.shut(c)
}

// shutOne closes an independent slab's cache.
func (h *handle) shutOne(c *Cache) error {
	h.opening.Lock()
	defer h.opening.Unlock()
	return h.shut(c)
}

// shut closes an independent slab's cache, and keeps its figures. The caller holds
// opening.
func (h *handle) shut(c *Cache) error {
	if h.caches[c.stack] != c {
		return nil // it was retired, or closed before
	}
	delete(h.caches, c.stack)
	maps.DeleteFunc(h.users, func(_ *Slab, of *Cache) bool { return of == c })
	err := c.closeSlabs()
	for _, t := range c.view.Load().tiers {
		h.table.Detach(t.entry.SegmentID)
	}
	h.left.plus(c.own())
	return err
}

// closeOthers closes the caches of independent slabs.
func (h *handle) closeOthers(c *Cache) (err error) {
	h.opening.Lock()
	defer h.opening.Unlock()
	h.closed = true
	for _, o := range h.caches {
		if o != c {
			err = errors.Join(err, h.shut(o))
		}
	}
	return err
}

// all returns the caches that are open, and the figures of those that were.
func (h *handle) all() ([]*Cache, Counters) {
	h.opening.Lock()
	defer h.opening.Unlock()
	return slices.Collect(maps.Values(h.caches)), h.left
}

// follow makes the views new if the directory has changed.
func (h *handle) follow(how How) {
	if h.forked() != nil {
		return
	}
	changes := h.table.Changes()
	caches, _ := h.all()
	for _, c := range caches {
		if c.view.Load().changes != changes {
			c.follow(how)
		}
	}
}

// publishCounters lets the peers see this handle's figures in its region.
func (h *handle) publishCounters() {
	if h.forked() != nil {
		return
	}
	h.pulse.publishing.Lock()
	defer h.pulse.publishing.Unlock()
	caches, sum := h.all()
	for _, c := range caches {
		sum.plus(c.own())
	}
	for i, word := range sum.words() {
		h.table.Count(i, *word)
	}
}
