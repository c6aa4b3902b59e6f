//go:build linux

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestGC_UsedUnusedAndDebris_SaysAndRemoves(t *testing.T) {
	b := newBench(t)
	b.run("gc").exits(0).says("nothing there")
	for _, name := range []string{"used", "unused"} {
		b.run("create", name, "--entries", "100").exits(0)
		b.run("set", name, "key", "value").exits(0)
	}
	left := filepath.Join(b.dir, "used.flagstone", ".v1.0123456789abcdef")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "slab-0000000000000001"), make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	holder := b.hold("used")
	found := func(args ...string) (out gcJSON, by map[string]collectedJSON) {
		t.Helper()
		b.run(append([]string{"gc", "--json"}, args...)...).exits(0).decode(&out)
		by = map[string]collectedJSON{}
		for _, f := range out.Found {
			by[strings.TrimPrefix(f.Path, b.dir+"/")] = f
		}
		return out, by
	}

	b.run("gc", "--dry-run").exits(0).says("would remove", "left by a destroyer that died", "in use by", "nobody has it open, last used", "would free 64 KiB")
	out, by := found("--dry-run")
	if f := by["used.flagstone/.v1.0123456789abcdef"]; !out.DryRun || out.Bytes != 1<<16 || len(by) != 3 || !f.Garbage || f.Removed || f.Bytes != 1<<16 {
		t.Errorf("%+v", out)
	}
	if f := by["used.flagstone/v1"]; f.Why != "in use" || f.Garbage || f.Used == nil || !slices.Contains(f.Pids, holder.cmd.Process.Pid) {
		t.Errorf("%+v", f)
	}
	b.run("gc", "used").exits(0).says("removed", "kept", "freed 64 KiB")
	if out, by := found("--unused", "--idle", "1h"); out.Bytes != 0 || len(by) != 2 {
		t.Errorf("%+v", out)
	}
	if out, by := found("--unused"); out.Bytes == 0 || !by["unused.flagstone/v1"].Removed || by["used.flagstone/v1"].Removed {
		t.Errorf("%+v", out)
	}
	b.run("get", "used", "key").exits(0).says("value")
	b.run("get", "unused", "key").exits(exitError).warns("no such domain")
	b.run("gc", "unused").exits(exitError).warns("no such domain", "flagstone ls")
	b.run("gc", "../x").exits(exitUsage)
	b.run("gc", "--idle", "-1s").exits(exitUsage)
	b.run("__complete", "--dir", b.dir, "gc", "").exits(0).says("used")
}

// One command after the other makes and uses a cache while it is collected all the
// time: it is either there or made anew, and never taken from under one that has it.
func TestGC_WhileCommandsComeAndGo_NoneFails(t *testing.T) {
	b := newBench(t)
	collected := 0
	for i := range 12 {
		collector := b.start("gc", "--unused", "--json")
		b.run("create", "c", "--entries", "100").exits(0)
		holder := b.command("set", "c", "held", "-")
		holder.Stdin = strings.NewReader(strings.Repeat("v", 100))
		if out, err := holder.CombinedOutput(); err != nil && !strings.Contains(string(out), "no such domain") {
			t.Errorf("turn %d: %v: %s", i, err, out)
		}
		for range collector.lines {
			collected++
		}
		if err := collector.cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if collected != 12 {
		t.Errorf("%d of 12 said something", collected)
	}
}
