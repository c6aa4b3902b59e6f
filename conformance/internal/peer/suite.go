package peer

import "github.com/flagstone-shm/flagstone/conformance/internal/suite"

// Suite returns the suite.
func Suite() suite.Suite {
	return suite.Suite{Name: "peer", Alone: true, Cases: func(suite.Options) ([]suite.Case, error) { return nil, nil }}
}
