package flagstone

import (
	"bytes"
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
// changed afterwards. Beside an error the item's NegativeTTL counts. A panic goes to
// the caller; the next one loads. Loaders of different keys run concurrently.
type Loader func(ctx context.Context) (Item, error)

// GetOrLoad returns key's value. If there is none, load computes it, once for all
// processes and goroutines that ask at the same time: one calls load and stores
// what it returns, the others wait until ctx ends (ErrBusy). They get the value, or
// the error: as it is within the process, as a *LoadError in others, and later, within
// its NegativeTTL, in all. If an earlier value has expired within its StaleFor, all
// but the one that loads get that at once. If the loader dies, or takes longer than
// Options.LoadTimeout or its context, another one loads, and what the late one
// returns is not stored. So it is if the key is set or deleted meanwhile; and if
// there is no room, or the item is refused (ErrValueTooLong, ErrTTL): then it is
// computed at each call. The caller of such a load gets its value all the same;
// OnEvent tells, and Stats counts it as Refused. ErrNested says that load itself
// asks for the key. Where there is no room for the claim (ErrFull), only those who
// asked before load began share what it returns. A hit costs as much as Get and one
// allocation.
func (s *scope) GetOrLoad(ctx context.Context, key []byte, load Loader) ([]byte, error) {
	return s.AppendOrLoad(ctx, nil, key, load)
}

// AppendOrLoad is GetOrLoad, appending the value to dst, whose room must not overlap
// key.
func (s *scope) AppendOrLoad(ctx context.Context, dst, key []byte, load Loader) ([]byte, error) {
	c := s.cache
	get := s.Get
	if s.name == nil {
		get = c.Get
	}
	if value, ok, err := get(dst, key); ok || err != nil && !errors.Is(err, ErrBusy) {
		return value, err
	}
	key = bytes.Clone(key) // load may use the caller's memory
	k, err := s.key(ctx, key)
	l := &loading{cache: c, asked: key, load: load}
	switch {
	case err == nil:
		l.keyed, l.key, l.name = true, k, k.ID()
	case errors.Is(err, ErrFull): // not even for the namespace's id is there room
		l.name = fmt.Sprintf("%q %q", s.name, key)
	default:
		return dst, err
	}
	if l.nestedIn(ctx) {
		return dst, fmt.Errorf("%w: key %q", ErrNested, key)
	}
	if !l.keyed {
		value, _, err := l.compute(ctx, dst, 0, l.timeout(ctx))
		return value, err
	}
	return l.get(ctx, dst)
}

// loading is a GetOrLoad that missed.
type loading struct {
	cache  *Cache
	key    slab.Key
	keyed  bool   // the key can be claimed
	name   string // of the key, unlike any other's of this handle
	asked  []byte // the key as the caller knows it
	load   Loader
	outer  *loading // whose load called this one
	flight *flight  // that it leads
	waited bool
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

// timeout returns for how long others may be kept waiting.
func (l *loading) timeout(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(l.cache.loadTimeout, time.Until(deadline))
	}
	return l.cache.loadTimeout
}

// get finds the value, waits for it, or computes it. Of the goroutines of this
// handle one at a time goes on to the claim.
func (l *loading) get(ctx context.Context, dst []byte) ([]byte, error) {
	counters := &l.cache.loads
	for {
		value, ok, stale, err := l.cache.getStale(dst, l.key)
		switch {
		case ok && !stale:
			return value, nil
		case ok && l.underWay():
			counters.stale.Add(1)
			return value, nil
		case err != nil && !errors.Is(err, ErrBusy):
			return dst, err
		}
		f, first := l.cache.flights.join(l.name, l.timeout(ctx))
		if first {
			return l.fly(ctx, f, dst, ok)
		}
		if ok { // somebody is about to
			counters.stale.Add(1)
			l.cache.flights.leave(f)
			return value, nil
		}
		l.wait()
		select {
		case <-f.done:
			if f.value != nil || f.err != nil {
				return append(dst, f.value...), f.err
			}
		case <-time.After(time.Until(f.until)): // overdue
			l.cache.flights.leave(f)
		case <-ctx.Done():
			l.cache.flights.leave(f)
			return dst, fmt.Errorf("wait for a load: %w: %w", ErrBusy, ctx.Err())
		}
	}
}

// wait counts the lookup among those that had to wait.
func (l *loading) wait() {
	if !l.waited {
		l.cache.loads.waits.Add(1)
		l.waited = true
	}
}

// underWay reports whether somebody computes the value, without a lock.
func (l *loading) underWay() bool {
	claim, err := l.cache.claimOf(l.key)
	return err == nil && claim.State == slab.Loading
}

// fly is the part of a flight's leader. Should load panic, or the leader's context
// end, which is not the key's fault, the others try anew.
func (l *loading) fly(ctx context.Context, f *flight, dst []byte, stale bool) (value []byte, err error) {
	l.flight = f
	share := false
	defer func() {
		share = share && (err == nil || ctx.Err() == nil)
		l.cache.flights.land(l.name, f, value[min(len(dst), len(value)):], share, err)
	}()
	value, share, err = l.lead(ctx, dst, stale)
	return value, err
}

// lead claims the key, or waits for the process that has. Share says that the value
// or error is that of all who have joined the flight, and need not be looked up
// again; stale that an expired value may be returned meanwhile.
func (l *loading) lead(ctx context.Context, dst []byte, stale bool) (value []byte, share bool, err error) {
	for {
		timeout := l.timeout(ctx)
		value, ok, won, claim, err := l.cache.claim(ctx, dst, l.key, timeout)
		switch {
		case ok:
			return value, false, nil
		case won:
			return l.compute(ctx, dst, claim.Version, timeout)
		case errors.Is(err, ErrFull):
			return l.compute(ctx, dst, 0, timeout) // no room for a claim: each process for itself
		case err != nil:
			return dst, false, err
		case claim.State == slab.Failed:
			return dst, l.stands(claim), &LoadError{claim.Text}
		case stale:
			if value, ok, _, err := l.cache.getStale(dst, l.key); ok && err == nil {
				l.cache.loads.stale.Add(1)
				return value, false, nil
			}
		}
		l.wait()
		if value, ok, share, err := l.await(ctx, dst, claim); ok || err != nil {
			return value, share, err
		}
	}
}

// stands reports, of another's failed claim, that nobody who has joined came after
// the key was set or deleted: no more can join, and the claim is still there.
func (l *loading) stands(failed slab.Claim) bool {
	l.cache.flights.part(l.name, l.flight)
	now, err := l.cache.claimOf(l.key)
	return err == nil && now.Version == failed.Version
}

// A waiter looks again after an eighth of the time it has waited, within these
// bounds, and so gets its value at most that much late.
const (
	firstLook   = 100 * time.Microsecond
	longestLook = 10 * time.Millisecond
)

// await waits until the claim, or whichever follows it, is filled, failed or
// nobody's; then ok and err are unset. Share is as in lead.
func (l *loading) await(ctx context.Context, dst []byte, claim slab.Claim) (value []byte, ok, share bool, err error) {
	began := time.Now()
	for timer := time.NewTimer(firstLook); ; timer.Reset(min(max(time.Since(began)/8, firstLook), longestLook)) {
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return dst, false, false, fmt.Errorf("wait for a load in another process: %w: %w", ErrBusy, ctx.Err())
		}
		if err := l.cache.table.Usable(); err != nil {
			return dst, false, false, err
		}
		l.cache.pulse.beat() // the deadline is in the domain's time
		now, err := l.cache.claimOf(l.key)
		switch {
		case err != nil && !errors.Is(err, ErrBusy):
			return dst, false, false, err
		case err != nil || now.State == slab.Loading:
			claim.Version = max(claim.Version, now.Version)
			continue
		// The error of a load that began later than ours counts as well.
		case now.State == slab.Failed && (now.Ended >= claim.Version || now.Until > l.cache.wall()):
			return dst, false, l.stands(now), &LoadError{now.Text}
		}
		if value, ok, old, err := l.cache.getStale(dst, l.key); ok && !old || err != nil && !errors.Is(err, ErrBusy) {
			return orElse(value, dst, ok), ok, false, err
		}
		return dst, false, false, nil // claim it
	}
}

