package flagstone

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/flagstone-shm/flagstone/slab"
)

// Move moves up to limit records of one slab that were not used within olderThan to
// another one, those unused for longest first, and returns how many. A limit of 0 or
// less moves none. It keeps value, expiry, tag and last use; olderThan is as exact as
// in Evict. Nothing is evicted in the target: where that is full the record stays where
// it is, the others are moved, and the error is ErrFull, or ErrTooLarge where the
// target's limits are smaller. Both slabs must be of this handle and not the same
// (ErrOptions); ErrRetired says that one is gone. Locks are taken one at a time, for at
// most 64 records, waiting until ctx ends (ErrBusy). It looks at every record of the
// source, as Evict does, and then costs about a Set for each that it moves, and a Delete
// more between caches.
//
// Between tiers of one cache nobody can tell: a lookup finds the record throughout,
// with its token. If this process dies, each record is in one of them. Between two
// caches it is copied, with a new token, in place of what is under its key there, and
// then removed where it was, so that who looks there first and then in the target does
// not miss it. If it was set or deleted there meanwhile, the copy is taken back, unless
// that was replaced too, or has itself replaced something: the target keeps a value then.
// A record of a namespace goes to the namespace of that name; what was in one before it
// was cleared goes for good, also if it is cleared while it is moved. After an error, or
// if this process dies, up to 64 records may be in both.
func (c *Cache) Move(ctx context.Context, from, to *Slab, olderThan time.Duration, limit int) (moved int, err error) {
	if from == nil || to == nil {
		return 0, fmt.Errorf("move: %w: no slab", ErrOptions)
	}
	switch {
	case from.cache.handle != c.handle || to.cache.handle != c.handle:
		err = fmt.Errorf("%w: the slabs are not both of this handle", ErrOptions)
	case c.domain.ReadOnly:
		err = ErrReadOnly
	case from.cache == to.cache:
		moved, err = from.moveWithin(ctx, to, c.cutoff(olderThan), limit)
	default:
		moved, err = from.moveOver(ctx, to, c.cutoff(olderThan), limit)
	}
	if err != nil {
		err = fmt.Errorf("move from slab %q to %q: %w", from.entry.Name, to.entry.Name, err)
	}
	return moved, err
}

// moveWithin is Move between tiers.
func (s *Slab) moveWithin(ctx context.Context, to *Slab, cutoff uint64, limit int) (moved int, err error) {
	err = s.cache.update(ctx, func(v *view) error {
		source, err := s.in(v)
		if err != nil {
			return err
		}
		target, err := to.in(v)
		if err != nil {
			return err
		}
		n, err := v.slab.Move(ctx, source, target, cutoff, limit-moved)
		moved += n
		return err
	})
	return moved, err
}

// moveOver is Move between caches.
func (s *Slab) moveOver(ctx context.Context, to *Slab, cutoff uint64, limit int) (moved int, err error) {
	carrier := carrier{from: s.cache, to: to}
	err = s.cache.update(ctx, func(v *view) error {
		source, err := s.in(v)
		if err != nil {
			return err
		}
		return v.slab.Aged(ctx, source, cutoff, limit-moved, func(pairs []slab.Pair) error {
			n, err := carrier.carry(ctx, pairs)
			moved += n
			return err
		})
	})
	return moved, errors.Join(err, carrier.stayed.full, carrier.stayed.large)
}

// carrier takes records from one cache to a slab of another.
type carrier struct {
	from   *Cache
	to     *Slab
	names  map[uint64][]byte // of the namespaces of from, by id; nil of those cleared
	stayed refusals
}

// load is a record on its way.
type load struct {
	pair  slab.Pair
	there slab.Name // how it is called in the target
}

