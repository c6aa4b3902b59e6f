package flagstone

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/flagstone-shm/flagstone/slab"
)

// Loader computes the value of a key that is missing. Its context ends with the
// caller's, and when the claim does; it carries the key, so that a GetOrLoad of the
// same key inside is an error and not a wait for oneself. The value must not be
// changed afterwards. Beside an error the item's NegativeTTL counts.
type Loader func(ctx context.Context) (Item, error)

// GetOrLoad returns key's value. If there is none, load computes it, once for all
// processes and goroutines that ask at the same time: one calls load and stores
// what it returns, the others wait until ctx ends (ErrBusy). They get the value, or
// the error: as it is within the process, as a *LoadError in others. If an earlier
// value has expired within its StaleFor, all but the one that loads get that at
// once. If the loader dies, or takes longer than Options.LoadTimeout or its context,
// another one loads, and what the late one returns is not stored. So it is if the
// key is set or deleted meanwhile, or there is no room; the caller of that load
// gets its value all the same, and OnEvent is told. ErrNested says that load itself
// asks for the key. A hit costs as much as Get and one allocation.
func (s *scope) GetOrLoad(ctx context.Context, key []byte, load Loader) ([]byte, error) {
	return s.AppendOrLoad(ctx, nil, key, load)
}

// AppendOrLoad is GetOrLoad, appending the value to dst.
func (s *scope) AppendOrLoad(ctx context.Context, dst, key []byte, load Loader) ([]byte, error) {
	c := s.cache
	get := s.Get
	if s.name == nil {
		get = c.Get
	}
	if value, ok, err := get(dst, key); ok || err != nil && !errors.Is(err, ErrBusy) {
		return value, err
	}
	v, k, err := s.writable(ctx, key)
	if err != nil {
		return dst, err
	}
	l := &loading{cache: c, slab: v.slab, key: k, name: flightKey{string(s.name), s.name != nil, string(key)}, load: load}
	if l.nestedIn(ctx) {
		return dst, fmt.Errorf("%w: key %q", ErrNested, key)
	}
	return l.get(ctx, dst)
}

// loading is a GetOrLoad that missed.
type loading struct {
	cache *Cache
	slab  *slab.Slab
	key   slab.Key
	name  flightKey
	load  Loader
	outer *loading // whose load called this one
}

type loadingKey struct{}

// nestedIn reports whether ctx comes from a load of the same key, and links up.
func (l *loading) nestedIn(ctx context.Context) bool {
	l.outer, _ = ctx.Value(loadingKey{}).(*loading)
	for o := l.outer; o != nil; o = o.outer {
		if o.cache == l.cache && o.name == l.name {
			return true
		}
	}
	return false
}

// get finds the value, waits for it, or computes it. Of the goroutines of this
// handle one at a time goes on to the claim.
func (l *loading) get(ctx context.Context, dst []byte) ([]byte, error) {
	counters := &l.cache.loads
	for {
		value, ok, stale, err := l.slab.GetStale(dst, l.key)
		if ok && !stale {
			return value, nil
		}
		if err != nil && !errors.Is(err, ErrBusy) {
			return dst, err
		}
		f, first := l.cache.flights.join(l.name, l.cache.loadTimeout)
		if first {
			return l.fly(ctx, f, dst, value, ok)
		}
		if ok { // somebody is at it
			counters.stale.Add(1)
			l.cache.flights.leave(f)
			return value, nil
		}
		counters.waits.Add(1)
		select {
		case <-f.done:
			switch {
			case f.value != nil:
				return append(dst, f.value...), nil
			case f.err != nil && !gaveUp(f.err):
				return dst, f.err
			}
		case <-time.After(time.Until(f.until)): // overdue
			l.cache.flights.leave(f)
		case <-ctx.Done():
			l.cache.flights.leave(f)
			return dst, fmt.Errorf("wait for a load: %w: %w", ErrBusy, ctx.Err())
		}
	}
}

