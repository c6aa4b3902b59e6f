// Package crash kills processes at every step. Its tests, with the build tag steps,
// find every place in the sources that changes what processes share, run operations
// that pass them, and kill a process with SIGKILL exactly there: once, and once more in
// the recovery from it. What is left is looked at by those who live. `make crash` runs
// all of it and writes docs/crash-matrix.md.
package crash
