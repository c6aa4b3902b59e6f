//go:build linux && steps

package crash

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const module = "github.com/flagstone-shm/flagstone"

// notLibrary are the folders whose packages are not scanned: what passes no step, and
// programs, which change what is shared through the library alone.
var notLibrary = []string{"internal/step", "internal/layout", "internal/rules", "internal/crash", "internal/dump", "cmd", "conformance", "examples", "fuzz"}

// source is the library's sources with the tag steps, parsed and with their types.
type source struct {
	fset     *token.FileSet
	packages []*scanned
}

type scanned struct {
	path  string // below the module, "flagstone" for the root
	files []*ast.File
	info  *types.Info
}

// readSource reads the library's packages. The types of what they import come from the
// compiler's export data.
func readSource() (*source, error) {
	list := exec.Command("go", "list", "-export", "-deps", "-tags", "steps", "-json=ImportPath,Dir,GoFiles,Export,Standard", "./...")
	list.Dir = filepath.Join("..", "..")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	type listed struct {
		ImportPath, Dir, Export string
		GoFiles                 []string
		Standard                bool
	}
	exports := map[string]string{}
	var library []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		exports[p.ImportPath] = p.Export
		if below, ok := strings.CutPrefix(p.ImportPath+"/", module+"/"); ok && !slices.ContainsFunc(notLibrary, func(f string) bool { return strings.HasPrefix(below, f+"/") }) {
			library = append(library, p)
		}
	}
	s := &source{fset: token.NewFileSet()}
	imports := importer.ForCompiler(s.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, p := range library {
		one := &scanned{
			path: strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/"),
			info: &types.Info{
				Uses: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{},
				Instances: map[*ast.Ident]types.Instance{}, Types: map[ast.Expr]types.TypeAndValue{},
			},
		}
		if one.path == "" {
			one.path = "flagstone"
		}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(s.fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			one.files = append(one.files, f)
		}
		if _, err := (&types.Config{Importer: imports}).Check(p.ImportPath, s.fset, one.files, one.info); err != nil {
			return nil, err
		}
		s.packages = append(s.packages, one)
	}
	return s, nil
}

// functions visits the functions with a body.
func (s *source) functions(visit func(p *scanned, f *ast.FuncDecl)) {
	for _, p := range s.packages {
		for _, file := range p.files {
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
					visit(p, f)
				}
			}
		}
	}
}

// line is a place in the sources, as a running program knows it too.
type line struct {
	file string
	line int
}

func (s *source) at(pos token.Pos) line {
	p := s.fset.Position(pos)
	return line{strings.TrimPrefix(p.Filename, root+"/"), p.Line}
}

// names are the steps by their places. Within is how the halves of a copy are told
// apart: by the lines in the function that copies.
type names struct {
	steps  map[line]string
	within map[line]string
}

