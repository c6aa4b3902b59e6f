package demo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// summary is the computation that the demo saves: it parses the package and
// returns what its documentation says, in a form that is the same every time.
//
//	package http net/http
//	doc Package http provides HTTP client and server implementations.
//	import bufio
//	...
//	(empty line)
//	func Get	Get issues a GET to the specified URL.
func (t tree) summary(path string) ([]byte, error) {
	s, err := t.load(path)
	if err != nil {
		return nil, err
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range s.files {
		f, err := parser.ParseFile(set, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", path, err)
		}
		files = append(files, f)
	}
	p, err := doc.NewFromFiles(set, files, path)
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", path, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "package %s %s\ndoc %s\n", p.Name, path, p.Synopsis(p.Doc))
	for _, i := range s.imports {
		fmt.Fprintf(&b, "import %s\n", i)
	}
	b.WriteByte('\n')
	values := func(kind string, all []*doc.Value) {
		for _, v := range all {
			fmt.Fprintf(&b, "%s %s\t%s\n", kind, strings.Join(v.Names, " "), p.Synopsis(v.Doc))
		}
	}
	funcs := func(kind string, all []*doc.Func) {
		for _, f := range all {
			fmt.Fprintf(&b, "%s %s\t%s\n", kind, f.Name, p.Synopsis(f.Doc))
		}
	}
	values("const", p.Consts)
	values("var", p.Vars)
	funcs("func", p.Funcs)
	for _, t := range p.Types {
		fmt.Fprintf(&b, "type %s\t%s\n", t.Name, p.Synopsis(t.Doc))
		values("const", t.Consts)
		values("var", t.Vars)
		funcs("func", t.Funcs)
		funcs("method "+t.Name, t.Methods)
	}
	return b.Bytes(), nil
}

// imports returns what a summary says that its package imports.
func imports(summary []byte) (out []string) {
	head, _, _ := strings.Cut(string(summary), "\n\n")
	for line := range strings.Lines(head) {
		if name, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "import "); ok {
			out = append(out, name)
		}
	}
	return out
}

// walk needs the summary of the root and of everything it imports, transitively,
// in a random order. It returns the packages and a digest of all their summaries,
// which does not depend on the order.
func walk(root string, order *rand.Rand, need func(path string) ([]byte, error)) (paths []string, digest string, err error) {
	sums := map[string][sha256.Size]byte{root: {}}
	for todo := []string{root}; len(todo) > 0; {
		at := order.IntN(len(todo))
		path := todo[at]
		todo = slices.Delete(todo, at, at+1)
		s, err := need(path)
		if err != nil {
			return nil, "", err
		}
		sums[path] = sha256.Sum256(s)
		for _, i := range imports(s) {
			if _, ok := sums[i]; !ok {
				sums[i] = [sha256.Size]byte{}
				todo = append(todo, i)
			}
		}
	}
	paths = slices.Sorted(maps.Keys(sums))
	all := sha256.New()
	for _, path := range paths {
		fmt.Fprintf(all, "%s %x\n", path, sums[path])
	}
	return paths, hex.EncodeToString(all.Sum(nil)), nil
}
