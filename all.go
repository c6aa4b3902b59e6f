package flagstone

import (
	"context"
	"encoding/binary"
	"iter"
	"time"

	"github.com/flagstone-shm/flagstone/slab"
)

// Record is what All yields. Its slices are valid until the next one.
type Record struct {
	Key []byte // nil if ByHash
	Item
	Hash   uint64        // HashOf(Key), or the application's own; in a namespace that of id and key
	ByHash bool          // stored by SetHash
	Idle   time.Duration // since its last use, to Options.Precision
}

// All yields every record that is there from before the call until after it,
// exactly once, and some of those that come and go meanwhile; expired ones are
// left out, and the cache leaves out those of its namespaces. The loop's body may
// use the cache. It looks at the whole cache, and takes a lock only where records
// keep changing, waiting until ctx ends. An error comes last, beside an empty record.
func (s *scope) All(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		s.scan(ctx, yield, func(*slab.Record) bool { return true })
	}
}

// Tagged is All for the records with one tag.
func (s *scope) Tagged(ctx context.Context, tag uint32) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		s.scan(ctx, yield, func(r *slab.Record) bool { return r.Tag == tag })
	}
}

// scan yields the scope's records that are wanted and have not expired.
func (s *scope) scan(ctx context.Context, yield func(Record, error) bool, wanted func(*slab.Record) bool) {
	c := s.cache
	var at slab.Position
	var id []byte
	var scope uint64
	err := c.update(ctx, func(v *view) (err error) {
		if ok := id != nil; !ok { // the first time
			if id, ok, err = s.prefix(ctx, v, make([]byte, 0, 8), false); !ok {
				id = nil
				return err
			}
		}
		if s.name != nil {
			scope = binary.LittleEndian.Uint64(id)
		}
		return v.slab.ScanFrom(ctx, &at, func(r slab.Record) bool {
			if r.Scope != scope || !wanted(&r) || r.Expiry != 0 && r.Expiry <= c.wall() {
				return true
			}
			now := c.now()
			out := Record{Item: c.unpacked(&r.Item), Hash: r.Hash, ByHash: r.ByHash, Idle: millis(now - min(r.LastUse, now))}
			if !r.ByHash {
				out.Key = r.Key
			}
			return yield(out, nil)
		})
	})
	if err != nil {
		yield(Record{}, err)
	}
}
