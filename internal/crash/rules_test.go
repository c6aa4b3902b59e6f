//go:build linux && steps

package crash

import (
	"go/ast"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sources reads the library's sources.
func sources(t *testing.T) *source {
	t.Helper()
	s, err := readSource()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What lies over a window has words of package layout, whose every store is a step.
// With the tag these are no atomics of the standard library, so a pointer to one cannot
// lead into a window either; unsafe has one home (internal/rules). Bare bytes are for
// applications' own segments.
func TestWindows_OnlyWordsOfTheLayoutOverThem(t *testing.T) {
	s := sources(t)
	overlays := 0
	for _, p := range s.packages {
		for id, inst := range p.info.Instances {
			f, ok := p.info.Uses[id].(*types.Func)
			if !ok || f.Pkg().Path() != module+"/internal/shm" || f.Name() != "At" {
				continue
			}
			overlays++
			if over := inst.TypeArgs.At(0); !stepping(over) {
				t.Errorf("%s:%d: shm.At[%v]: stores to it would be without a step", s.at(id.Pos()).file, s.at(id.Pos()).line, over)
			}
		}
	}
	if overlays < 25 {
		t.Errorf("only %d overlays found", overlays)
	}
	s.functions(func(p *scanned, f *ast.FuncDecl) {
		ast.Inspect(f.Body, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				if m, ok := p.info.Uses[id].(*types.Func); ok && m.Name() == "Bytes" && receiver(m) == "Segment" && m.Pkg().Path() == module+"/internal/shm" {
					if name := named(p, f); name != "table.Segment.Bytes" && name != "table.Segment.Do" {
						t.Errorf("%s uses a segment's bare bytes", name)
					}
				}
			}
			return true
		})
	})
}

// The page has a row for each step there is, and no other: a new step, or another name of
// one, is a reason to run make crash.
func TestPage_RowsAreTheStepsOfTheSources(t *testing.T) {
	n, err := sources(t).names()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "crash-matrix.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(page)) {
		if row, ok := strings.CutPrefix(line, "| `"); ok {
			step, _, _ := strings.Cut(row, "`")
			rows = append(rows, step)
		}
	}
	want := append(n.all(), "end")
	for _, step := range want {
		if !slices.Contains(rows, step) {
			t.Errorf("%s is not on the page: make crash", step)
		}
	}
	for _, row := range rows {
		if !slices.Contains(want, row) {
			t.Errorf("%s is on the page, and no step: make crash", row)
		}
	}
	if len(rows) != len(want) {
		t.Errorf("%d rows for %d steps", len(rows), len(want))
	}
}

// stepping reports whether a type consists of the layout's words.
func stepping(t types.Type) bool {
	switch t := types.Unalias(t).(type) {
	case *types.Named:
		return t.Obj().Pkg() != nil && t.Obj().Pkg().Path() == module+"/internal/layout"
	case *types.Array:
		return stepping(t.Elem())
	}
	return false
}

// Within the home of unsafe, what stores into a window says so itself: nothing else there
// writes through a pointer that it makes of one.
func TestUnsafe_StoresAreInTheCopies(t *testing.T) {
	s := sources(t)
	s.functions(func(p *scanned, f *ast.FuncDecl) {
		if p.path != "internal/shm" {
			return
		}
		name := named(p, f)
		through := func(e ast.Expr) { // an integer behind a pointer
			star, ok := ast.Unparen(e).(*ast.StarExpr)
			if !ok {
				return
			}
			if b, ok := p.info.Types[star].Type.Underlying().(*types.Basic); ok && b.Info()&types.IsInteger != 0 && name != "shm.Increment" {
				t.Errorf("%s: %s may store into a window without a step", name, types.ExprString(star))
			}
		}
		ast.Inspect(f.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, e := range n.Lhs {
					through(e)
				}
			case *ast.IncDecStmt:
				through(n.X)
			}
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			var op string
			switch fun := ast.Unparen(call.Fun).(type) {
			case *ast.Ident:
				if _, builtin := p.info.Uses[fun].(*types.Builtin); builtin && (fun.Name == "copy" || fun.Name == "clear") {
					op = fun.Name
				}
			case *ast.SelectorExpr:
				if o, ok := p.info.Uses[fun.Sel].(*types.Func); ok && o.Pkg() != nil && o.Pkg().Path() == "sync/atomic" && o.Signature().Recv() == nil && !strings.HasPrefix(o.Name(), "Load") {
					op = "atomic." + o.Name()
				}
			}
			allowed := []string{"shm.Window.Write", "shm.Window.Zero", "shm.Window.Read"}
			if op != "" && !slices.Contains(allowed, name) {
				t.Errorf("%s: %s may store into a window without a step", name, op)
			}
			return true
		})
	})
}

// Every system call that changes what processes share has its step just before it, in the
// same function; and a step stands before nothing else.
func TestSystemCalls_EachHasItsStep(t *testing.T) {
	s := sources(t)
	calls := 0
	s.functions(func(p *scanned, f *ast.FuncDecl) {
		var marks []changing
		ast.Inspect(f.Body, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if op, _, ok := p.stepOf(call); ok && op == "Here" {
					marks = append(marks, changing{call.Pos(), ""})
				}
			}
			return true
		})
		name := named(p, f)
		if name == "shm.Window.Write" || name == "shm.Window.Zero" {
			return
		}
		all := append(marks, p.changingCalls(f)...)
		slices.SortFunc(all, func(a, b changing) int { return int(a.pos - b.pos) })
		for i, c := range all {
			switch {
			case c.name == "" && (i+1 == len(all) || all[i+1].name == ""):
				t.Errorf("%s:%d: %s: step.Here before no system call that changes anything", s.at(c.pos).file, s.at(c.pos).line, name)
			case c.name != "" && (i == 0 || all[i-1].name != ""):
				t.Errorf("%s:%d: %s: %s without step.Here() before it", s.at(c.pos).file, s.at(c.pos).line, name, c.name)
			case c.name != "":
				calls++
			}
		}
	})
	if calls < 15 {
		t.Errorf("only %d system calls found", calls)
	}
}
