// Package table is the control segment of a domain: a small file in shared
// memory through which the processes of one host find one another and their
// shared segments. It is useful without a cache.
//
// A domain is the directory DIR/NAME.flagstone/v1 with one file "control" and
// one file per segment. The control segment has
//
//   - regions, one per open handle: who it is, how to wake it, 32 state flags,
//     which mutexes it holds and which segments it maps;
//   - a directory of segments, each with kind, name, state and generation; slabs
//     also say which stack and tier they are, and are drained before they go;
//   - robust mutexes, which outlive the death of their holders;
//   - a change counter, so that looking for news costs one atomic load;
//   - a steward, at most one handle at a time, for what one process is to do;
//   - clock words, so that knowing the time costs one atomic load.
//
// Any process may be killed at any instruction. Its lease, an open file
// description lock, then goes free, and whoever notices cleans up after it.
//
// Inspect looks at all this without taking part. On other systems than Linux
// everything compiles, and Open and Inspect return ErrUnsupported.
//
// All methods of a Table may be called concurrently unless they say otherwise.
// PROTOCOL.md describes every step for other implementations.
package table
