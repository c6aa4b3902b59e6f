package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// page returns the text of a file, named from the root.
func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	link    = regexp.MustCompile(`\[([^\]]*)\]\(([^)]*)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notSlug = regexp.MustCompile(`[^a-z0-9 _-]`)
)

// followLinks checks that links to files find them, that one to a heading finds that,
// and that one whose text names a test finds the test, by its whole name or its first
// parts. It returns how many name a test.
func followLinks(t *testing.T, name string) (tests int) {
	t.Helper()
	for _, found := range link.FindAllStringSubmatch(page(t, name), -1) {
		text, target := found[1], found[2]
		if strings.HasPrefix(target, "https://") {
			continue
		}
		target, anchor, _ := strings.Cut(target, "#")
		file := name
		if target != "" {
			file = filepath.Join(filepath.Dir(name), filepath.FromSlash(target))
		}
		if _, err := os.Stat(filepath.Join("..", "..", file)); err != nil {
			t.Errorf("%s: [%s]: %v", name, text, err)
			continue
		}
		if anchor != "" && !slices.Contains(anchors(page(t, file)), anchor) {
			t.Errorf("%s: [%s]: no heading %q in %s", name, text, anchor, file)
		}
		if !strings.HasPrefix(text, "Test") && !strings.HasPrefix(text, "Fuzz") {
			continue
		}
		tests++
		if !regexp.MustCompile(`(?m)^func ` + regexp.QuoteMeta(text) + `[_(]`).MatchString(page(t, file)) {
			t.Errorf("%s: [%s](%s): no such test there", name, text, target)
		}
	}
	return tests
}

// anchors returns the names by which links find the headings of a page.
func anchors(text string) (all []string) {
	for _, h := range heading.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.ReplaceAll(notSlug.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
	}
	return all
}

func TestDocs_Links_LeadSomewhere(t *testing.T) {
	names, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		followLinks(t, "docs/"+filepath.Base(name))
	}
	if tests := followLinks(t, "SECURITY.md"); tests < 10 {
		t.Fatalf("only %d links to tests in SECURITY.md: is this the whole file?", tests)
	}
}

// TestOperations_EveryErrorHasARemedy: each exported error of package flagstone has
// its row, with a meaning and something to do about it.
func TestOperations_EveryErrorHasARemedy(t *testing.T) {
	_, table, _ := strings.Cut(page(t, "docs/operations.md"), "<!-- errors -->")
	table, _, _ = strings.Cut(table, "<!-- /errors -->")
	rows := make(map[string]bool)
	for line := range strings.Lines(table) {
		if cells := strings.Split(strings.TrimSpace(line), "|"); len(cells) == 5 {
			rows[strings.TrimSpace(cells[1])] = strings.TrimSpace(cells[2]) != "" && strings.TrimSpace(cells[3]) != ""
		}
	}
	errs := exportedErrors(t)
	if len(errs) < 30 {
		t.Fatalf("only %d errors seen: is this the whole package?", len(errs))
	}
	for _, name := range errs {
		if !rows[name] {
			t.Errorf("%s has no row in docs/operations.md: say what it means and what to do", name)
		}
	}
}

// exportedErrors returns the names of the variables of package flagstone that begin
// with Err.
func exportedErrors(t *testing.T) (names []string) {
	files, err := filepath.Glob(filepath.Join("..", "..", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				for _, n := range s.(*ast.ValueSpec).Names {
					if strings.HasPrefix(n.Name, "Err") {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names
}
