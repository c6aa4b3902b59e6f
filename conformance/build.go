package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// root returns the directory of the source tree that this command was built from.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(file))
}

func vectorsDir() string { return filepath.Join(root(), "spec", "vectors") }

// build builds the testees of this tree.
func build(errs io.Writer) ([]testee.Program, error) {
	tree := root()
	if _, err := os.Stat(filepath.Join(tree, "go.mod")); err != nil {
		return nil, fmt.Errorf("the source tree is not at %s: say which testees there are with --testee", tree)
	}
	goTestee := filepath.Join(tree, "bin", "testee-go")
	if err := compile(errs, tree, "go", "build", "-tags", "steps", "-o", goTestee, "./conformance/testee"); err != nil {
		return nil, err
	}
	programs := []testee.Program{{Name: "go", Words: []string{goTestee}}}
	dir := filepath.Join(tree, "clients", "c")
	if _, err := os.Stat(filepath.Join(dir, "testee.c")); errors.Is(err, os.ErrNotExist) {
		return programs, nil
	}
	if _, err := exec.LookPath("cc"); err != nil {
		fmt.Fprintln(errs, "conformance: there is no C compiler: the C testee is left out")
		return programs, nil
	}
	if err := compile(errs, dir, "make", "testee"); err != nil {
		return nil, err
	}
	return append(programs, testee.Program{Name: "c", Words: []string{filepath.Join(dir, "build", "testee")}}), nil
}

// compile runs a compiler in a directory, and shows what it says.
func compile(errs io.Writer, dir string, words ...string) error {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, errs, errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build a testee: %v in %s: %w", words, dir, err)
	}
	return nil
}
