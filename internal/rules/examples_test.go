package rules

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestExamples_EveryOperationHasOne: each exported function and method of package
// flagstone, those that Cache has from what it embeds too, has an example that is
// run and checked.
func TestExamples_EveryOperationHasOne(t *testing.T) {
	root := filepath.Join("..", "..")
	names, err := filepath.Glob(filepath.Join(root, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(set, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	p, err := doc.NewFromFiles(set, files, module)
	if err != nil {
		t.Fatal(err)
	}

	operations := 0
	has := func(name string, examples []*doc.Example) {
		operations++
		if !slices.ContainsFunc(examples, func(e *doc.Example) bool { return e.Output != "" || e.EmptyOutput }) {
			t.Errorf("%s has no example with an output: write Example%s", name, name)
		}
	}
	for _, f := range p.Funcs {
		has(f.Name, f.Examples)
	}
	shared := map[string]bool{} // what several types have from one that they embed
	for _, typ := range p.Types {
		for _, f := range typ.Funcs {
			has(f.Name, f.Examples)
		}
		for _, m := range typ.Methods {
			switch {
			case slices.Contains(known, m.Name) || m.Level > 0 && shared[m.Name]:
			default:
				has(typ.Name+"_"+m.Name, m.Examples)
				shared[m.Name] = shared[m.Name] || m.Level > 0
			}
		}
	}
	if operations < 50 {
		t.Fatalf("only %d operations seen: is this the whole package?", operations)
	}
}

// known are methods that the reader knows from the standard library.
var known = strings.Fields("Error Unwrap String")
