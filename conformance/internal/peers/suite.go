package peers

import "github.com/flagstone-shm/flagstone/conformance/internal/suite"

// Suite returns the suite.
func Suite() suite.Suite {
	return suite.Suite{Name: "peers", Alone: true, Cases: func(suite.Options) ([]suite.Case, error) { return nil, nil }}
}
