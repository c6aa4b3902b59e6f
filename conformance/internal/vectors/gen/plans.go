package main

import (
	"encoding/hex"
	"slices"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// plans are all vectors.
func plans() []plan { return slices.Concat(sound(), unfinished(), damaged(), refused()) }

// k writes a key, or a value, as the line protocol does.
func k(s string) string { return hex.EncodeToString([]byte(s)) }

const (
	openIt = "open DIR NAME create=0 wake=poll"
	lookIt = "open DIR NAME read=1"
)

// tail is how a full peer ends with every image that it opens: what is looked at before
// and after a rebuild, and the eviction of what was unused for longest. What the testee
// stamps on the way it may stamp with one time: a rebuild then orders by version,
// so of two records the one that is used later has to be the one written later.
var tail = []string{
	"stat", "check", "dump", "rebuild", "check => ok 0", "dump", "scan",
	"evict 18446744073709551615 1", "scan", "check => ok 0", "close",
}

// script is opening, lookups and whatever else, and the tail.
func script(looks ...string) []string { return slices.Concat([]string{openIt}, looks, tail) }

// peeks are lookups that leave no trace.
func peeks(keys ...string) (lines []string) {
	for _, key := range keys {
		lines = append(lines, "peek "+k(key))
	}
	return lines
}

// levels are the scripts of a vector that readers may look at too.
func levels(full []string, looks ...string) map[suite.Level][]string {
	return map[suite.Level][]string{
		suite.Full:   full,
		suite.Reader: slices.Concat([]string{lookIt}, looks, []string{"scan", "stat", "close"}),
	}
}

// alone is for a full peer only.
func alone(full ...string) map[suite.Level][]string {
	return map[suite.Level][]string{suite.Full: full}
}
