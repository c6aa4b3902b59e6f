package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/flagstone-shm/flagstone/conformance/internal/fuzz"
	"github.com/flagstone-shm/flagstone/conformance/internal/peer"
	"github.com/flagstone-shm/flagstone/conformance/internal/peers"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
	"github.com/flagstone-shm/flagstone/conformance/internal/torture"
	"github.com/flagstone-shm/flagstone/conformance/internal/vectors"
)

// suites are all suites, in the order in which they are run.
func suites() []suite.Suite {
	return []suite.Suite{vectors.Suite(), peer.Suite(), peers.Suite(), torture.Suite(), fuzz.Suite()}
}

// chosen returns the suites of those names, all if there are none.
func chosen(names []string) ([]suite.Suite, error) {
	if len(names) == 0 {
		return suites(), nil
	}
	var some []suite.Suite
	for _, name := range names {
		i := slices.IndexFunc(suites(), func(s suite.Suite) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no suite %q; there are %s", name, strings.Join(suiteNames(), ", "))
		}
		some = append(some, suites()[i])
	}
	return some, nil
}

func suiteNames() (names []string) {
	for _, s := range suites() {
		names = append(names, s.Name)
	}
	return names
}
