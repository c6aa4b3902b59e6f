//go:build linux

package fuzz

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

const kept = "../../../spec/vectors"

// play runs the case with the Go testee and one that is made of these words.
func play(t *testing.T, seconds int, other func(program string) []string) suite.Result {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "testee")
	if out, err := exec.Command("go", "build", "-o", program, "../../testee").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	results, err := suite.Run(t.Context(), suite.Plan{
		Suites: []suite.Suite{Suite()},
		Mixes:  []suite.Mix{{{Name: "go", Words: []string{program}}, {Name: "other", Words: other(program)}}},
		Options: suite.Options{
			Seed: 1, Seconds: seconds, Vectors: kept, Dir: suite.DefaultDir(),
		},
	})
	if err != nil || len(results) != 1 {
		t.Fatalf("%d results: %v", len(results), err)
	}
	return results[0]
}

// Two of one program agree on everything that is compared.
func TestFuzz_GoWithGo_Agree(t *testing.T) {
	r := play(t, 2, func(program string) []string { return []string{program} })
	if r.Status != suite.Passed {
		t.Errorf("%s:\n%s", r.Status, strings.Join(r.Messages, "\n"))
	}
	t.Log(r.Report)
}

// A testee that says another version of what it finds is caught.
func TestFuzz_OtherAnswers_Caught(t *testing.T) {
	r := play(t, 0, func(program string) []string {
		return []string{"sh", "-c", program + ` | sed -u 's/^\(record main [^ ]* [^ ]* \)[^ ]*/\1ff/'`}
	})
	if r.Status != suite.Failed || !strings.Contains(strings.Join(r.Messages, "\n"), "different records") {
		t.Errorf("%s: %v", r.Status, r.Messages)
	}
}