// all returns the names of all steps.
func (n *names) all() []string {
	seen := map[string]bool{}
	for _, name := range n.steps {
		seen[name] = true
		if strings.HasSuffix(name, ".Write") || strings.Contains(name, ".Write ") {
			for _, part := range n.within {
				seen[name+part] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// stores are the methods of shared words that store.
var stores = []string{"Store", "Add", "And", "Or", "Swap", "CompareAndSwap"}

// stepOf returns the function that a call calls, if the call is a step, and the
// receiver it is called on.
func (p *scanned) stepOf(call *ast.CallExpr) (op string, on ast.Expr, ok bool) {
	sel, isSel := call.Fun.(*ast.SelectorExpr)
	if !isSel {
		return "", nil, false
	}
	f, isFunc := p.info.Uses[sel.Sel].(*types.Func)
	if !isFunc || f.Pkg() == nil {
		return "", nil, false
	}
	name := f.Name()
	switch path := strings.TrimPrefix(f.Pkg().Path(), module+"/internal/"); {
	case path == "step" && name == "Here":
		return "Here", nil, true
	case path == "layout" && slices.Contains(stores, name) && f.Signature().Recv() != nil,
		path == "shm" && receiver(f) == "Window" && (name == "Write" || name == "Zero"):
		return name, sel.X, true
	}
	return "", nil, false
}

// named returns the name of a function, with its package and receiver.
func named(p *scanned, f *ast.FuncDecl) string {
	name := p.path[strings.LastIndexByte(p.path, '/')+1:] + "."
	if f.Recv != nil {
		t := f.Recv.List[0].Type
		if star, ok := t.(*ast.StarExpr); ok {
			t = star.X
		}
		name += types.ExprString(t) + "."
	}
	return name + f.Name.Name
}

// word returns what an expression calls the word: its last name.
func word(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.IndexExpr:
		return word(e.X)
	case *ast.CallExpr:
		return word(e.Fun)
	case *ast.ParenExpr:
		return word(e.X)
	case *ast.Ident:
		return e.Name
	}
	return types.ExprString(e)
}

// names finds the steps. A step is named by the function it stands in, the word and the
// operation, and counted where there are several of a name; one of a system call by
// that. Two steps on one line would be one step, and are an error.
func (s *source) names() (*names, error) {
	n := &names{map[line]string{}, map[line]string{}}
	var err error
	s.functions(func(p *scanned, f *ast.FuncDecl) {
		function := named(p, f)
		copier := function == "shm.Window.Write" || function == "shm.Window.Zero"
		calls := p.changingCalls(f)
		type site struct {
			call *ast.CallExpr
			name string
		}
		var sites []site
		ast.Inspect(f.Body, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			op, on, ok := p.stepOf(call)
			if !ok {
				return true
			}
			if on != nil {
				op = word(on) + "." + op
			} else if i := slices.IndexFunc(calls, func(c changing) bool { return c.pos > call.Pos() }); i >= 0 {
				op = calls[i].name
			}
			sites = append(sites, site{call, op})
			return true
		})
		slices.SortStableFunc(sites, func(a, b site) int { return int(a.call.Pos() - b.call.Pos()) })
		count := map[string]int{}
		for i, one := range sites {
			if copier {
				part := ""
				if i > 0 {
					part = " half"
				}
				n.within[s.at(one.call.Pos())] = part
				continue
			}
			count[one.name]++
			name := function + " " + one.name
			if count[one.name] > 1 {
				name = fmt.Sprintf("%s %d", name, count[one.name])
			}
			// A call of several lines is reported on that of its name or of its parenthesis.
			for from, to := s.at(one.call.Pos()), s.at(one.call.Lparen); from.line <= to.line; from.line++ {
				if other, taken := n.steps[from]; taken && other != name {
					err = errors.Join(err, fmt.Errorf("%s:%d: two steps on one line: %s, %s", from.file, from.line, other, name))
				}
				n.steps[from] = name
			}
		}
	})
	return n, err
}

// changing is a call, or the mark of one, that changes what processes share.
type changing struct {
	pos  token.Pos
	name string
}

// harmless are the functions of package unix that change nothing that others see, or
// do so only by an argument that is one of marks.
var harmless = []string{
	"ClockGettime", "Close", "FcntlFlock", "Fstat", "Fstatat", "Fstatfs", "Getrlimit", "Gettid", "Madvise", "MmapPtr", "NsecToTimespec", "Open", "Openat", "PidfdOpen",
	"Poll", "PthreadSigmask", "Read", "Stat", "Syscall6",
}

// marks are constants that make a system call one that changes something.
var marks = []string{"F_OFD_SETLK", "O_CREAT", "O_CREATE", "futexWake"}

// changingFiles are the methods of os.File that change the file.
var changingFiles = []string{"Truncate", "Chmod", "Chown", "Write", "WriteAt", "WriteString", "ReadFrom"}

// reading are the functions of package os that change no file.
var reading = []string{"OpenFile", "Open", "ReadFile", "ReadDir", "Lstat", "Stat", "Getpid", "Geteuid", "Getegid", "Getgroups", "NewFile", "Readlink", "Getuid", "Getpagesize"}

// changingCalls returns, in their order, the system calls of a function that change
// what processes share.
func (p *scanned) changingCalls(f *ast.FuncDecl) (all []changing) {
	if p.path == "internal/shm/forktest" { // forks test processes
		return nil
	}
	ast.Inspect(f.Body, func(node ast.Node) bool {
		id, ok := node.(*ast.Ident)
		if !ok {
			return true
		}
		switch o := p.info.Uses[id].(type) {
		case *types.Const:
			if slices.Contains(marks, o.Name()) {
				all = append(all, changing{id.Pos(), o.Name()})
			}
		case *types.Func:
			if o.Pkg() == nil {
				return true
			}
			path, recv := o.Pkg().Path(), receiver(o)
			if path == "golang.org/x/sys/unix" && recv == "" && !slices.Contains(harmless, o.Name()) ||
				path == "os" && recv == "File" && slices.Contains(changingFiles, o.Name()) ||
				path == "os" && recv == "" && !slices.Contains(reading, o.Name()) {
				all = append(all, changing{id.Pos(), o.Name()})
			}
		}
		return true
	})
	return all
}

// receiver returns the name of a method's receiver type, "" for a function.
func receiver(f *types.Func) string {
	recv := f.Signature().Recv()
	if recv == nil {
		return ""
	}
	t := recv.Type()
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if n, ok := t.(*types.Named); ok {
		return n.Obj().Name()
	}
	return "?"
}

// of returns the name of a step that was passed.
func (n *names) of(s site) string {
	name := n.steps[line{s.File, s.Line}]
	if s == end.Site {
		return "end"
	}
	if name == "" {
		return fmt.Sprintf("%s:%d", s.File, s.Line)
	}
	for at, part := range n.within {
		if at.line == s.Within {
			name += part
		}
	}
	return name
}
