// Package layout is the memory layout that the processes of a domain share:
// constants, structs and compile-time assertions, generated from
// spec/layout.json, which is the only place where an offset is written.
//
// Every field that a peer may write is an atomic; the comments name its writer
// and the ordering it relies on. Mapped types hold no pointers.
//
//	control   | header 4096 | mutexes 64 each | entries 192 each | regions |
//	region    | fixed 512 | held 8 each | mapped 8 each |
//	slab      | header 4096 | shard 0 | shard 1 | ...
//	shard     | head 512 | buckets 64 each | overflow buckets 64 each | cells |
//	cell      | head 48 or tail 24 | key and value bytes |
package layout

//go:generate go run ./gen -spec ../../spec/layout.json -protocol ../../spec/PROTOCOL.md -out . -c ../../clients/c/src/layout.h
