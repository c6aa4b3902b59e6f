package table

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/internal/step"
)

// openBase opens the directory that domains are in. It may be reached by links,
// but strangers must not be able to rename what is in it.
func openBase(dir string) (*os.File, error) {
	if err := shm.NotForked(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("directory of domains: %w: %w; make it, or choose another Dir", ErrOptions, err)
	case err != nil:
		return nil, fmt.Errorf("directory of domains: %w", err)
	}
	if _, err := shm.CheckFileSystem(f); err != nil {
		f.Close()
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if st.Nlink == 0 {
		f.Close()
		return nil, fmt.Errorf("directory of domains: %w: %s was removed; make it, or choose another Dir", ErrOptions, dir)
	}
	if st.Mode&0o002 != 0 && st.Mode&unix.S_ISVTX == 0 {
		f.Close()
		return nil, &AccessError{dir, "mode", st.Mode & 0o7777, st.Mode&0o7777&^0o002 | unix.S_ISVTX, ErrUnsafeDir}
	}
	return f, nil
}

// openDir opens a directory of the domain without following a link.
func (d *domain) openDir(parent *os.File, name string, create bool) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	path := filepath.Join(parent.Name(), name)
	fd, err := openat(parent, name, flags)
	if err == unix.ENOENT && create {
		if err := place(parent, name, d.makeDir); err != nil {
			return nil, err
		}
		fd, err = openat(parent, name, flags)
	}
	switch err {
	case nil:
	case unix.ENOTDIR, unix.ELOOP:
		var st unix.Stat_t
		_ = unix.Fstatat(int(parent.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) // only for the message
		return nil, &AccessError{path, "type", st.Mode & unix.S_IFMT, unix.S_IFDIR, ErrUnsafeDir}
	case unix.EACCES:
		return nil, d.keptOut(parent, name)
	default:
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if err := d.checkAccess(f, ErrUnsafeDir); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// keptOut says who may open a directory that this user may not.
func (d *domain) keptOut(parent *os.File, name string) error {
	path := filepath.Join(parent.Name(), name)
	var st unix.Stat_t
	if err := unix.Fstatat(int(parent.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "open", Path: path, Err: unix.EACCES}
	}
	kept := fmt.Errorf("%w: %w", ErrAccess, unix.EACCES)
	if d.group && st.Mode&0o070 != 0 {
		return &AccessError{path, "group", st.Gid, uint32(os.Getegid()), kept}
	}
	return &AccessError{path, "owner", st.Uid, uint32(os.Geteuid()), kept}
}

// checkAccess checks that nobody but the effective user, or the members of the
// group where the domain is shared with one, can reach f. Root gets no exception:
// what it made in a user's domain would be out of that user's reach.
func (d *domain) checkAccess(f *os.File, unsafe error) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	if uid := uint32(os.Geteuid()); st.Uid != uid {
		if !d.group {
			return &AccessError{f.Name(), "owner", st.Uid, uid, unsafe}
		}
		groups, err := os.Getgroups()
		if err != nil {
			return fmt.Errorf("own groups: %w", err)
		}
		if gid := os.Getegid(); !slices.Contains(append(groups, gid), int(st.Gid)) {
			return &AccessError{f.Name(), "group", st.Gid, uint32(gid), unsafe}
		}
	}
	widest := uint32(0o700)
	if d.group {
		widest = 0o770
	}
	if mode := st.Mode & 0o777; mode&^widest != 0 {
		return &AccessError{f.Name(), "mode", mode, widest, unsafe}
	}
	return nil
}

// makeDir makes a directory with the mode it is meant to have, whatever the umask.
// The group id bit lets what is made inside have the directory's group.
func (d *domain) makeDir(parent *os.File, name string) error {
	mode := uint32(0o700)
	if d.group {
		mode = 0o770 | unix.S_ISGID
	}
	step.Here()
	if err := ignoringEINTR(func() error { return unix.Mkdirat(int(parent.Fd()), name, 0o700) }); err != nil {
		return &os.PathError{Op: "mkdir", Path: filepath.Join(parent.Name(), name), Err: err}
	}
	fd, err := openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Join(parent.Name(), name), Err: err}
	}
	defer unix.Close(fd)
	step.Here()
	return unix.Fchmod(fd, mode)
}

// current reports whether the domain's path still leads to its control file.
func (d *domain) current() (bool, error) {
	return leadsTo(d.base, filepath.Join(d.name+suffix, d.version, controlFile), d.control)
}

