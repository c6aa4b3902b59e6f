//go:build linux

package table

import (
	"os"
	"path/filepath"
	"testing"
)

// Who dies between making something under a hidden name and renaming it leaves it to the
// next one who makes the domain, or destroys it.
func TestOpen_CreatorsDiedOnTheWay_HiddenNamesRemoved(t *testing.T) {
	const number = ".0123456789abcdef"
	base := t.TempDir()
	parent := filepath.Join(base, "c"+suffix)
	dir := filepath.Join(parent, versionDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	foreign := []string{filepath.Join(base, ".c"+suffix+".notes"), filepath.Join(base, ".d"+suffix+number)}
	left := []string{filepath.Join(base, ".c"+suffix+number), filepath.Join(parent, "."+versionDir+number)}
	leave := func() {
		for _, d := range append(left, foreign...) {
			if err := os.Mkdir(d, 0o700); err != nil && !os.IsExist(err) {
				t.Fatal(err)
			}
		}
	}
	gone := func(names ...string) {
		t.Helper()
		for _, n := range names {
			if _, err := os.Lstat(n); !os.IsNotExist(err) {
				t.Errorf("%s is still there: %v", n, err)
			}
		}
		for _, n := range foreign {
			if _, err := os.Lstat(n); err != nil {
				t.Error(err)
			}
		}
	}
	leave()
	file := filepath.Join(dir, "."+controlFile+number)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := Open(t.Context(), Options{Dir: base, Name: "c"})
	if err != nil {
		t.Fatal(err)
	}
	gone(append(left, file)...)
	leave()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Destroy(t.Context(), base, "c"); err != nil {
		t.Fatal(err)
	}
	gone(append(left, parent)...)
}
