package slab

import (
	"math/bits"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Batch holds the results of a GetBatch. It is reused without allocating once it
// has grown; the values live until the next GetBatch into it. One goroutine uses
// it at a time.
type Batch struct {
	values []byte
	found  []span
	hits   int
	keys   [group]key
}

// span is a value's place in Batch.values; a miss is marked by from < 0.
type span struct{ from, to int }

// Len returns the number of keys of the last GetBatch.
func (b *Batch) Len() int { return len(b.found) }

// Hits returns how many of them had a value.
func (b *Batch) Hits() int { return b.hits }

// Value returns the value of the last GetBatch's key i and whether there was one.
func (b *Batch) Value(i int) ([]byte, bool) {
	f := b.found[i]
	if f.from < 0 {
		return nil, false
	}
	return b.values[f.from:f.to:f.to], true
}

// group is how many keys are probed together: enough to keep all of a core's
// outstanding misses busy.
const group = 16

// GetBatch looks all keys up and leaves the results in b. The memory accesses of
// up to 16 keys overlap, which makes a key of a large batch several times
// cheaper than a Get. Each key is answered as Get would; the batch as a whole is
// no snapshot. On an error the answers so far are in b and the others are misses.
func (s *Slab) GetBatch(b *Batch, keys [][]byte) (err error) {
	defer s.leave(shm.Guard(), &err)
	b.values = b.values[:0]
	b.found, b.hits = b.found[:0], 0
	for range keys {
		b.found = append(b.found, span{-1, -1})
	}
	for from := 0; from < len(keys); from += group {
		part := keys[from:min(from+group, len(keys))]
		for i, k := range part {
			b.keys[i] = s.keyOf(k)
		}
		if err := s.lookupGroup(b, b.keys[:len(part)], b.found[from:]); err != nil {
			return err
		}
	}
	return nil
}

// lookupGroup asks for the buckets of all keys, then for the records that their
// slots name, and only then reads.
func (s *Slab) lookupGroup(b *Batch, keys []key, found []span) error {
	for i := range keys {
		sh := s.shardOf(keys[i].hash)
		sh.index.Prefetch(sh.bucketOffset(keys[i].hash))
	}
	for i := range keys {
		s.shardOf(keys[i].hash).prefetch(&keys[i])
	}
	for i := range keys {
		from := len(b.values)
		sh := s.shardOf(keys[i].hash)
		value, verdict := sh.read(b.values, &keys[i])
		if verdict == hit {
			sh.hits.Add(1)
		} else {
			var ok bool
			var err error
			if value, ok, err = sh.noHit(b.values, &keys[i], verdict); err != nil {
				return err
			}
			if !ok {
				continue
			}
		}
		b.values = value
		found[i] = span{from, len(value)}
		b.hits++
	}
	return nil
}

// prefetch asks for the first lines of the record that the key's bucket names. It
// is a guess: read decides.
func (sh *shard) prefetch(k *key) {
	at := sh.bucketOffset(k.hash)
	m := sh.index.MatchTags(at, uint32(k.tag()))
	if n := uint32(sh.bucketAt(at).Slots[bits.TrailingZeros32(m|1<<13)/2].Load()); m != 0 && sh.isCell(n) {
		off := sh.cellOffset(n)
		sh.cells.Prefetch(off)
		sh.cells.Prefetch(off + layout.LineSize)
	}
}
