// Command gen makes spec/vectors: images of domains with fixed ids, seeds and clocks,
// and what the testee answers about them.
//
//	go run ./conformance/internal/vectors/gen TESTEE spec/vectors
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
	"github.com/flagstone-shm/flagstone/conformance/internal/vectors"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: gen TESTEE DIRECTORY")
		os.Exit(2)
	}
	if err := generate(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// generate writes all vectors, and removes those that are no more.
func generate(program, dir string) error {
	old, err := filepath.Glob(filepath.Join(dir, "*"+vectors.Suffix))
	if err != nil {
		return err
	}
	texts := map[string]string{}
	for _, p := range plans() {
		text, err := p.record(testee.Program{Name: "go", Words: []string{program}})
		if err != nil {
			return err
		}
		texts[filepath.Join(dir, p.name+vectors.Suffix)] = text
	}
	for _, path := range old {
		if _, stays := texts[path]; !stays {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	for path, text := range texts {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
