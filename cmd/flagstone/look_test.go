package main

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/table"
)

// hold starts a command that has a region of the cache until the test ends: a set
// whose value never comes.
func (b bench) hold(name string) *background {
	b.Helper()
	watcher := b.start("watch", name, "--json")
	watcher.await("published")
	holder := b.start("set", name, "held", "-")
	for watcher.await("joined").Region.Pid != uint32(holder.cmd.Process.Pid) {
	}
	_ = watcher.cmd.Process.Kill()
	return holder
}

// looks runs all that only looks at a cache with one record, "key".
func (b bench) looks(name string) {
	b.Helper()
	b.run("ls").exits(0).says(name)
	b.run("stat", name).exits(0).says("records     1 in 1 of", "primary")
	b.run("keys", name).exits(0).says("key\t5\tforever")
	b.run("get", name, "key").exits(0).says("value")
	b.run("get", name, "none").exits(exitNegative)
	b.run("get", name, "key", "--namespace", "none").exits(exitNegative)
	b.run("get", name, "--hash", "7").exits(exitNegative)
	b.run("ttl", name, "key").exits(0).says("forever")
	b.run("watch", name, "--count", "1").exits(0)
	b.run("dump", name).exits(0)
}

func TestLook_AllRegionsTaken_WorksAndNobodyNotices(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "100", "--regions", "1").exits(0)
	b.run("set", "c", "key", "value").exits(0)
	holder := b.hold("c")
	b.run("set", "c", "key", "v").exits(exitError).warns("no free region", "flagstone stat", "--regions")

	domain, err := table.Inspect(table.Options{Dir: b.dir, Name: "c"})
	if err != nil {
		t.Fatal(err)
	}
	defer domain.Close()
	before := domain.Changes()
	b.looks("c")
	if now := domain.Changes(); now != before {
		t.Errorf("%d changes, %d before", now, before)
	}
	var st statJSON
	b.run("stat", "c", "--json").exits(0).decode(&st)
	if st.Name != "c" || st.Path != domain.Dir() || st.Changes != before || len(st.UUID) != 32 || len(st.Entries) != 1 ||
		len(st.Regions) != 1 || st.Regions[0].Pid != uint32(holder.cmd.Process.Pid) || st.Total.Hits+st.Total.Misses != 0 {
		t.Errorf("%+v", st)
	}
}

// Nobody else is there who could write, and files cannot be opened for writing,
// unless this is root.
func TestLook_ReadOnlyDirectory_WorksWithoutAByteWritten(t *testing.T) {
	b := newBench(t)
	var made createdJSON
	b.run("create", "c", "--entries", "100", "--json").exits(0).decode(&made)
	b.run("set", "c", "key", "value").exits(0)
	permit := func(dir, file fs.FileMode) {
		t.Helper()
		modes := map[string]fs.FileMode{b.dir: dir, filepath.Dir(made.Path): dir, made.Path: dir}
		for path := range contents(t, b.dir) {
			modes[path] = file
		}
		for path, mode := range modes {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	permit(0o500, 0o400)
	defer permit(0o700, 0o600)
	before := contents(t, b.dir)
	b.looks("c")
	if !maps.Equal(before, contents(t, b.dir)) {
		t.Error("bytes changed")
	}
}

// contents returns what is in all files below dir.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		all[path] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Who died in a rebuild left the shard's epoch so; looking cannot take its lock.
func TestLook_ShardLeftInRebuild_SaysWhatHelps(t *testing.T) {
	b := newBench(t)
	damaged(t, b, "c", func(uint64) (at, word uint64) {
		for _, f := range layout.Structs["Shard"].Fields {
			if f.Name == "Epoch" {
				return f.Offset, layout.EpochRebuilding
			}
		}
		t.Fatal("no field Epoch")
		return 0, 0
	})
	for _, args := range [][]string{{"get", "c", "key0"}, {"keys", "c"}, {"ttl", "c", "key0"}} {
		b.run(args...).exits(exitError).warns("try again", "flagstone check c")
	}
	b.run("stat", "c").exits(0)
	b.run("check", "c").exits(0)
	b.run("get", "c", "key0").exits(0).says("value0")
}
