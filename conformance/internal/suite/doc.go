// Package suite is what the suites of the conformance runner are made of: cases, what
// a case can do, and how they are run.
package suite
