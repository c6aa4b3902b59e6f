package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// JSON writes all that is known, for programs.
func JSON(w io.Writer, seed uint64, results []suite.Result) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Seed    uint64         `json:"seed"`
		Bad     int            `json:"bad"`
		Levels  []tally        `json:"levels"`
		Clauses []tally        `json:"clauses"`
		Suites  []tally        `json:"suites"`
		Cases   []suite.Result `json:"cases"`
	}{seed, countBad(results), byLevel(results), byClause(results), bySuite(results), results})
}

// Text writes tables for people, what failed at the end.
func Text(w io.Writer, seed uint64, results []suite.Result) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, table := range []struct {
		of   string
		rows []tally
	}{{"CLAUSE", byClause(results)}, {"LEVEL", byLevel(results)}, {"SUITE", bySuite(results)}} {
		fmt.Fprintf(t, "%s\tCASES\tPASSED\tFAILED\tEXPECTED\tNOT OFFERED\n", table.of)
		for _, r := range table.rows {
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\n", r.Name, r.Cases, r.Passed, r.Failed, r.Expected, r.NotOffered)
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range results {
		r := &results[i]
		if len(r.Report) > 0 {
			fmt.Fprintf(w, "%s with %s:\n%s\n", r.ID(), r.Mix, indent(r.Report))
		}
		switch {
		case r.Status == suite.Failed && r.Expected == "":
			fmt.Fprintf(w, "FAILED %s with %s (%s)\n%s\n", r.ID(), r.Mix, strings.Join(r.Clauses, "; "), indent(r.Messages))
		case r.Status == suite.Failed:
			fmt.Fprintf(w, "failed as expected: %s with %s: %s\n", r.ID(), r.Mix, r.Expected)
		case r.Bad():
			fmt.Fprintf(w, "PASSED, though expected to fail: %s with %s: %s\n", r.ID(), r.Mix, r.Expected)
		}
	}
	_, err := fmt.Fprintf(w, "%d results, %d not as expected; seed %d\n", len(results), countBad(results), seed)
	return err
}

func indent(messages []string) string {
	return "    " + strings.ReplaceAll(strings.Join(messages, "\n"), "\n", "\n    ")
}

func countBad(results []suite.Result) (n int) {
	for i := range results {
		if results[i].Bad() {
			n++
		}
	}
	return n
}

// Markdown returns the report for docs/: of equal runs it is equal, so it has no
// times, seeds and numbers of processes.
func Markdown(results []suite.Result) []byte {
	var b bytes.Buffer
	b.WriteString(`# Conformance report

Written by ` + "`make conformance`" + `, of the suites in [conformance](../conformance/README.md); never edited by hand. A case is counted with each mix of testees
that it ran with. *Expected* are failures that a list gives a reason for; *not offered* is what a testee's level leaves out.

`)
	for _, table := range []struct {
		heading, of string
		rows        []tally
	}{{"Suites and mixes", "suite", bySuite(results)}, {"Levels", "level", byLevel(results)}, {"Clauses", "clause of the protocol", byClause(results)}} {
		fmt.Fprintf(&b, "## %s\n\n| %s | cases | passed | failed | expected | not offered |\n|---|---|---|---|---|---|\n", table.heading, table.of)
		for _, r := range table.rows {
			fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d |\n", r.Name, r.Cases, r.Passed, r.Failed, r.Expected, r.NotOffered)
		}
		b.WriteString("\n")
	}
	b.WriteString("## Failures\n\n")
	var some bool
	for i := range results {
		r := &results[i]
		if r.Status != suite.Failed && !r.Bad() {
			continue
		}
		some = true
		switch {
		case r.Status == suite.Passed:
			fmt.Fprintf(&b, "- `%s` with %s passed, though it is expected to fail: %s\n", r.ID(), r.Mix, r.Expected)
		case r.Expected != "":
			fmt.Fprintf(&b, "- `%s` with %s, expected: %s\n", r.ID(), r.Mix, r.Expected)
		default:
			fmt.Fprintf(&b, "- `%s` with %s\n", r.ID(), r.Mix)
		}
	}
	if !some {
		b.WriteString("None.\n")
	}
	return b.Bytes()
}

// Cases writes the cases of a plan.
func Cases(w io.Writer, asJSON bool, p suite.Plan) error {
	type row struct {
		ID      string      `json:"case"`
		Level   suite.Level `json:"level"`
		Clauses []string    `json:"clauses"`
	}
	var rows []row
	for _, s := range p.Suites {
		cases, err := s.Cases(p.Options)
		if err != nil {
			return fmt.Errorf("suite %s: %w", s.Name, err)
		}
		for _, c := range cases {
			if id := s.Name + "/" + c.Name; p.Only == nil || p.Only(id) {
				rows = append(rows, row{id, c.Level, c.Clauses})
			}
		}
	}
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(rows)
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "CASE\tLEVEL\tCLAUSES")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\n", r.ID, r.Level, strings.Join(r.Clauses, "; "))
	}
	return t.Flush()
}