// gaveUp reports whether an error is that of one caller's own patience, which does
// not concern the others.
func gaveUp(err error) bool {
	return errors.Is(err, ErrBusy) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// fly is the part of a flight's leader. Should load panic, the others try anew.
func (l *loading) fly(ctx context.Context, f *flight, dst, old []byte, stale bool) (value []byte, err error) {
	var shared []byte
	defer func() { l.cache.flights.land(l.name, f, shared, err) }()
	value, shared, err = l.lead(ctx, dst, old, stale)
	return value, err
}

// lead claims the key, or waits for the process that has. Shared is what this
// process computed; old is the expired value that may be served, if stale.
func (l *loading) lead(ctx context.Context, dst, old []byte, stale bool) (value, shared []byte, err error) {
	l.cache.table.Tick()
	waiting := false
	for {
		timeout := l.cache.loadTimeout
		if deadline, ok := ctx.Deadline(); ok {
			timeout = min(timeout, time.Until(deadline))
		}
		value, ok, won, claim, err := l.slab.Claim(ctx, dst, l.key, l.cache.deadline(timeout))
		switch {
		case ok:
			return value, nil, nil
		case won:
			return l.compute(ctx, dst, claim.Version, timeout)
		case errors.Is(err, ErrFull):
			return l.compute(ctx, dst, 0, timeout) // no room for a claim: each for itself
		case err != nil:
			return dst, nil, err
		case claim.State == slab.Failed:
			return dst, nil, &LoadError{claim.Text}
		case stale:
			l.cache.loads.stale.Add(1)
			return old, nil, nil
		}
		if !waiting {
			l.cache.loads.waits.Add(1)
			waiting = true
		}
		if value, ok, err := l.await(ctx, dst, claim); ok || err != nil {
			return value, nil, err
		}
	}
}

// A waiter looks again after an eighth of the time it has waited, within these
// bounds, and so gets its value at most that much late.
const (
	firstLook   = 100 * time.Microsecond
	longestLook = 10 * time.Millisecond
)

// await waits until the claim, or whichever follows it, is filled, failed or
// nobody's; then ok and err are unset.
func (l *loading) await(ctx context.Context, dst []byte, claim slab.Claim) (value []byte, ok bool, err error) {
	began := time.Now()
	for timer := time.NewTimer(firstLook); ; timer.Reset(min(max(time.Since(began)/8, firstLook), longestLook)) {
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return dst, false, fmt.Errorf("wait for a load in another process: %w: %w", ErrBusy, ctx.Err())
		}
		if err := l.cache.table.Usable(); err != nil {
			return dst, false, err
		}
		l.cache.pulse.beat() // the deadline is in the domain's time
		now, err := l.slab.ClaimOf(l.key)
		switch {
		case err != nil && !errors.Is(err, ErrBusy):
			return dst, false, err
		case err != nil || now.State == slab.Loading:
			claim.Version = max(claim.Version, now.Version)
			continue
		case now.State == slab.Failed && (now.Ended == claim.Version || now.Until > l.cache.wall()):
			return dst, false, &LoadError{now.Text}
		}
		if it, ok, err := l.slab.Use(dst, l.key); ok || err != nil && !errors.Is(err, ErrBusy) {
			return orElse(it.Value, dst, ok), ok, err
		}
		return dst, false, nil // claim it
	}
}

// compute calls load and stores what it returns under the claim; 0 is none.
func (l *loading) compute(ctx context.Context, dst []byte, version uint64, timeout time.Duration) (value, shared []byte, err error) {
	claim := &Claim{l.cache, l.slab, l.key, version}
	inside, cancel := context.WithTimeout(context.WithValue(ctx, loadingKey{}, l), timeout)
	defer cancel()
	// Storing has a little time of its own, whatever has become of the caller's.
	store := func(do func(ctx context.Context) error) error {
		if version == 0 {
			return ErrFull
		}
		brief, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		return do(brief)
	}
	returned := false
	defer func() {
		if !returned { // a panic, or runtime.Goexit: the next one tries
			_ = store(func(ctx context.Context) error { return claim.Abandon(ctx, nil, 0) })
		}
	}()
	l.cache.loads.loads.Add(1)
	it, err := l.load(inside)
	returned = true
	if err != nil {
		l.cache.loads.errors.Add(1)
		cause := err
		if ctx.Err() != nil { // the caller gave up, which is not the key's fault
			cause = nil
		}
		_ = store(func(ctx context.Context) error { return claim.Abandon(ctx, cause, it.NegativeTTL) })
		return dst, nil, err
	}
	if err := store(func(ctx context.Context) error { _, err := claim.Fill(ctx, it); return err }); err != nil {
		l.cache.loads.refused.Add(1)
		l.cache.tell(Event{Kind: EventUnstored, Key: []byte(l.name.key), Err: err})
	}
	return append(dst, it.Value...), it.Value, nil
}

const storeTimeout = time.Second

// loadCounters count this handle's loads.
type loadCounters struct{ loads, errors, waits, stale, refused atomic.Uint64 }

// flightKey names what goroutines of a handle wait for together.
type flightKey struct {
	namespace string
	scoped    bool
	key       string
}
