package flagstone

import (
	"fmt"
	"math"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
)

// NoExpiry, as a ttl, keeps a value until it is deleted or evicted.
const NoExpiry time.Duration = 0

// MaxStaleFor is the longest Item.StaleFor.
const MaxStaleFor = math.MaxUint16 * time.Second

// Token names what one write stored: every write makes another one.
type Token uint64

// Item is a value and what is kept with it.
type Item struct {
	Value []byte
	// TTL is how long the value is good, in milliseconds of wall time, rounded up.
	// NoExpiry is for ever.
	TTL time.Duration
	// StaleFor is how long after that GetOrLoad may still return the value while
	// somebody computes the next; whole seconds, rounded up, up to MaxStaleFor.
	StaleFor time.Duration
	// Tag groups records for EvictTag and Tagged; 0 is none.
	Tag uint32
	// NegativeTTL, beside a Loader's error, is how long all who miss the key get
	// that error's text, as a *LoadError, instead of trying themselves: other
	// processes and this one.
	NegativeTTL time.Duration
	// Token is set by GetItem. SwapItem asks for it; other writes ignore it.
	Token Token
}

// KeyItem is an item of a SetBatch.
type KeyItem struct {
	Key []byte
	Item
}

// expiry returns the wall time in milliseconds at which ttl is over; 0 is never.
func (c *Cache) expiry(ttl time.Duration) (uint64, error) {
	switch {
	case ttl == NoExpiry:
		return 0, nil
	case ttl < 0:
		return 0, fmt.Errorf("%w: %v", ErrTTL, ttl)
	}
	return min(c.wall()+uint64((ttl-1)/time.Millisecond)+1, layout.ExpiryMask), nil
}

// packed returns the item as slabs take it.
func (c *Cache) packed(it *Item) (out slab.Item, err error) {
	if it.StaleFor < 0 || it.StaleFor > MaxStaleFor {
		return out, fmt.Errorf("%w: StaleFor %v, the limit is %v", ErrTTL, it.StaleFor, MaxStaleFor)
	}
	out = slab.Item{Value: it.Value, Stale: uint16((it.StaleFor + time.Second - 1) / time.Second), Tag: it.Tag}
	out.Expiry, err = c.expiry(it.TTL)
	return out, err
}

// unpacked is the inverse of packed for a record that has not expired.
func (c *Cache) unpacked(it *slab.Item) Item {
	return Item{
		Value: it.Value, TTL: c.ttl(it.Expiry), StaleFor: time.Duration(it.Stale) * time.Second,
		Tag: it.Tag, Token: Token(it.Version),
	}
}

// ttl returns how long it is until a wall time, at least a millisecond, or
// NoExpiry.
func (c *Cache) ttl(expiry uint64) time.Duration {
	if expiry == 0 {
		return NoExpiry
	}
	wall := c.wall()
	return millis(max(expiry, wall+1) - wall)
}

func (c *Cache) wall() uint64 { return c.table.Wall() }
func (c *Cache) now() uint64  { return c.table.Now() }

func millis(n uint64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond
}
