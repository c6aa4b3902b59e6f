//go:build linux

package shm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/cgroup"
)

// mounted returns a new mount of a file system, or skips.
func mounted(t *testing.T, kind, options string) *os.File {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(kind, dir, kind, 0, options); err != nil {
		t.Skipf("cannot mount %s: %v", kind, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// It fills up after Room has looked: fallocate says so, and takes back what it had.
func TestReserve_FilledMeanwhile_ErrNoSpaceAndNothingTaken(t *testing.T) {
	dir := mounted(t, "tmpfs", "size=1m")
	if err := os.WriteFile(filepath.Join(dir.Name(), "other"), make([]byte, 700<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(dir, "segment", true, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var before, after unix.Statfs_t
	if err := statfs(f, &before); err != nil {
		t.Fatal(err)
	}
	err = allocate(f, 512<<10)
	if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "524288 bytes needed") {
		t.Fatal(err)
	}
	if err := statfs(f, &after); err != nil || after.Bfree != before.Bfree {
		t.Fatalf("%d blocks free, there were %d; %v", after.Bfree, before.Bfree, err)
	}
}

func TestRoom_GroupLeavesLess_ErrNoMemoryWhereMemoryIsUsed(t *testing.T) {
	defer func(was func() (cgroup.Room, bool)) { groupMemory = was }(groupMemory)
	groupMemory = func() (cgroup.Room, bool) {
		return cgroup.Room{Free: 5000, Limit: 9000, File: "/sys/fs/cgroup/memory.max"}, true
	}
	dir := mounted(t, "tmpfs", "size=1m")
	if err := Room(dir, 5000); err != nil {
		t.Fatal(err)
	}
	err := Room(dir, 5001)
	if !errors.Is(err, ErrNoMemory) || !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
	for _, said := range []string{"5001 bytes needed", "5000 free of the 9000 in /sys/fs/cgroup/memory.max", "raise"} {
		if !strings.Contains(err.Error(), said) {
			t.Errorf("%q does not say %q", err, said)
		}
	}
	var fs unix.Statfs_t
	here, err := os.Open(".")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	if err := statfs(here, &fs); err != nil || fileSystems[fs.Type].memory {
		t.Skip("the tree is in memory")
	}
	if err := Room(here, 5001); err != nil { // on a disk pages can be written back
		t.Fatal(err)
	}
}

func TestCheckFileSystem_Kinds_KnownUnknownRefused(t *testing.T) {
	for kind, want := range map[string]bool{"tmpfs": true, "ramfs": true, "hugetlbfs": false} {
		t.Run(kind, func(t *testing.T) {
			if known, err := CheckFileSystem(mounted(t, kind, "")); known != want || err != nil {
				t.Fatal(known, err)
			}
		})
	}
	memory, remote := 0, 0
	for _, is := range fileSystems {
		if is.memory {
			memory++
		}
		if is.remote {
			remote++
		}
		if is.memory && is.remote || is.name == "" {
			t.Errorf("%+v", is)
		}
	}
	if memory != 2 || remote < 10 {
		t.Errorf("%d in memory, %d remote", memory, remote)
	}
}

func TestCheckMapping_SameFileOrNot_AgreesOrErrFileSystem(t *testing.T) {
	dir := mounted(t, "tmpfs", "size=1m")
	open := func(name string) *os.File {
		f, err := OpenFile(dir, name, true, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	a := open("a")
	if err := CheckMapping(a, open("a")); err != nil {
		t.Fatal(err)
	}
	if info, err := a.Stat(); err != nil || info.Size() != 0 {
		t.Fatal(info.Size(), err)
	}
	other := open("b")
	if err := other.Truncate(4096); err != nil {
		t.Fatal(err)
	}
	// What two descriptions that do not share would look like.
	if err := CheckMapping(a, other); !errors.Is(err, ErrFileSystem) {
		t.Fatal(err)
	}
	if err := CheckMapping(a, open("empty")); !errors.Is(err, ErrFileSystem) {
		t.Fatal(err)
	}
}
