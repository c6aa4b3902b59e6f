//go:build linux

package table

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// mounted returns the path of a new mount, or skips.
func mounted(t *testing.T, kind, options string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount(kind, dir, kind, 0, options); err != nil {
		t.Skipf("cannot mount %s: %v", kind, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func mustSay(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func mustBeEmpty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestOpen_InUserSpace_ErrFileSystemNothingMade(t *testing.T) {
	dir := mountFUSE(t)
	_, err := Open(limited(t), options(dir))
	mustFail(t, err, ErrFileSystem)
	mustSay(t, err, "needed", "fuse", "0x65735546", "/dev/shm")
}

// A domain that a type of file system keeps others out of is not used, even if it is there.
func TestOpen_ControlInUserSpace_ErrFileSystem(t *testing.T) {
	dir := t.TempDir()
	h := openTable(t, options(dir))
	must(t, h.Close())
	// The folder of the version is another file system.
	if err := unix.Mount(mountFUSE(t), filepath.Join(dir, "d"+suffix), "", unix.MS_BIND, ""); err != nil {
		t.Skip(err)
	}
	defer func() { _ = unix.Unmount(filepath.Join(dir, "d"+suffix), unix.MNT_DETACH) }()
	_, err := Open(limited(t), options(dir))
	mustFail(t, err, ErrFileSystem)
}

// A domain is made in the innermost folder that is there, whatever the outer ones are on.
func TestOpen_VolumeForOneDomain_RoomAndTypeAreTheVolumes(t *testing.T) {
	dir := t.TempDir()
	inner := filepath.Join(dir, "d"+suffix)
	must(t, os.Mkdir(inner, 0o700))
	if err := unix.Mount("tmpfs", inner, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		t.Skip(err)
	}
	defer func() { _ = unix.Unmount(inner, unix.MNT_DETACH) }()
	o := options(dir)
	o.Room = 2 << 20
	_, err := Open(limited(t), o)
	mustFail(t, err, ErrNoSpace)
	mustBeEmpty(t, inner)
	o.Room = 0
	openTable(t, o)
}

func TestOpen_RamFileSystem_Works(t *testing.T) {
	o := options(mounted(t, "ramfs", "mode=0700"))
	a, b := openTable(t, o), openTable(t, o)
	if a.UUID() != b.UUID() {
		t.Fatal("two domains")
	}
}

// A type that nothing is known of is tried out: this one has locks and mappings, but not
// of single pages.
func TestOpen_HugePages_ErrFileSystemNothingLeft(t *testing.T) {
	dir := mounted(t, "hugetlbfs", "mode=0700")
	_, err := Open(limited(t), options(dir))
	mustFail(t, err, ErrFileSystem)
	mustSay(t, err, "needed", "/dev/shm")
	mustBeEmpty(t, dir)
}

func TestOpen_NoLocks_ErrLocksNothingLeft(t *testing.T) {
	defer func() { flock = unix.FcntlFlock }()
	for _, errno := range []unix.Errno{unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.ENOLCK} {
		flock = func(uintptr, int, *unix.Flock_t) error { return errno }
		dir := t.TempDir()
		_, err := Open(limited(t), options(dir))
		mustFail(t, err, ErrLocks, errors.ErrUnsupported, errno)
		mustBeEmpty(t, dir)
		flock = unix.FcntlFlock
		must(t, openTable(t, options(dir)).Close())
		flock = func(uintptr, int, *unix.Flock_t) error { return errno }
		_, err = Open(limited(t), options(dir))
		mustFail(t, err, ErrLocks)
		flock = unix.FcntlFlock
		openTable(t, options(dir))
	}
}

// Locks that are granted and not remembered.
func TestMustBeHeld_LockForgotten_ErrLocks(t *testing.T) {
	h := openTable(t, options(t.TempDir()))
	must(t, h.tryLease())
	must(t, unlock(h.control, leaseByte(h.self)))
	mustFail(t, h.tryLease(), ErrLocks)
	_, err := tryLock(h.control, leaseByte(h.self))
	must(t, err)
}

// What a system call refused says what is needed, what is there, and the remedy.
func TestExplain_SystemCalls_TypedAndSaid(t *testing.T) {
	for _, c := range []struct {
		errno unix.Errno
		want  error
		words []string
	}{
		{unix.EMFILE, ErrNoDescriptor, []string{"one more needed", "RLIMIT_NOFILE", "ulimit -n"}},
		{unix.ENFILE, ErrNoDescriptor, []string{"one more needed", "fs.file-max"}},
		{unix.ENOMEM, ErrNoMemory, []string{"RLIMIT_AS is unlimited", "pages are mapped", "ulimit -v", "vm.max_map_count"}},
		{unix.ENOSPC, ErrNoSpace, []string{"needed", "none left", "nr_inodes"}},
		{unix.EDQUOT, ErrNoSpace, []string{"quota"}},
		{unix.EROFS, ErrAccess, []string{"writing needed", "mounted for reading", "ReadOnly"}},
		{unix.EACCES, ErrAccess, []string{"user", "right needed", "Dir"}},
		{unix.EPERM, ErrAccess, []string{"user"}},
		{unix.ENAMETOOLONG, ErrOptions, []string{"needed", "shorten"}},
		{unix.ENODEV, ErrFileSystem, []string{"needed", "/dev/shm"}},
	} {
		err := wrap(&os.PathError{Op: "open", Path: "/a/b", Err: c.errno}, "open domain %s", "d")
		mustFail(t, err, c.want, c.errno)
		mustSay(t, err, append(c.words, "open domain d", "/a/b", c.errno.Error())...)
		if again := wrap(err, "more"); strings.Count(again.Error(), c.want.Error()) != 1 {
			t.Errorf("said twice: %v", again)
		}
	}
	plain := errors.New("plain")
	if got := explain(plain); got != plain {
		t.Error(got)
	}
	if got := explain(unix.EIO); got != unix.EIO {
		t.Error(got)
	}
}

// Every refusal of Open names what is wrong, the values, and what to do.
func TestOpen_Refused_SaysValuesAndRemedy(t *testing.T) {
	header := func(change func(h *layout.ControlHeader)) func(t *testing.T, o *Options) {
		return func(t *testing.T, o *Options) { rewrite(t, *o, true, change) }
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, o *Options)
		want  error
		words []string
	}{
		"every region taken": {func(t *testing.T, o *Options) {
			for range 8 {
				openTable(t, *o)
			}
		}, ErrNoRegion, []string{"one needed", "all 8", "close a handle", "more Regions"}},
		"older boot": {
			header(func(h *layout.ControlHeader) { h.BootID[0].Add(1) }), ErrStaleBoot,
			[]string{"BootID", "want", "destroy"},
		},
		"newer version": {
			header(func(h *layout.ControlHeader) { h.WriteVersion.Store(layout.Major + 1) }), ErrVersion,
			[]string{"WriteVersion is 0x2, want 0x1", "newer version of this program"},
		},
		"other layout": {
			header(func(h *layout.ControlHeader) { h.Fingerprint.Add(1) }), ErrFingerprint,
			[]string{"Fingerprint", "want", "the version that made it"},
		},
		"feature":      {header(func(h *layout.ControlHeader) { h.Incompatible.Store(4) }), ErrFeature, []string{"0x4", "newer version"}},
		"not a domain": {header(func(h *layout.ControlHeader) { h.Magic.Add(1) }), ErrMagic, []string{"Magic", "another name"}},
		"truncated": {func(t *testing.T, o *Options) {
			must(t, os.Truncate(filepath.Join(o.Dir, "d"+suffix, versionDir, controlFile), 8192))
		}, ErrTruncated, []string{"file size is 0x2000, want", "destroy"}},
		"no such thing": {func(t *testing.T, o *Options) { o.Name, o.MustExist = "other", true }, ErrNotFound, []string{"without MustExist"}},
		"no directory":  {func(t *testing.T, o *Options) { o.Dir += "/none" }, os.ErrNotExist, []string{"directory of domains", "/none"}},
		"name too long": {func(t *testing.T, o *Options) { o.Dir = "/" + strings.Repeat("a", 300) }, ErrOptions, []string{"shorten"}},
		"writable by all": {
			func(t *testing.T, o *Options) { must(t, os.Chmod(o.Dir+"/d"+suffix, 0o777)) }, ErrUnsafeDir,
			[]string{"mode is 0777, want at most 0700", "take the rights of others away"},
		},
		"a link": {func(t *testing.T, o *Options) {
			must(t, os.Rename(o.Dir+"/d"+suffix, o.Dir+"/x"))
			must(t, os.Symlink(o.Dir+"/x", o.Dir+"/d"+suffix))
		}, ErrUnsafeDir, []string{"type is 0120000, want 040000", "remove it"}},
		"of another user": {func(t *testing.T, o *Options) {
			if os.Geteuid() != 0 {
				t.Skip("needs root to give a directory away")
			}
			must(t, os.Chown(o.Dir+"/d"+suffix, 12345, -1))
		}, ErrUnsafeDir, []string{"owner is 12345, want 0", "open as that user", "Group"}},
		"of another group": {func(t *testing.T, o *Options) {
			if os.Geteuid() != 0 {
				t.Skip("needs root to give a directory away")
			}
			o.Group = true
			must(t, os.Chown(o.Dir+"/d"+suffix, 12345, 12345))
		}, ErrUnsafeDir, []string{"group is 12345, want", "join"}},
		"inodes used up": {func(t *testing.T, o *Options) { o.Dir = mounted(t, "tmpfs", "nr_inodes=3,mode=0700") }, ErrNoSpace, []string{"needed", "nr_inodes"}},
		"no room": {func(t *testing.T, o *Options) { o.Name, o.Room = "other", 1<<60 }, ErrNoSpace, []string{
			"bytes needed", "free;", "enlarge", "ask for less",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t.TempDir())
			must(t, openTable(t, o).Close())
			dir := o.Dir
			c.spoil(t, &o)
			_, err := Open(limited(t), o)
			mustFail(t, err, c.want)
			mustSay(t, err, append(c.words, "open domain "+o.Name)...)
			if o.Dir != dir && name == "inodes used up" {
				mustBeEmpty(t, o.Dir)
			}
		})
	}
}

// Whoever reads a directory that others remove meanwhile finds nothing in it.
func TestReadNames_DirectoryRemoved_Nothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	must(t, os.Mkdir(path, 0o700))
	dir, err := os.Open(path)
	must(t, err)
	defer dir.Close()
	must(t, os.Remove(path))
	if names, err := readNames(dir); len(names) != 0 || err != nil {
		t.Fatal(names, err)
	}
}
