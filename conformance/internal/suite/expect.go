package suite

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Expectations are the failures that are expected, by "suite/case" or, for one mix
// alone, "suite/case@mix", with the reason.
type Expectations map[string]string

// ReadExpectations reads a list: a line for each case, its name, a space and the
// reason. Empty lines and those that begin with # are passed by.
func ReadExpectations(r io.Reader) (Expectations, error) {
	e := make(Expectations)
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, why, _ := strings.Cut(line, " ")
		why = strings.TrimSpace(why)
		switch {
		case !strings.Contains(id, "/"):
			return nil, fmt.Errorf("line %d: %q is no suite/case", n, id)
		case why == "":
			return nil, fmt.Errorf("line %d: %s is expected to fail without a reason", n, id)
		case e[id] != "":
			return nil, fmt.Errorf("line %d: %s is listed twice", n, id)
		}
		e[id] = why
	}
	return e, lines.Err()
}

// why returns the reason for which the case is expected to fail, if it is.
func (e Expectations) why(id, mix string) string {
	if why := e[id+"@"+mix]; why != "" {
		return why
	}
	return e[id]
}

// check refuses a list that names cases which the suites that are run do not have.
func (e Expectations) check(jobs []job) error {
	known, suites := make(map[string]bool), make(map[string]bool)
	for _, j := range jobs {
		known[j.id()] = true
		suites[j.suite.Name] = true
	}
	for id := range e {
		name, _, _ := strings.Cut(id, "@")
		if s, _, _ := strings.Cut(name, "/"); suites[s] && !known[name] {
			return fmt.Errorf("the list of expected failures names %s, which suite %s does not have", name, s)
		}
	}
	return nil
}
