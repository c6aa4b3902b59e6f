package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone"
)

// The test binary is the workers too, and the victim of the kill tests.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case workerCommand:
			if err := work(os.Stdin, os.Stdout); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		case setterCommand, idlerCommand:
			if err := setter(os.Args[2], os.Args[1] == idlerCommand); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	os.Exit(m.Run())
}

const (
	setterCommand = "setter" // sets one large value again and again
	idlerCommand  = "idler"  // opens the cache and does nothing
)

// setter says "ready" and goes on until its input ends.
func setter(dir string, idle bool) error {
	c, err := flagstone.Open(context.Background(), "c", flagstone.Options{Dir: dir, MustExist: true})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	gone := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(gone)
	}()
	value := make([]byte, maxValue)
	for {
		select {
		case <-gone:
			return c.Close()
		default:
		}
		if idle {
			<-gone
			continue
		}
		if err := c.Set(context.Background(), []byte("large"), value, 0); err != nil {
			return err
		}
	}
}

// goTree writes a Go source tree in which every package pN imports some before
// it, one of them vendored, and large ones have a long comment.
func goTree(t *testing.T, packages, large int) (goroot string) {
	t.Helper()
	goroot = t.TempDir()
	write := func(path, text string) {
		t.Helper()
		file := filepath.Join(goroot, "src", filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("vendor/example.org/v/v.go", "// Package v is vendored.\npackage v\n\n// V is one.\nconst V = 1\n")
	write("testdata/t/t.go", "package t\n")
	write("empty/README", "nothing to build\n")
	padding := strings.Repeat("// as much text as a large package has in its comments ....\n", large/60)
	for n := range packages {
		var imports strings.Builder
		if n == 0 {
			imports.WriteString("import _ \"example.org/v\"\n")
		}
		for i := n / 2; i < n && i < n/2+3; i++ {
			fmt.Fprintf(&imports, "import _ \"p%d\"\n", i)
		}
		write(fmt.Sprintf("p%d/p.go", n), fmt.Sprintf(
			"// Package p%d is number %d.\n// It says no more.\npackage p%d\n\n%s\n%s\n"+
				"// F does nothing. At all.\nfunc F() {}\n\n// T is a type.\ntype T int\n\n// M is its method.\nfunc (T) M() {}\n\nfunc hidden() {}\n",
			n, n, n, imports.String(), padding))
		write(fmt.Sprintf("p%d/p_test.go", n), fmt.Sprintf("package p%d\n\nfunc missing( {}\n", n))
	}
	return goroot
}
