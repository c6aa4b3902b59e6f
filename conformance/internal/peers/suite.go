// Package peers is the suite of several testees of any mix on one domain.
package peers

import (
	"slices"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// Suite returns the suite.
func Suite() suite.Suite {
	return suite.Suite{
		Name: "peers", About: "several testees on one domain", Parts: true,
		Cases: func(suite.Options) ([]suite.Case, error) {
			return slices.Concat(sharing, locking, deaths, doorbells(), stewards, shapes, together), nil
		},
	}
}
