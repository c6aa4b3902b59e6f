package report

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// tally counts results.
type tally struct {
	Name       string `json:"name"`
	Cases      int    `json:"cases"`
	Passed     int    `json:"passed"`
	Failed     int    `json:"failed"`
	Expected   int    `json:"expected"`   // of the failed, those that are expected
	Unexpected int    `json:"unexpected"` // of the passed, those that are expected to fail
	NotOffered int    `json:"notOffered"`
}

func (t *tally) add(r *suite.Result) {
	t.Cases++
	switch r.Status {
	case suite.Passed:
		t.Passed++
		if r.Expected != "" {
			t.Unexpected++
		}
	case suite.Failed:
		t.Failed++
		if r.Expected != "" {
			t.Expected++
		}
	case suite.NotOffered:
		t.NotOffered++
	}
}

// tallies counts results by the names that of gives to each.
func tallies(results []suite.Result, of func(*suite.Result) []string) []tally {
	var all []tally
	at := make(map[string]int)
	for i := range results {
		for _, name := range of(&results[i]) {
			n, found := at[name]
			if !found {
				n = len(all)
				at[name] = n
				all = append(all, tally{Name: name})
			}
			all[n].add(&results[i])
		}
	}
	return all
}

func bySuite(results []suite.Result) []tally {
	return tallies(results, func(r *suite.Result) []string { return []string{r.Suite + " with " + r.Mix} })
}

func byLevel(results []suite.Result) []tally {
	all := tallies(results, func(r *suite.Result) []string { return []string{r.Level.String()} })
	slices.SortFunc(all, func(a, b tally) int {
		x, _ := suite.ParseLevel(a.Name)
		y, _ := suite.ParseLevel(b.Name)
		return cmp.Compare(x, y)
	})
	return all
}

// byClause is in the order of the document: by section, and in it as a person reads.
func byClause(results []suite.Result) []tally {
	all := tallies(results, func(r *suite.Result) []string { return r.Clauses })
	slices.SortFunc(all, func(a, b tally) int { return compareClauses(a.Name, b.Name) })
	return all
}

// compareClauses compares word by word, numbers by their value and before others.
func compareClauses(a, b string) int {
	return slices.CompareFunc(strings.Fields(a), strings.Fields(b), func(x, y string) int {
		m, errX := strconv.Atoi(x)
		n, errY := strconv.Atoi(y)
		switch {
		case errX == nil && errY == nil:
			return cmp.Compare(m, n)
		case errX == nil:
			return -1
		case errY == nil:
			return 1
		}
		return cmp.Compare(x, y)
	})
}