// compute calls load and stores what it returns under the claim; 0 is none. Share
// is as in lead.
func (l *loading) compute(ctx context.Context, dst []byte, version uint64, timeout time.Duration) (value []byte, share bool, err error) {
	claim := &Claim{l.cache, l.key, version}
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
	if version == 0 { // who comes now must not join: nothing tells us if the key is set or deleted
		l.cache.flights.part(l.name, l.flight)
	}
	l.cache.loads.loads.Add(1)
	it, err := l.load(inside)
	returned = true
	// And now: the key may be set or deleted between our storing and that.
	l.cache.flights.part(l.name, l.flight)
	if err != nil {
		l.cache.loads.errors.Add(1)
		cause := err
		if ctx.Err() != nil { // the caller gave up, which is not the key's fault
			cause = nil
		}
		ended := store(func(ctx context.Context) error { return claim.Abandon(ctx, cause, it.NegativeTTL) })
		return dst, held(ended), err
	}
	unstored := store(func(ctx context.Context) error { _, err := claim.Fill(ctx, it); return err })
	if unstored != nil {
		l.cache.loads.refused.Add(1)
		l.cache.tell(Event{Kind: EventUnstored, Key: l.asked, Err: unstored})
	}
	return append(dst, it.Value...), held(unstored), nil
}

// getStale is slab.Stack.GetStale.
func (c *Cache) getStale(dst []byte, k slab.Key) (value []byte, ok, old bool, err error) {
	err = c.read(func(st *slab.Stack) (err error) {
		value, ok, old, err = st.GetStale(dst, k)
		return err
	})
	return value, ok, old, err
}

// claimOf is slab.Stack.ClaimOf.
func (c *Cache) claimOf(k slab.Key) (claim slab.Claim, err error) {
	err = c.read(func(st *slab.Stack) (err error) {
		claim, err = st.ClaimOf(k)
		return err
	})
	return claim, err
}

// held reports whether a claim was there to the end, as how it ended says. If it was
// lost, or may be, value and error may be older than who has joined.
func held(ended error) bool { return !errors.Is(ended, ErrClaimLost) && !errors.Is(ended, ErrBusy) }

const storeTimeout = time.Second

// loadCounters count this handle's loads.
type loadCounters struct{ loads, errors, waits, stale, refused atomic.Uint64 }
