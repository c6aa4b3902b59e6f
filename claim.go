package flagstone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/flagstone-shm/flagstone/slab"
)

// Claim is the right to compute a key's value, for one process of the host at a
// time. Others that want the value wait for Fill or Abandon; if this process dies
// or is late the next one takes the claim over. GetOrLoad does all that by itself.
// All methods may be called concurrently; the first one ends the claim.
type Claim struct {
	cache   *Cache
	key     slab.Key
	version uint64
}

// LoadError is the error of a computation that another process made, or an earlier
// one of this process that Item.NegativeTTL keeps: only its text is left.
type LoadError struct {
	Text string // as much of it as fits a record
}

// Error returns the text.
func (e *LoadError) Error() string { return "load failed elsewhere: " + e.Text }

// Unwrap returns ErrLoad.
func (e *LoadError) Unwrap() error { return ErrLoad }

// Claim makes the caller the one that computes key's value, for as long as timeout;
// one of 0 or less is over at the clock's next tick.
// It returns ErrExists if there is a value, ErrClaimed while a living process has
// the claim, a *LoadError while an error holds for all, ErrFull where there is no
// room for the claim. It waits as Set does.
func (s *scope) Claim(ctx context.Context, key []byte, timeout time.Duration) (*Claim, error) {
	k, err := s.key(ctx, bytes.Clone(key)) // the claim outlives the call
	if err != nil {
		return nil, err
	}
	_, ok, won, c, err := s.cache.claim(ctx, nil, k, timeout)
	switch {
	case err != nil:
		return nil, err
	case won:
		return &Claim{s.cache, k, c.Version}, nil
	case ok:
		return nil, fmt.Errorf("claim: %w", ErrExists)
	case c.State == slab.Failed:
		return nil, &LoadError{c.Text}
	}
	return nil, fmt.Errorf("claim: %w", ErrClaimed)
}

// claim is slab.Stack.Claim.
func (c *Cache) claim(ctx context.Context, dst []byte, k slab.Key, timeout time.Duration) (value []byte, ok, won bool, there slab.Claim, err error) {
	c.table.Tick()
	err = c.update(ctx, func(v *view) (err error) {
		value, ok, won, there, err = v.slab.Claim(ctx, dst, k, c.deadline(timeout))
		return err
	})
	return value, ok, won, there, err
}

// release ends the claim without a value.
func (c *Claim) release(ctx context.Context) error {
	return c.cache.update(ctx, func(v *view) error { return v.slab.Release(ctx, c.key, c.version) })
}

// deadline returns the domain time at which a timeout is over.
func (c *Cache) deadline(timeout time.Duration) uint64 {
	now := c.now()
	return now + min(uint64(max(timeout, 0)/time.Millisecond)+1, math.MaxInt64)
}

// Fill stores the value and ends the claim, and returns the value's token. It
// returns ErrClaimLost, and stores nothing, if the claim has ended: it was late and
// another process took it over, or the key was set or deleted meanwhile, which
// makes the value old. After any other error but ErrBusy the claim has ended too.
// It waits as Set does.
func (c *Claim) Fill(ctx context.Context, it Item) (Token, error) {
	packed, err := c.cache.packed(&it)
	if err != nil {
		return 0, errors.Join(err, c.release(ctx))
	}
	var version uint64
	err = c.cache.update(ctx, func(v *view) (err error) {
		version, err = v.slab.Fill(ctx, c.key, c.version, &packed)
		return err
	})
	return Token(version), err
}

// Abandon ends the claim without a value. With a cause those who wait get its text
// as a *LoadError, and so do all who want the value within negativeTTL; without,
// the next one computes. ErrClaimLost says that the claim had ended, ErrTTL that
// negativeTTL is negative: then the claim ends as if there were no cause. It waits
// as Set does.
func (c *Claim) Abandon(ctx context.Context, cause error, negativeTTL time.Duration) error {
	if cause == nil {
		return c.release(ctx)
	}
	until := uint64(0)
	if negativeTTL != 0 {
		var err error
		if until, err = c.cache.expiry(negativeTTL); err != nil {
			return errors.Join(err, c.release(ctx))
		}
	}
	text := cause.Error()
	if passed := new(LoadError); errors.As(cause, &passed) {
		text = passed.Text
	}
	return c.cache.update(ctx, func(v *view) error { return v.slab.Fail(ctx, c.key, c.version, text, until) })
}
