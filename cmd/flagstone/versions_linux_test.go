//go:build linux

package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// edits are what another version has changed: by file, from what to what.
type edits map[string][2]string

// buildVersion builds the command of another version from a copy of this module's
// sources, and returns its path.
func buildVersion(t *testing.T, name string, changes edits) (string, error) {
	tool, err := exec.LookPath("go")
	if err != nil {
		return "", err
	}
	root, copied := filepath.Join("..", ".."), t.TempDir()
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(copied, strings.TrimPrefix(path, root))
		switch base := filepath.Base(path); {
		case e.IsDir() && path != root && (base[0] == '.' || slices.Contains([]string{"bench", "testdata", "tools", "fuzz"}, base)):
			return fs.SkipDir
		case e.IsDir():
			return os.MkdirAll(to, 0o700)
		case strings.HasSuffix(base, "_test.go") || !slices.Contains([]string{".go", ".s", ".h", ".mod", ".sum", ".json", ".md", ".txt"}, filepath.Ext(base)):
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, content, 0o600)
	})
	if err != nil {
		return "", err
	}
	for file, change := range changes {
		path := filepath.Join(copied, file)
		content, err := os.ReadFile(path)
		if err != nil || strings.Count(string(content), change[0]) != 1 {
			return "", fmt.Errorf("%s has %q %d times: %w", file, change[0], strings.Count(string(content), change[0]), err)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(content), change[0], change[1], 1)), 0o600); err != nil {
			return "", err
		}
	}
	command := filepath.Join(copied, name)
	for _, args := range [][]string{{"generate", "./internal/layout"}, {"build", "-o", command, "./cmd/flagstone"}} {
		cmd := exec.Command(tool, args...)
		cmd.Dir, cmd.Env = copied, append(os.Environ(), "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return command, nil
}

// Three built versions of the command share a directory: this one, one of the next
// minor version with a field more, and one of the next major version.
func TestVersions_SideBySide_MinorShareMajorDoNot(t *testing.T) {
	if testing.Short() {
		t.Skip("builds two commands")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command: ", err)
	}
	const published = "\"major\": %d,\n  \"minor\": %d,\n  \"fingerprint\": \"%#016x\",\n"
	numbers := fmt.Sprintf(published, layout.Major, layout.Minor, uint64(layout.Fingerprint))
	newChanges := edits{
		"spec/layout.json": {numbers, fmt.Sprintf(published, layout.Major, layout.Minor+1, uint64(layout.Fingerprint))},
		// A field more, which the one that knows it writes, and a death before a record is live.
		"internal/layout/gen/main.go": {"	if err := check(s); err != nil {", `	for i := range s.Structs {
			if s.Structs[i].Name == "Region" {
				f := Field{Name: "Added", Type: "u64", Offset: 168, Writer: "owner", Order: "before CLAIMED", Initial: "0", Doc: "new", Since: s.Minor}
				at := slices.IndexFunc(s.Structs[i].Fields, func(g Field) bool { return g.Offset > f.Offset })
				s.Structs[i].Fields = slices.Insert(s.Structs[i].Fields, at, f)
			}
		}
	if err := check(s); err != nil {`},
		"internal/layout/gen/../gen/main.go": {"\t\"path/filepath\"\n", "\t\"path/filepath\"\n\t\"slices\"\n"},
		"table/table.go":                     {"	t.news.init()\n", "	t.news.init()\n	t.region.Added.Store(4711)\n"},
		"slab/set.go":                        {"	c.Version.Store(version) // pairs", "	if os.Getenv(\"FLAGSTONE_TEST_DIE\") != \"\" {\n		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)\n	}\n	c.Version.Store(version) // pairs"},
		"slab/../slab/set.go":                {"	\"math\"\n", "	\"math\"\n	\"os\"\n	\"syscall\"\n"},
	}
	nextChanges := edits{
		"spec/layout.json": {numbers, fmt.Sprintf("\"major\": %d,\n  \"minor\": 0,\n", layout.Major+1)},
	}
	var builds sync.WaitGroup
	var newer, next string
	for _, b := range []struct {
		command *string
		name    string
		changes edits
	}{{&newer, "newer", newChanges}, {&next, "next", nextChanges}} {
		builds.Go(func() {
			var err error
			if *b.command, err = buildVersion(t, b.name, b.changes); err != nil {
				t.Error(err)
			}
		})
	}
	if builds.Wait(); t.Failed() {
		return
	}

	this := newBench(t)
	minor, major := this, this
	minor.program, major.program = newer, next
	var v, w, x versionJSON
	this.run("version", "--json").exits(0).decode(&v)
	minor.run("version", "--json").exits(0).decode(&w)
	major.run("version", "--json").exits(0).decode(&x)
	if v.Fingerprint != w.Fingerprint || v.Layout == w.Layout || v.Fingerprint == x.Fingerprint || x.Layout != fmt.Sprintf("%d.0", layout.Major+1) {
		t.Fatalf("%+v, %+v, %+v", v, w, x)
	}

	t.Run("Minor", func(t *testing.T) {
		this.run("create", "c", "--entries", "100", "--shards", "1", "--max-value", "500").exits(0)
		this.run("set", "c", "a", "of this").exits(0)
		minor.run("get", "c", "a").exits(0).says("of this")
		minor.run("set", "c", "b", "of the newer").exits(0)
		minor.run("set", "c", "a", "changed").exits(0)
		this.run("get", "c", "b").exits(0).says("of the newer")
		this.run("get", "c", "a").exits(0).says("changed")

		dying := minor.command("set", "c", "a", strings.Repeat("lost", 100))
		dying.Env = append(dying.Env, "FLAGSTONE_TEST_DIE=1")
		if err := dying.Run(); err == nil || dying.ProcessState.Exited() {
			t.Fatalf("did not die: %v", err)
		}
		this.run("get", "c", "a").exits(0).says("changed")
		this.run("set", "c", "d", "after").exits(0)
		var st statJSON
		minor.run("stat", "c", "--json").exits(0).decode(&st)
		if st.Repairs.Steals != 1 || st.Repairs.Rebuilds != 1 || st.Content.Records != 3 {
			t.Errorf("%+v, %+v", st.Repairs, st.Content)
		}
		minor.run("check", "c").exits(0).says("sound")
		this.run("check", "c").exits(0).says("sound")

		// The newer one writes its field; the older leaves 0. The dead one's is there too.
		added := func(b bench) (newer, older int) {
			t.Helper()
			holder := b.hold("c")
			defer func() {
				holder.in.Close()
				_ = holder.cmd.Wait()
			}()
			for line := range strings.Lines(minor.run("dump", "c").exits(0).out) {
				switch {
				case !strings.Contains(line, "Added"):
				case strings.Contains(line, "4711"):
					newer++
				default:
					older++
				}
			}
			return newer, older
		}
		if newer, older := added(minor); newer != 2 || older != 0 {
			t.Errorf("%d regions of the newer, %d of the older", newer, older)
		}
		if newer, older := added(this); newer != 1 || older != 1 {
			t.Errorf("%d regions of the newer, %d of the older", newer, older)
		}
	})

	t.Run("Major", func(t *testing.T) {
		major.run("get", "c", "a").exits(exitError).warns("no such domain", "another one in layout v1")
		major.run("create", "c", "--entries", "50").exits(0)
		major.run("set", "c", "a", "of the next").exits(0)
		this.run("get", "c", "a").exits(0).says("changed")
		major.run("get", "c", "a").exits(0).says("of the next")
		this.run("ls").exits(0).says("another one in layout v2, this is v1")
		major.run("ls").exits(0).says("another one in layout v1, this is v2")
		this.run("stat", "c").exits(0).says("4 in 4", "another one in layout v2")
		major.run("stat", "c").exits(0).says("1 in 1", "another one in layout v1")

		holder := major.hold("c")
		var kept, gone gcJSON
		this.run("gc", "--json").exits(0).decode(&kept)
		if len(kept.Found) != 2 || kept.Found[0].Removed || kept.Found[1].Removed || kept.Found[1].Why != "in use" ||
			!slices.Contains(kept.Found[1].Pids, holder.cmd.Process.Pid) {
			t.Errorf("%+v", kept)
		}
		holder.in.Close()
		_ = holder.cmd.Wait()
		major.run("get", "c", "a").exits(0)
		this.run("destroy", "c").exits(0)
		major.run("get", "c", "a").exits(0).says("of the next")
		this.run("ls").exits(0).says("another one in layout v2")
		this.run("gc", "--json").exits(0).decode(&gone)
		if len(gone.Found) != 1 || !gone.Found[0].Removed || gone.Bytes == 0 || !strings.HasSuffix(gone.Found[0].Path, "v2") {
			t.Errorf("%+v", gone)
		}
		major.run("get", "c", "a").exits(exitError).warns("no such domain")
		if left, err := os.ReadDir(this.dir); err != nil || len(left) != 0 {
			t.Error(left, err)
		}
	})
}
