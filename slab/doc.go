// Package slab is a cache in shared-memory segments. A [Slab] is one of them: a
// hash table and an order of use, split into shards that each have an index, a
// list and cells of their own. A [Stack] is one or more slabs that are searched one
// after the other; all operations on keys are its methods, and a slab's own stack
// is the slab alone. Shard i of all tiers of a stack is a column, with one lock.
//
//	stack  | tier 0 | tier 1 | ...                          column i: shard i of each
//	slab   | header page | shard 0 | shard 1 | ...
//	shard  | head 512 | buckets | overflow buckets | cells |
//	bucket | 7 slots of 8: tag 32, cell 32 | link 8 |        one cache line
//	cell   | version 8 | recency 8 | links 8 | expiry 8 | lengths 8 | chain 4, tag 4 | key, value |
//	tail   | version 8 | hole 8 | chain 4, reserved 4 | more of key and value |
//
// Readers take no lock. They see a record through its slot and its version: a
// version is even only while the cell is a live head, and a slot is the one
// place that makes it visible. Writers hold the column's lock and change nothing
// in place. A key is in one tier at most: a new value is published in tier 0 before
// an older one below goes, a record that moves is copied before it is freed, and what
// has no room elsewhere stays: only writes evict.
// Whoever dies leaves the column such that readers go on; the next taker of the
// lock rebuilds everything but the cells from the cells, in all tiers.
//
// A stack is what a process saw of a directory that this package knows nothing of.
// Where that has changed since, operations return ErrStale, having done nothing, and
// the caller makes another stack of the same slabs and new ones.
// PROTOCOL.md has every step; spec/model has the models behind the rules.
package slab
