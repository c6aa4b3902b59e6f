package flagstone

import (
	"context"
	"iter"
	"time"

	"github.com/flagstone-shm/flagstone/slab"
)

// Record is what All yields. Its slices are valid until the next one.
type Record struct {
	Key []byte // nil if ByHash
	Item
	Hash   uint64        // HashOf(Key), or the application's own
	ByHash bool          // stored by SetHash
	Scope  uint64        // Tagged: id of its namespace, 0 if in none
	Idle   time.Duration // since its last use, to Options.Precision
}

// All yields every record that is there from before the call until after it,
// exactly once, and some of those that come and go meanwhile; expired ones and
// those of namespaces are left out. The loop's body may use the cache. It takes a
// lock only where records keep changing, waiting until ctx ends. An error comes
// last, beside an empty record.
func (c *Cache) All(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) { c.scan(ctx, yield, inScope(0)) }
}

// Tagged is All for the records with one tag, those of namespaces too. It looks at
// the whole cache.
func (c *Cache) Tagged(ctx context.Context, tag uint32) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		c.scan(ctx, yield, func(r *slab.Record) bool { return r.Tag == tag })
	}
}

func inScope(id uint64) func(*slab.Record) bool {
	return func(r *slab.Record) bool { return r.Scope == id }
}

// scan yields the records that are wanted and have not expired.
func (c *Cache) scan(ctx context.Context, yield func(Record, error) bool, wanted func(*slab.Record) bool) {
	v, err := c.fresh()
	if err == nil {
		err = v.slab.Scan(ctx, func(r slab.Record) bool {
			if !wanted(&r) || r.Expiry != 0 && r.Expiry <= c.wall() {
				return true
			}
			now := c.now()
			out := Record{Item: c.unpacked(&r.Item), Hash: r.Hash, ByHash: r.ByHash, Scope: r.Scope, Idle: millis(now - min(r.LastUse, now))}
			if !r.ByHash {
				out.Key = r.Key
			}
			return yield(out, nil)
		})
	}
	if err != nil {
		yield(Record{}, err)
	}
}
