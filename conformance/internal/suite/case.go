package suite

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// Level is how much of the protocol a testee offers, and a case needs: section 22.
type Level int

// The levels, each with all that the one before it has.
const (
	Reader Level = iota + 1
	Writer
	Full
)

var levelNames = []string{Reader: "reader", Writer: "writer", Full: "full"}

func (l Level) String() string {
	if l < Reader || l > Full {
		return fmt.Sprintf("level %d", int(l))
	}
	return levelNames[l]
}

// MarshalText is the level's name.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// ParseLevel reads a level's name.
func ParseLevel(name string) (Level, error) {
	for l := Reader; l <= Full; l++ {
		if levelNames[l] == name {
			return l, nil
		}
	}
	return 0, fmt.Errorf("%q is no level", name)
}

// Case is one thing that is looked at.
type Case struct {
	Name    string
	Level   Level    // what the testees have to offer
	Clauses []string // SECTION NAME [STEP] of PROTOCOL.md, as in "13 Get 3"
	Run     func(*T)
}

// Suite is a number of cases.
type Suite struct {
	Name  string
	About string
	Alone bool // a case is of one testee: it is run once for each, and else once for each mix
	Parts bool // testees of a mix have parts of their own, as who dies and who recovers: its order counts
	Cases func(Options) ([]Case, error)
}

// Options are what suites are run with.
type Options struct {
	Seed    uint64  // of what is random
	Seconds int     // for what goes on as long as it is let
	Kills   float64 // a second, in the torture
	Procs   int     // processes of the torture
	Vectors string  // the directory with the vectors
	Dir     string  // where domains are made

	Patience time.Duration // for what is to become so by itself
}

// Mix is the testees of a run: one process each, or more by turns.
type Mix []testee.Program

// String is the names of the testees.
func (m Mix) String() string { return strings.Join(m.names(), ",") }

// sorted is the same for mixes of the same testees in any order.
func (m Mix) sorted() string { return strings.Join(slices.Sorted(slices.Values(m.names())), ",") }

func (m Mix) names() []string {
	names := make([]string, len(m))
	for i, p := range m {
		names[i] = p.Name
	}
	return names
}
