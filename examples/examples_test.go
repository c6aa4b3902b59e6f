//go:build linux

// Package examples_test runs the examples: each ends by itself, with status 0 only
// if what it shows has held.
package examples_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestExamples_Run_EndWellAndLeaveNothing(t *testing.T) {
	names, err := filepath.Glob("*/main.go")
	if err != nil || len(names) < 4 {
		t.Fatalf("examples %v, %v: where are they?", names, err)
	}
	for _, main := range names {
		name := filepath.Dir(main)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			binary := filepath.Join(t.TempDir(), name)
			if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "./"+name).CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, out)
			}
			temp := t.TempDir()
			run := exec.CommandContext(ctx, binary)
			run.Env = append(os.Environ(), "TMPDIR="+temp)
			out, err := run.CombinedOutput()
			t.Logf("%s", out)
			if err != nil || len(out) == 0 {
				t.Fatalf("run: %v", err)
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Fatalf("left behind: %v, %v", left, err)
			}
		})
	}
}
