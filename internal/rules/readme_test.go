package rules

import (
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func readme(t *testing.T) string { return page(t, "README.md") }

// TestReadme_Links_LeadSomewhere: to files, tests and headings that are there.
func TestReadme_Links_LeadSomewhere(t *testing.T) {
	if tests := followLinks(t, "README.md"); tests < 20 {
		t.Fatalf("only %d links to tests: is this the whole file?", tests)
	}
}

// TestReadme_Program_Vets: the program for two terminals is one that compiles, and
// has no more lines of code than the fifteen it is meant to have.
func TestReadme_Program_Vets(t *testing.T) {
	program := regexp.MustCompile("(?s)```go\n(package main\n.*?)```").FindStringSubmatch(readme(t))
	if program == nil {
		t.Fatal("there is no program")
	}
	lines := 0
	for line := range strings.Lines(program[1]) {
		if strings.TrimSpace(line) != "" {
			lines++
		}
	}
	if lines > 15 {
		t.Errorf("%d lines of code", lines)
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	vet := exec.Command("go", "vet", file)
	vet.Dir = filepath.Join("..", "..")
	if out, err := vet.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if formatted, err := format.Source([]byte(program[1])); err != nil || string(formatted) != program[1] {
		t.Errorf("not formatted, %v; want:\n%s", err, formatted)
	}
}
