// Package rules holds the tree to its architecture: imports point one way, and
// unsafe has one home.
package rules

import (
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/flagstone-shm/flagstone"

// ranks orders the packages: each may import those of lower rank only. A folder
// below a listed one has its rank, and may import within it.
var ranks = map[string]int{
	"internal/step":     -1,
	"internal/cgroup":   0,
	"internal/layout":   0,
	"internal/clock":    1,
	"internal/shm":      1,
	"internal/format":   2,
	"internal/identity": 2,
	"lock":              3,
	"lru":               3,
	"signal":            3,
	"table":             4,
	"slab":              4,
	"internal/inside":   5,
	"":                  6, // package flagstone
	"cmd":               7,
	"conformance":       7,
	"examples":          7,
	"fuzz":              7,
	"internal/dump":     7,
}

// outside are the imports beyond the standard library, and who may have them.
var outside = map[string][]string{
	"golang.org/x/sys/unix":       {""},
	"github.com/edsrzf/mmap-go":   {"internal/shm"},
	"github.com/zeebo/xxh3":       {"internal/format", "slab", "cmd", "conformance"},
	"golang.org/x/sync/semaphore": {"lock"},
	"golang.org/x/sync/errgroup":  {"conformance"},
	"github.com/spf13/cobra":      {"cmd", "conformance"},
}

// unsafeFiles may import unsafe beside internal/shm.
func mayBeUnsafe(file string) bool {
	return strings.HasPrefix(file, "internal/shm/") || file == "internal/layout/layout_unsafe.go"
}

// rank returns the folder of ranks that dir lies in.
func rank(dir string) (folder string, n int, ok bool) {
	for d := dir; ; d = path.Dir(d) {
		if d == "." || d == "/" {
			d = ""
		}
		if n, ok := ranks[d]; ok && (d != "" || dir == "") {
			return d, n, true
		}
		if d == "" {
			return "", 0, false
		}
	}
}

// imports calls check for every import of every Go file of the library.
func imports(t *testing.T, check func(file, dir, imported string, test bool)) {
	t.Helper()
	root := filepath.Join("..", "..")
	count := 0
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		file := filepath.ToSlash(rel)
		if d.IsDir() {
			if file == "bench" || file == "tools" || file == "internal/rules" || strings.HasPrefix(file, ".") && file != "." || d.Name() == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := path.Dir(file)
		if dir == "." {
			dir = ""
		}
		for _, spec := range parsed.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			check(file, dir, imported, strings.HasSuffix(file, "_test.go"))
			count++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if count < 100 {
		t.Fatalf("only %d imports seen: is this the whole tree?", count)
	}
}

func TestImports_PointDownOnly(t *testing.T) {
	imports(t, func(file, dir, imported string, test bool) {
		own, below := strings.CutPrefix(imported+"/", module+"/")
		if !below || test {
			return
		}
		fromFolder, from, ok := rank(dir)
		if !ok {
			t.Errorf("%s: folder %q has no rank in this test", file, dir)
			return
		}
		toFolder, to, ok := rank(strings.TrimSuffix(own, "/"))
		if !ok || to >= from && toFolder != fromFolder {
			t.Errorf("%s (rank %d) imports %s (rank %d)", file, from, imported, to)
		}
	})
}

func TestImports_DependenciesHaveTheirPlace(t *testing.T) {
	imports(t, func(file, dir, imported string, test bool) {
		if !strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") || strings.HasPrefix(imported, module) || test {
			return
		}
		for _, folder := range outside[imported] {
			if dir == folder || folder == "" || strings.HasPrefix(dir, folder+"/") {
				return
			}
		}
		t.Errorf("%s imports %s: not listed for this folder", file, imported)
	})
}

func TestUnsafe_HasOneHome(t *testing.T) {
	imports(t, func(file, _, imported string, test bool) {
		if imported == types.Unsafe.Path() && !mayBeUnsafe(file) {
			t.Errorf("%s imports unsafe", file)
		}
		if imported == "C" {
			t.Errorf("%s uses cgo", file)
		}
	})
}
