//go:build linux

package vectors

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

const kept = "../../../spec/vectors"

// runAll runs the vectors of a directory with the Go testee.
func runAll(t *testing.T, dir string) []suite.Result {
	t.Helper()
	program := filepath.Join(t.TempDir(), "testee")
	if out, err := exec.Command("go", "build", "-o", program, "../../testee").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	results, err := suite.Run(t.Context(), suite.Plan{
		Suites:  []suite.Suite{Suite()},
		Mixes:   []suite.Mix{{testee.Program{Name: "go", Words: []string{program}}}},
		Options: suite.Options{Vectors: dir, Dir: suite.DefaultDir()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func TestVectors_Go_AnswersAsWritten(t *testing.T) {
	results := runAll(t, kept)
	if len(results) < 50 {
		t.Errorf("%d cases only", len(results))
	}
	for _, r := range results {
		if r.Status != suite.Passed {
			t.Errorf("%s: %s\n%s", r.ID(), r.Status, strings.Join(r.Messages, "\n"))
		}
	}
}

// A vector with another byte, and one with another answer, do not pass.
func TestVectors_Changed_Caught(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(kept, "small.vector"))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"byte":   {"cell 1 CellHeader.ValueLength = 1", "01 00 00 00"},
		"answer": {"< ok 31 1024 0 0 0", ""},
	} {
		changed := string(text)
		if name == "answer" {
			changed = strings.Replace(changed, change[0], "< ok 32 1024 0 0 0", 1)
		} else {
			lines := strings.Split(changed, "\n")
			for i, line := range lines {
				if strings.Contains(line, change[0]) {
					lines[i] = strings.Replace(line, change[1], "00 00 00 00", 1)
				}
			}
			changed = strings.Join(lines, "\n")
		}
		if changed == string(text) {
			t.Fatalf("%s: nothing was changed", name)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "small.vector"), []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		failed := 0
		for _, r := range runAll(t, dir) {
			if r.Status == suite.Failed {
				failed++
			}
		}
		if failed == 0 {
			t.Errorf("%s: nothing failed", name)
		}
	}
}

// What is no vector is refused with the line.
func TestParse_Broken_Refused(t *testing.T) {
	const head = "file control 16\n0 01 # x\nscript full\n> open\n< ok\n"
	if _, err := Parse("good", head); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "file control\n", "file ../x 16\n", "file control 99999999999\n", "0 01\n", "file control 16\n10 01\n", "file control 16\nzz 01\n",
		"file control 16\n0 0\n", "file control 16\nscript nobody\n", "file control 16\n> open\n", "file control 16\nscript full\n< ok\n", "file control 16\n",
	} {
		if v, err := Parse("bad", bad); err == nil {
			t.Errorf("%q is read as %+v", bad, v)
		}
	}
}
