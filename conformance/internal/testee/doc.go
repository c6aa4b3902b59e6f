// Package testee starts programs that offer an implementation of the protocol over
// the line protocol of conformance/README.md, and talks to them. Whatever such a
// program writes, or fails to write, is an error here and nothing worse.
package testee