// leadsTo reports whether the path from dir is that of f.
func leadsTo(dir *os.File, path string, f *os.File) (bool, error) {
	var mine, there unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &mine); err != nil {
		return false, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	err := ignoringEINTR(func() error { return unix.Fstatat(int(dir.Fd()), path, &there, unix.AT_SYMLINK_NOFOLLOW) })
	switch err {
	case nil:
		return mine.Ino == there.Ino && mine.Dev == there.Dev, nil
	case unix.ENOENT, unix.ENOTDIR:
		return false, nil
	}
	return false, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
}

// openPlain opens a directory that is to be emptied; nil if there is none of the name.
func openPlain(parent *os.File, name string) (*os.File, error) {
	fd, err := openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	switch err {
	case nil:
		return os.NewFile(uintptr(fd), filepath.Join(parent.Name(), name)), nil
	case unix.ENOENT, unix.ENOTDIR:
		return nil, nil
	}
	return nil, &os.PathError{Op: "open", Path: filepath.Join(parent.Name(), name), Err: err}
}

// removeEntry removes a file or an empty directory, or finds it gone.
func removeEntry(dir *os.File, name string) error {
	_, err := removed(dir, name)
	return err
}

// removed is removeEntry, and reports whether it was this call that removed it.
func removed(dir *os.File, name string) (bool, error) {
	step.Here()
	err := ignoringEINTR(func() error { return unix.Unlinkat(int(dir.Fd()), name, 0) })
	if err == unix.EISDIR || err == unix.EPERM {
		step.Here()
		err = ignoringEINTR(func() error { return unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR) })
	}
	if err != nil && err != unix.ENOENT {
		return false, &os.PathError{Op: "unlink", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	return err == nil, nil
}

// exists reports whether there is something of the name, or no telling.
func exists(dir *os.File, name string) bool {
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return err != unix.ENOENT
}

// removeEmpty removes a directory if it is there and empty.
func removeEmpty(dir *os.File, name string) error {
	step.Here()
	err := ignoringEINTR(func() error { return unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR) })
	switch err {
	case nil, unix.ENOENT, unix.ENOTEMPTY, unix.EEXIST: // what others keep in it is none of our business
		return nil
	}
	return &os.PathError{Op: "rmdir", Path: filepath.Join(dir.Name(), name), Err: err}
}

// usage returns how many bytes the files in a directory take of the file system.
func usage(dir *os.File) (bytes uint64) {
	names, _ := readNames(dir) // what cannot be read takes nothing
	for _, name := range names {
		bytes += fileUsage(dir, name)
	}
	return bytes
}

func fileUsage(dir *os.File, name string) uint64 {
	var st unix.Stat_t
	if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return 0
	}
	return uint64(st.Blocks) * 512
}

// lastChange returns when a directory, or a file in it, was last changed.
func lastChange(dir *os.File) (last time.Time) {
	names, _ := readNames(dir)
	for _, name := range append(names, ".") {
		var st unix.Stat_t
		if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue
		}
		for _, t := range []unix.Timespec{st.Mtim, st.Ctim} {
			if at := time.Unix(t.Unix()); at.After(last) {
				last = at
			}
		}
	}
	return last
}

// openedBy returns the processes that have f's file open, of those that this one may
// look at: in its pid namespace, and of its user unless it is root. Not this one.
func openedBy(f *os.File) (pids []int) {
	var mine unix.Stat_t
	if unix.Fstat(int(f.Fd()), &mine) != nil {
		return nil
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/fd")
	for _, fds := range processes {
		pid, err := strconv.Atoi(strings.Split(fds, "/")[2])
		if err != nil || pid == os.Getpid() {
			continue
		}
		entries, _ := os.ReadDir(fds)
		for _, e := range entries {
			var st unix.Stat_t
			if unix.Stat(filepath.Join(fds, e.Name()), &st) == nil && st.Ino == mine.Ino && st.Dev == mine.Dev {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

func rename(dir *os.File, from, to string) error {
	fd := int(dir.Fd())
	step.Here()
	return ignoringEINTR(func() error { return unix.Renameat2(fd, from, fd, to, unix.RENAME_NOREPLACE) })
}

func openat(dir *os.File, name string, flags int) (fd int, err error) {
	err = ignoringEINTR(func() error {
		fd, err = unix.Openat(int(dir.Fd()), name, flags, 0)
		return err
	})
	return fd, err
}

// ignoringEINTR repeats a system call that a signal interrupted; the Go runtime
// sends itself many.
func ignoringEINTR(call func() error) (err error) {
	for err = unix.EINTR; err == unix.EINTR; {
		err = call()
	}
	return err
}
