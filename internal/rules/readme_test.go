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

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var link = regexp.MustCompile(`\[([^\]]*)\]\(([^)]*)\)`)

// TestReadme_Links_LeadSomewhere: a link to a file finds it; one whose text names a
// test finds that test in it, by its whole name or its first parts.
func TestReadme_Links_LeadSomewhere(t *testing.T) {
	tests := 0
	for _, found := range link.FindAllStringSubmatch(readme(t), -1) {
		text, target := found[1], found[2]
		if strings.HasPrefix(target, "https://") {
			continue
		}
		file := filepath.Join("..", "..", filepath.FromSlash(target))
		if _, err := os.Stat(file); err != nil {
			t.Errorf("[%s]: %v", text, err)
			continue
		}
		if !strings.HasPrefix(text, "Test") {
			continue
		}
		tests++
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`(?m)^func ` + regexp.QuoteMeta(text) + `[_(]`).Match(source) {
			t.Errorf("[%s](%s): no such test there", text, target)
		}
	}
	if tests < 20 {
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
