package flagstone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// Slab is one slab of a domain: a tier of a cache, or an independent one, which is a
// cache of its own. Its operations on keys are those of the cache that it belongs to:
// they mean the same whichever tier holds the key. All methods may be called
// concurrently.
type Slab struct {
	scope
	entry table.Entry
}

// Name returns the name it was given when it was made.
func (s *Slab) Name() string { return s.entry.Name }

// ID returns its segment id, by which the directory and events name it.
func (s *Slab) ID() uint64 { return s.entry.SegmentID }

// Tier returns its place in the order of the search; 0 is the first.
func (s *Slab) Tier() int { return int(s.entry.Tier) }

// Cache returns the cache that the slab belongs to, for all that is not about one slab:
// namespaces, Len, Stats, Clear, Grow of tiers below. Of an independent slab it is one
// of its own, whose Close closes the slab for all of this handle, and whose Stats count
// in Own what was done there.
func (s *Slab) Cache() *Cache { return s.cache }

// Close gives back what this handle has mapped of an independent slab, once all that
// have opened it have closed it: as in Cache.Close for this slab alone. Others notice
// nothing; the slab stays. A tier is closed with its cache. Further calls do nothing.
func (s *Slab) Close() error { return s.cache.leave(s) }

// Tiers returns the slabs of the cache in the order of the search, those that are being
// drained too. ErrUnattached says that this process has not got all of them; it comes
// with the others.
func (c *Cache) Tiers() ([]*Slab, error) {
	v, err := c.fresh()
	if err != nil {
		return nil, err
	}
	var all []*Slab
	for _, t := range v.tiers {
		all = append(all, &Slab{scope{cache: c}, t.entry})
	}
	return all, v.slab.Missing
}

// CreateSlab makes an independent slab, and opens it: a cache of its own in the same
// domain, which lookups of this one do not look into. What is zero in shape is as in
// Options. The name is 1 to 32 bytes, not ending in zero, and not "primary". The memory
// is reserved at once.
//
// It returns ErrSlabExists if there is an independent slab of that name, ErrOptions for a
// name or a shape that cannot be, ErrNoSpace, with nothing made, if the file system has
// no room, table.ErrNoEntry if the directory is full, ErrReadOnly, and ErrUnsupported in
// a Private cache. It waits for others that make slabs, and for first openers, until ctx
// ends (ErrBusy). If this process dies inside, others take back what it had made, or,
// if that was to be seen already, find it there.
func (c *Cache) CreateSlab(ctx context.Context, name string, shape Shape) (*Slab, error) {
	s, err := c.createSlab(ctx, name, shape)
	if err != nil {
		return nil, fmt.Errorf("create slab %q in %s: %w", name, c.table.Name(), err)
	}
	return s, nil
}

