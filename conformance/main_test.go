package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone/conformance/internal/fake"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

func TestMain(m *testing.M) {
	fake.Main()
	os.Exit(m.Run())
}

// call runs the command and returns what it says.
func call(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(args, &o, &e)
	return code, o.String(), e.String()
}

// liar is a testee whose every answer is ok, as a flag's value. Its answers have no
// spaces, as a command line is split at them.
func liar(t *testing.T) string {
	t.Helper()
	p := fake.Program("liar")
	script := filepath.Join(t.TempDir(), "liar")
	line := "#!/bin/sh\nexec '" + strings.Join(append(p.Words, fake.Hello), "' '") + "'\n"
	if err := os.WriteFile(script, []byte(line), 0o700); err != nil {
		t.Fatal(err)
	}
	return "liar=" + script
}

func TestRun_WrongTestee_Fails(t *testing.T) {
	report := filepath.Join(t.TempDir(), "report.md")
	code, out, errs := call("run", "--testee", liar(t), "--case", "peer/delete", "--report", report, "--seed", "5")
	if code != exitFailed || !strings.Contains(out, "FAILED peer/delete with liar (14 Delete)") || !strings.Contains(out, "seed 5") {
		t.Errorf("%d\n%s\n%s", code, out, errs)
	}
	text, err := os.ReadFile(report)
	if err != nil || !strings.Contains(string(text), "- `peer/delete` with liar\n") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestRun_EveryCase_FailsWithALiar(t *testing.T) {
	code, out, errs := call("run", "--testee", liar(t), "--suite", "peer,peers", "--json", "--patience", "10ms")
	var cases struct {
		Cases []struct{ Suite, Case, Status string }
	}
	if err := json.Unmarshal([]byte(out), &cases); err != nil || code != exitFailed {
		t.Fatal(code, err, errs)
	}
	if len(cases.Cases) < 200 {
		t.Errorf("only %d cases", len(cases.Cases))
	}
	for _, c := range cases.Cases {
		if c.Status != "failed" {
			t.Errorf("%s/%s: %s, though all answers are ok", c.Suite, c.Case, c.Status)
		}
	}
}

func TestRun_ExpectedFailure_IsSuccess(t *testing.T) {
	list := filepath.Join(t.TempDir(), "expected")
	if err := os.WriteFile(list, []byte("peer/delete it lies\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := call("run", "--testee", liar(t), "--suite", "peer", "--case", "peer/delete", "--expect", list)
	if code != exitOK || !strings.Contains(out, "failed as expected: peer/delete with liar: it lies") {
		t.Errorf("%d\n%s\n%s", code, out, errs)
	}
}

func TestRun_WrongUsage_IsSaid(t *testing.T) {
	for _, args := range [][]string{
		{"run", "--suite", "none"},
		{"run", "--case", "["},
		{"run", "--expect", "/does/not/exist"},
		{"run", "extra"},
		{"run", "--flag"},
		{"fly"},
	} {
		if code, out, errs := call(args...); code != exitUsage || errs == "" || out != "" {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
	for _, args := range [][]string{
		{"run", "--testee", "name"},
		{"run", "--testee", "=x"},
		{"run", "--testee", "a=x", "--testee", "a=y"},
		{"run", "--testee", "a=x", "--mix", "a,b"},
		{"run", "--testee", "a=/does/not/exist"},
	} {
		if code, _, errs := call(args...); code != exitError || errs == "" {
			t.Errorf("%v: %d %q", args, code, errs)
		}
	}
}

func TestList_Cases_HaveLevelsAndClauses(t *testing.T) {
	code, out, errs := call("list", "--suite", "peer,peers", "--json")
	var rows []struct {
		Case    string
		Level   string
		Clauses []string
	}
	if err := json.Unmarshal([]byte(out), &rows); err != nil || code != exitOK {
		t.Fatal(code, err, errs)
	}
	seen := make(map[string]bool)
	for _, r := range rows {
		if seen[r.Case] {
			t.Errorf("%s is there twice", r.Case)
		}
		seen[r.Case] = true
		if _, err := suite.ParseLevel(r.Level); err != nil || len(r.Clauses) == 0 || strings.Contains(r.Case, " ") {
			t.Errorf("%+v", r)
		}
		for _, c := range r.Clauses {
			if !strings.ContainsRune("123456789", rune(c[0])) {
				t.Errorf("%s: clause %q names no section", r.Case, c)
			}
		}
	}
}

func TestMixes_ByDefault_AreEachWithItselfAndEachTwoInEitherOrder(t *testing.T) {
	programs := []testee.Program{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	all, err := mixes(programs, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range all {
		names = append(names, m.String())
	}
	if got := strings.Join(names, " "); got != "a,a b,b c,c a,b b,a a,c c,a b,c c,b" {
		t.Error(got)
	}
}
