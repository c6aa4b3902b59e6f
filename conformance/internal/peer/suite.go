// Package peer is the suite of one testee: every command, its conditions and errors,
// by the sections of the protocol.
package peer

import (
	"slices"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// Suite returns the suite.
func Suite() suite.Suite {
	return suite.Suite{
		Name: "peer", About: "one testee by itself", Alone: true,
		Cases: func(suite.Options) ([]suite.Case, error) {
			return slices.Concat(limits, opening, lookups, writing, namespaces, claims, orders(), evictions, rebuilds, clocks, tiers, control, reading, random), nil
		},
	}
}