func (c *Cache) createSlab(ctx context.Context, name string, shape Shape) (*Slab, error) {
	if err := checkSlabName(name); err != nil {
		return nil, err
	}
	if c.control == nil {
		return nil, c.alone()
	}
	g, err := slab.Plan(shape.slab())
	if err != nil {
		return nil, err
	}
	var e table.Entry
	err = c.control.Exclusive(ctx, func() error {
		if e, taken := c.independent(name); taken {
			return fmt.Errorf("%w: segment %016x", ErrSlabExists, e.SegmentID)
		}
		e, err = c.create(name, 0, 0, g)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.finishRetirements(ctx)
	return c.openSlab(e, e)
}

// checkSlabName refuses names that an independent slab cannot have.
func checkSlabName(name string) error {
	if name == "" || len(name) > layout.NameLength || name[len(name)-1] == 0 || name == primary {
		return fmt.Errorf("%w: name %q: need 1 to %d bytes, not ending in zero, and not %q", ErrOptions, name, layout.NameLength, primary)
	}
	return nil
}

// OpenSlab opens an independent slab that some process has made. All that a handle
// opens of one slab share what is mapped; each is to be closed. It returns ErrNoSlab
// if there is none of that name, or one that is being retired, and what keeps this process
// from mapping it: table.ErrTooManyMapped, the error of a system call, a *slab.FormatError.
// It waits for nobody.
func (c *Cache) OpenSlab(ctx context.Context, name string) (*Slab, error) {
	err := ctx.Err()
	if err == nil {
		err = c.table.Usable()
	}
	e, ok := c.independent(name)
	if err == nil && !ok {
		err = fmt.Errorf("%w: no independent one is called so", ErrNoSlab)
	}
	var s *Slab
	if err == nil {
		s, err = c.openSlab(e, e)
	}
	if err != nil {
		return nil, fmt.Errorf("open slab %q in %s: %w", name, c.table.Name(), err)
	}
	return s, nil
}

// openSlab opens a slab of the stack with that tier 0.
func (c *Cache) openSlab(e, top table.Entry) (*Slab, error) {
	s := &Slab{entry: e}
	of, err := c.handle.open(c, top, s)
	if err != nil {
		return nil, err
	}
	s.scope = scope{cache: of}
	return s, nil
}

// independent returns the slab that is called so, and is not being retired.
func (c *Cache) independent(name string) (table.Entry, bool) {
	for _, e := range c.table.Entries() {
		if isTop(&e) && e.Name == name && name != primary && e.State != table.StateDraining {
			return e, true
		}
	}
	return table.Entry{}, false
}

// isTop reports whether an entry is a published tier 0.
func isTop(e *table.Entry) bool {
	return e.Kind == table.KindSlab && e.Tier == 0 && e.Stack == e.SegmentID && e.State.Published()
}

// Retire takes an independent slab out of the domain, with its tiers and all records;
// the memory is given back. From then on operations on it return ErrRetired, in all
// processes: a key is not said to be missing because its slab is. It waits for those
// that make slabs, and for the slab's locks, until ctx ends (ErrBusy): then, as if this
// process had died inside, the slab takes and finds no more; another Retire, and the
// next CreateSlab in the domain, finish it. A tier is drained instead (ErrOptions).
func (s *Slab) Retire(ctx context.Context) error {
	err := s.retire(ctx)
	if err != nil {
		err = fmt.Errorf("retire slab %q: %w", s.entry.Name, err)
	}
	return err
}

func (s *Slab) retire(ctx context.Context) error {
	c := s.cache
	switch {
	case c.control == nil:
		return c.alone()
	case s.entry.Tier != 0 || c.slabName == primary:
		return fmt.Errorf("%w: it is a tier of a cache", ErrOptions)
	}
	// From the drain on nobody adds a tier, or writes: a writer sees that the directory
	// has changed, under the lock.
	err := c.control.Exclusive(ctx, func() error {
		_, err := c.control.Drain(s.entry)
		return err
	})
	if err != nil {
		return err
	}
	return c.dissolve(ctx)
}

// dissolve finishes the retirement of a stack whose tier 0 is draining. The records go
// first, under the locks, so that no lookup still copies one while its pages are given
// back; tier 0 is retired last, so that whoever dies here leaves it to be found.
// PROTOCOL.md, "Retiring a stack".
func (c *Cache) dissolve(ctx context.Context) error {
	v, err := c.fresh()
	if err != nil {
		return err
	}
	if errors.Is(v.slab.Missing, ErrUnattached) {
		return v.slab.Missing
	}
	if err := slab.NewStack(slab.StackOptions{}, v.slab.Tiers()...).Clear(ctx); err != nil {
		c.explain(&err)
		if errors.Is(err, ErrRetired) { // by another, who was quicker
			return nil
		}
		return err
	}
	for _, t := range slices.Backward(v.tiers) {
		drain, err := c.control.Drain(t.entry)
		if err == nil {
			err = c.control.Retire(drain)
		}
		if err != nil && !errors.Is(err, ErrRetired) { // by another, who was quicker
			return err
		}
	}
	c.follow(ByCall)
	return nil
}

// finishRetirements goes on with the independent slabs that somebody began to retire, who
// may be at it still, for a moment each: a slab that a stopped process holds up, or that
// this one cannot map, is left to the next.
func (c *Cache) finishRetirements(ctx context.Context) {
	for _, e := range c.table.Entries() {
		if !isTop(&e) || e.Name == primary || e.State != table.StateDraining {
			continue
		}
		s, err := c.openSlab(e, e)
		if err != nil {
			continue
		}
		brief, cancel := context.WithTimeout(ctx, finishing)
		_ = s.cache.dissolve(brief)
		cancel()
		_ = s.Close()
	}
}

// finishing is how long a retirement that another began is gone on with at a time.
const finishing = 100 * time.Millisecond

// Drain moves every record of the slab to other tiers and retires it: its memory is
// given back. What has expired goes; nothing else does. If there is no room elsewhere, or
// the limits of all others are smaller, it moves what it can, returns ErrFull or
// ErrTooLarge, and the slab takes records again. On other errors, ErrBusy when ctx ends,
// and if this process dies, it stays draining: it is read, takes no records, and anybody,
// a steward too, may go on or open it again. Moved is what this call has moved, errors or
// not. The first slab stays (ErrOptions): Destroy removes the cache, Retire an independent slab. ErrRetired says that it is gone,
// ErrState that somebody has opened it again meanwhile. It locks a shard for at most 64
// records at a time; about a Set for each.
func (s *Slab) Drain(ctx context.Context) (moved int, err error) {
	switch {
	case s.cache.control == nil:
		err = s.cache.alone()
	case s.entry.Tier == 0:
		err = fmt.Errorf("%w: it is tier 0, and the first slab stays: Destroy removes a cache, Retire an independent slab", ErrOptions)
	default:
		moved, err = s.cache.drain(ctx, s.entry, 0)
	}
	if err != nil {
		err = fmt.Errorf("drain slab %q: %w", s.entry.Name, err)
	}
	return moved, err
}
