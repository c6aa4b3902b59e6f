package slab

import (
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Batch holds the results of a GetBatch. It is reused without allocating once it
// has grown; the values live until the next GetBatch into it. One goroutine uses
// it at a time.
type Batch struct {
	values []byte
	keys   []byte // with the namespace's id before each, of one group
	found  []span
	hits   int
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
func (st *Stack) GetBatch(b *Batch, keys [][]byte) (err error) {
	defer st.leave(shm.Guard(), &err)
	b.Miss(len(keys))
	for from := 0; from < len(keys) && err == nil; from += group {
		to := min(from+group, len(keys))
		err = st.lookupGroup(b, keys[from:to], b.found[from:to], 0)
	}
	return err
}

// GetBatchScoped is GetBatch for the keys of a namespace, of which id is the id.
func (st *Stack) GetBatchScoped(b *Batch, id []byte, keys [][]byte) (err error) {
	defer st.leave(shm.Guard(), &err)
	b.Miss(len(keys))
	for from := 0; from < len(keys) && err == nil; from += group {
		to := min(from+group, len(keys))
		var scoped [group][]byte
		b.keys = b.keys[:0]
		for i, k := range keys[from:to] {
			at := len(b.keys)
			b.keys = append(append(b.keys, id...), k...)
			scoped[i] = b.keys[at:]
		}
		err = st.lookupGroup(b, scoped[:to-from], b.found[from:to], layout.FlagScoped)
	}
	return err
}

// Miss leaves n misses in b.
func (b *Batch) Miss(n int) {
	b.values, b.found, b.hits = b.values[:0], b.found[:0], 0
	for range n {
		b.found = append(b.found, span{-1, -1})
	}
}

// lookupGroup asks for the buckets of all keys, then for the records that their
// slots name, and only then reads.
func (st *Stack) lookupGroup(b *Batch, keys [][]byte, found []span, flags uint32) error {
	if err := st.top.forked(); err != nil {
		return err
	}
	var hashes [group]uint64
	for i, k := range keys {
		hashes[i] = st.HashOf(k)
		sh := st.shardOf(hashes[i])
		sh.finder.PrefetchBucket(hashes[i])
	}
	for i := range keys {
		st.shardOf(hashes[i]).finder.PrefetchRecord(hashes[i])
	}
	for i, k := range keys {
		from := len(b.values)
		sh := st.shardOf(hashes[i])
		n, c, seen := shm.Find(&sh.finder, b.values[from:cap(b.values)], k, hashes[i], uint32(len(k))|flags<<layout.KeyFlagsShift)
		if c != nil {
			sh.used(c, seen)
		}
		if n >= 0 {
			b.values = b.values[:from+n]
		} else {
			if st.ahead {
				st.ask(hashes[i])
			}
			value, ok, err := st.lookup(b.values, &Key{k, flags, hashes[i]}, &look{})
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			b.values = value
		}
		found[i] = span{from, len(b.values)}
		b.hits++
	}
	return nil
}
