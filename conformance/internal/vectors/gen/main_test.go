//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
	"github.com/flagstone-shm/flagstone/conformance/internal/vectors"
)

const kept = "../../../../spec/vectors"

// The vectors are what the generator makes, byte by byte, and nothing else.
func TestVectors_Regenerated_Same(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "testee")
	if out, err := exec.Command("go", "build", "-o", program, "../../../testee").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := generate(program, dir); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, in := range []string{dir, kept} {
		all, err := filepath.Glob(filepath.Join(in, "*"+vectors.Suffix))
		if err != nil || len(all) == 0 {
			t.Fatalf("%s: %d vectors, %v", in, len(all), err)
		}
		for _, path := range all {
			names[filepath.Base(path)] = true
		}
	}
	for name := range names {
		want, _ := os.ReadFile(filepath.Join(dir, name)) // what is not there differs
		got, _ := os.ReadFile(filepath.Join(kept, name))
		if string(got) != string(want) {
			t.Errorf("%s is not what make vectors makes", name)
		}
	}
}

// Whatever opens an image looks at all of it in the end.
func TestPlans_FullScript_EndsWithTheTail(t *testing.T) {
	for _, p := range plans() {
		script := p.scripts[suite.Full]
		ends := len(script) > len(tail) && slices.Equal(script[len(script)-len(tail):], tail)
		if ends == strings.HasPrefix(p.name, "refused-") {
			t.Errorf("%s ends with %q", p.name, script[max(0, len(script)-len(tail)):])
		}
	}
}

// What is written is read back as it was.
func TestVectors_ReadBack_SameFiles(t *testing.T) {
	all, err := vectors.Read(kept)
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]*vectors.Vector{}
	for _, v := range all {
		read[v.Name] = v
	}
	for _, p := range plans() {
		v := read[p.name]
		if v == nil {
			t.Errorf("%s is missing", p.name)
			continue
		}
		for i, f := range p.make().files() {
			if got := v.Files[i]; got.Name != f.Name || string(got.Bytes) != string(f.Bytes) {
				t.Errorf("%s: file %s differs", p.name, f.Name)
			}
		}
	}
}
