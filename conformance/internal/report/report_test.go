package report

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

var results = []suite.Result{
	{Suite: "peer", Case: "a", Mix: "go", Level: suite.Writer, Clauses: []string{"14 Delete", "13 Get 10"}, Status: suite.Passed, Elapsed: time.Second},
	{Suite: "peer", Case: "b", Mix: "go", Level: suite.Full, Clauses: []string{"13 Get 2"}, Status: suite.Failed, Messages: []string{"line 1\nline 2"}},
	{Suite: "peers", Case: "c", Mix: "go,c", Level: suite.Full, Clauses: []string{"13 Get 2"}, Status: suite.Failed, Expected: "known"},
	{Suite: "peers", Case: "d", Mix: "go,c", Level: suite.Full, Clauses: []string{"13 Get 2"}, Status: suite.Passed, Expected: "was known"},
	{Suite: "peers", Case: "e", Mix: "go,c", Level: suite.Reader, Clauses: []string{"2 5"}, Status: suite.NotOffered, Report: []string{"a figure"}},
}

func TestTallies_Results_AreCountedByEach(t *testing.T) {
	for _, c := range []struct {
		of   string
		got  []tally
		want []tally
	}{
		{"clause", byClause(results), []tally{
			{"2 5", 1, 0, 0, 0, 0, 1}, {"13 Get 2", 3, 1, 2, 1, 1, 0}, {"13 Get 10", 1, 1, 0, 0, 0, 0}, {"14 Delete", 1, 1, 0, 0, 0, 0},
		}},
		{"level", byLevel(results), []tally{{"reader", 1, 0, 0, 0, 0, 1}, {"writer", 1, 1, 0, 0, 0, 0}, {"full", 3, 1, 2, 1, 1, 0}}},
		{"suite", bySuite(results), []tally{{"peer with go", 2, 1, 1, 0, 0, 0}, {"peers with go,c", 3, 1, 1, 1, 1, 1}}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("by %s: %v, not %v", c.of, c.got, c.want)
		}
	}
}

func TestText_FailuresAndUnexpectedPasses_AreSaid(t *testing.T) {
	var b bytes.Buffer
	if err := Text(&b, 77, results); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"FAILED peer/b with go (13 Get 2)\n    line 1\n    line 2\n", "failed as expected: peers/c with go,c: known", "PASSED, though expected to fail: peers/d",
		"a figure", "5 results, 2 not as expected; seed 77\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "FAILED peer/a") {
		t.Error("what passed is said to have failed")
	}
}

func TestMarkdown_EqualRuns_AreEqual(t *testing.T) {
	other := slices.Clone(results)
	other[0].Elapsed, other[1].Messages, other[4].Report = time.Hour, []string{"pid 5"}, nil
	text := string(Markdown(results))
	if text != string(Markdown(other)) {
		t.Error("times or messages are in it")
	}
	for _, want := range []string{"| 13 Get 2 | 3 | 1 | 2 | 1 | 0 |", "- `peer/b` with go\n", "- `peers/c` with go,c, expected: known", "- `peers/d` with go,c passed, though"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if !strings.Contains(string(Markdown(results[:1])), "None.") {
		t.Error("failures where there are none")
	}
}

func TestJSON_Results_AreAllThere(t *testing.T) {
	var b bytes.Buffer
	if err := JSON(&b, 77, results); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Seed, Bad int
		Cases     []struct{ Suite, Case, Status, Level string }
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Seed != 77 || got.Bad != 2 || len(got.Cases) != 5 || got.Cases[4].Status != "not offered" || got.Cases[0].Level != "writer" {
		t.Errorf("%+v", got)
	}
}
