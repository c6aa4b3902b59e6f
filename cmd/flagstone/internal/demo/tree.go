package demo

import (
	"errors"
	"fmt"
	"go/build"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tree is a Go source tree, such as a toolchain's. Its methods may be called
// concurrently.
type tree struct {
	src   string
	build build.Context
}

// source is what must be read to summarise a package.
type source struct {
	files   []string // paths
	imports []string // resolved, in order
	bytes   int64
}

func newTree(goroot string) tree {
	c := build.Default
	c.GOROOT, c.CgoEnabled, c.GOPATH = goroot, false, ""
	return tree{src: filepath.Join(goroot, "src"), build: c}
}

// load finds the package's files for this platform and resolves its imports.
func (t tree) load(path string) (source, error) {
	dir := filepath.Join(t.src, filepath.FromSlash(path))
	p, err := t.build.ImportDir(dir, 0)
	if err != nil {
		return source{}, fmt.Errorf("package %s: %w", path, err)
	}
	var s source
	for _, name := range p.GoFiles {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return source{}, fmt.Errorf("package %s: %w", path, err)
		}
		s.files = append(s.files, filepath.Join(dir, name))
		s.bytes += info.Size()
	}
	for _, name := range p.Imports {
		if resolved, ok := t.resolve(path, name); ok {
			s.imports = append(s.imports, resolved)
		}
	}
	slices.Sort(s.imports)
	return s, nil
}

// resolve returns where an import of the package leads: the toolchain's vendored
// copies come first. What the tree does not have is left out.
func (t tree) resolve(from, name string) (string, bool) {
	candidates := []string{"vendor/" + name, name}
	if strings.HasPrefix(from, "cmd/") {
		candidates = []string{"cmd/vendor/" + name, name}
	}
	for _, c := range candidates {
		if info, err := os.Stat(filepath.Join(t.src, filepath.FromSlash(c))); err == nil && info.IsDir() {
			return c, true
		}
	}
	return "", false
}

// text returns the package's source text, file after file.
func (t tree) text(path string) ([]byte, error) {
	s, err := t.load(path)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, s.bytes)
	for _, file := range s.files {
		part, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", path, err)
		}
		out = append(out, part...)
	}
	return out, nil
}

// catalogue is the sources of all packages of a tree, by path.
type catalogue map[string]source

// catalogue loads all packages that have files for this platform.
func (t tree) catalogue() (catalogue, error) {
	all := catalogue{}
	top, err := filepath.EvalSymlinks(t.src) // a link on Debian
	if err != nil {
		return nil, fmt.Errorf("find the Go source: %w", err)
	}
	err = filepath.WalkDir(top, func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || dir == top {
			return err
		}
		if name := d.Name(); name == "testdata" || strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".") {
			return fs.SkipDir
		}
		rel, err := filepath.Rel(top, dir)
		if err != nil {
			return err
		}
		path := filepath.ToSlash(rel)
		s, err := t.load(path)
		var none *build.NoGoError
		var mixed *build.MultiplePackageError
		switch {
		case errors.As(err, &none), errors.As(err, &mixed):
			return nil
		case err != nil:
			return err
		}
		all[path] = s
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the Go source in %s: %w", t.src, err)
	}
	return all, nil
}

// paths returns all packages in order.
func (c catalogue) paths() []string {
	return slices.Sorted(maps.Keys(c))
}

// closure adds the package and all it imports, transitively, to seen and returns
// how many bytes of source were new.
func (c catalogue) closure(path string, seen map[string]bool) (bytes int64) {
	if seen[path] {
		return 0
	}
	seen[path] = true
	bytes = c[path].cost()
	for _, i := range c[path].imports {
		bytes += c.closure(i, seen)
	}
	return bytes
}

// cost is what summarising takes, in bytes of source; a file has its price too.
func (s source) cost() int64 { return s.bytes + int64(len(s.files))*perFile }

const perFile = 4 << 10
