//go:build !race

package slab

// quick is by how much more a stress test can do without the race detector.
const quick = 25
