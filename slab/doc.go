// Package slab is one cache in one shared-memory segment: a hash table and an
// order of use, split into shards that each have a lock, an index, a list and
// cells of their own.
//
//	slab   | header page | shard 0 | shard 1 | ...
//	shard  | head 512 | buckets | overflow buckets | cells |
//	bucket | 7 slots of 8: tag 32, cell 32 | link 8 |        one cache line
//	cell   | version 8 | recency 8 | links 8 | expiry 8 | lengths 8 | chain 4, tag 4 | key, value |
//	tail   | version 8 | hole 8 | chain 4, reserved 4 | more of key and value |
//
// Readers take no lock. They see a record through its slot and its version: a
// version is even only while the cell is a live head, and a slot is the one
// place that makes it visible. Writers hold the shard's lock and change nothing
// in place. Whoever dies leaves the shard such that readers go on; the next
// taker of the lock rebuilds everything but the cells from the cells.
// PROTOCOL.md has every step; spec/model has the models behind the rules.
package slab