// carry moves the records, of which the versions say whether they are still the same.
// PROTOCOL.md, "Moves between stacks".
func (c *carrier) carry(ctx context.Context, pairs []slab.Pair) (moved int, err error) {
	loads, err := c.scoped(ctx, pairs)
	if err != nil {
		return 0, err
	}
	// 1. Copy.
	copies := make([]slab.Insertion, len(loads))
	for i, l := range loads {
		copies[i] = slab.Insertion{Item: l.pair.Item, LastUse: l.pair.LastUse, Replace: true, AllStay: true}
	}
	err = c.to.cache.update(ctx, func(v *view) error {
		target, err := c.to.in(v)
		if err != nil {
			return err
		}
		for i := range copies {
			copies[i].Key = v.slab.KeyOf(loads[i].there)
		}
		return v.slab.Insert(ctx, target, copies)
	})
	if err != nil {
		return 0, err
	}
	// 2. Remove where they were. What has been cleared by now is not to be in the target.
	keeps := map[uint64]bool{0: true}
	for _, l := range loads {
		if _, known := keeps[l.pair.Scope]; !known {
			if _, keeps[l.pair.Scope], err = c.namespace(ctx, l.pair.Scope); err != nil {
				return 0, err
			}
		}
	}
	var olds []slab.Withdrawal
	var stored []int
	for i := range copies {
		c.stayed.add(copies[i].Err)
		if copies[i].Settled {
			stored = append(stored, i)
			olds = append(olds, slab.Withdrawal{Key: c.from.keyOf(loads[i].pair.Name), Version: loads[i].pair.Version})
		}
	}
	err = c.from.withdraw(ctx, olds)
	// 3. Take back what has changed there since: it stays where it was. In the place of
	// another record it stays, or the target would have lost that one for nothing.
	var back []slab.Withdrawal
	for n, i := range stored {
		cleared := !keeps[loads[i].pair.Scope]
		switch {
		case cleared, olds[n].Settled && !olds[n].Removed && !copies[i].Replaced:
			back = append(back, slab.Withdrawal{Key: copies[i].Key, Version: copies[i].Item.Version})
		case olds[n].Removed:
			moved++
		}
	}
	return moved, errors.Join(err, c.to.cache.withdraw(ctx, back))
}

// scoped finds the namespaces of the target for records that are in one. What was in
// one that has been cleared is removed.
func (c *carrier) scoped(ctx context.Context, pairs []slab.Pair) (loads []load, err error) {
	var cleared []slab.Withdrawal
	type target struct {
		id   uint64
		keep bool
		err  error // ErrFull: there is no room for the id
	}
	targets := map[uint64]target{0: {keep: true}} // anew for each batch: either may be cleared meanwhile
	for _, p := range pairs {
		to, known := targets[p.Scope]
		if !known {
			var name []byte
			name, to.keep, to.err = c.namespace(ctx, p.Scope)
			if to.keep && to.err == nil {
				to.id, to.err = c.to.cache.idOf(ctx, name, true)
			}
			targets[p.Scope] = to
		}
		switch c.stayed.add(to.err); {
		case errors.Is(to.err, ErrFull):
		case to.err != nil:
			return nil, to.err
		case !to.keep:
			cleared = append(cleared, slab.Withdrawal{Key: c.from.keyOf(p.Name), Version: p.Version})
		default:
			there := p.Name
			there.Scope = to.id
			loads = append(loads, load{p, there})
		}
	}
	return loads, c.from.withdraw(ctx, cleared)
}

// namespace returns the name of the source's namespace with that id, which the caller
// has just seen in a record: if there is none, there never will be. Names are known
// from one look at all of the source; that the id is still that name's is asked anew.
func (c *carrier) namespace(ctx context.Context, id uint64) (name []byte, ok bool, err error) {
	name, known := c.names[id]
	if !known {
		err = c.from.update(ctx, func(v *view) (err error) {
			c.names, err = v.slab.Namespaces(ctx)
			return err
		})
		if err != nil {
			return nil, false, err
		}
		name = c.names[id]
	}
	if name != nil {
		now, err := c.from.idOf(ctx, name, false)
		if err != nil {
			return nil, false, err
		}
		if now != id { // cleared
			name = nil
		}
	}
	c.names[id] = name
	return name, name != nil, nil
}

// idOf returns the id of the namespace of that name, 0 if it has none. With create it
// gets one.
func (c *Cache) idOf(ctx context.Context, name []byte, create bool) (id uint64, err error) {
	n := c.Namespace(string(name))
	err = c.update(ctx, func(v *view) error {
		b, ok, err := n.prefix(ctx, v, nil, create)
		if ok && err == nil {
			id = binary.LittleEndian.Uint64(b)
		}
		return err
	})
	return id, err
}

// keyOf returns the slab's key for a record that is called so.
func (c *Cache) keyOf(n slab.Name) slab.Key { return c.view.Load().slab.KeyOf(n) }

// withdraw removes the records that are still of their version.
func (c *Cache) withdraw(ctx context.Context, records []slab.Withdrawal) error {
	if len(records) == 0 {
		return nil
	}
	return c.update(ctx, func(v *view) error { return v.slab.Withdraw(ctx, records) })
}
