package table

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

const (
	// DefaultDir is where domains are made unless Options.Dir says otherwise.
	DefaultDir = "/dev/shm"

	suffix      = ".flagstone"
	controlFile = "control"
	maxName     = 64
)

// versionDir is the part of a path that keeps layouts of different major
// versions apart, so that old and new workers can run side by side.
var versionDir = fmt.Sprintf("v%d", layout.Major)

// errMoved says that the domain was replaced while it was being opened: look again.
var errMoved = errors.New("domain was replaced meanwhile")

// domain is the files of a domain, opened and found safe.
type domain struct {
	name    string
	group   bool
	base    *os.File // DIR
	parent  *os.File // DIR/NAME.flagstone
	dir     *os.File // DIR/NAME.flagstone/vN
	control *os.File // DIR/NAME.flagstone/vN/control
}

// findDomain opens the files of a domain, which it makes if create is set.
// Otherwise fs.ErrNotExist says that there are none. Close has to follow even
// after an error.
func findDomain(dir, name string, group, create bool) (d domain, err error) {
	d = domain{name: name, group: group}
	if d.base, err = openBase(dir); err != nil {
		return d, err
	}
	err = d.open(create)
	if create && errors.Is(err, fs.ErrNotExist) {
		err = errMoved // a destroyer was quicker
	}
	return d, err
}

func (d *domain) open(create bool) (err error) {
	if d.parent, err = d.openDir(d.base, d.name+suffix, create); err != nil {
		return err
	}
	if d.dir, err = d.openDir(d.parent, versionDir, create); err != nil {
		return err
	}
	d.control, err = d.openFile(controlFile)
	if !create || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err = place(d.dir, controlFile, d.makeFile); err == nil {
		d.control, err = d.openFile(controlFile)
	}
	return err
}

// close closes what is open.
func (d *domain) close() {
	for _, f := range []*os.File{d.base, d.parent, d.dir, d.control} {
		_ = f.Close() // of read-only directories and mapped files nothing is lost
	}
}

// openBase opens the directory that domains are in. It may be reached by links,
// but strangers must not be able to rename what is in it.
func openBase(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("directory of domains: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "stat", Path: dir, Err: err}
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

// openFile opens a file of the domain for reading and writing.
func (d *domain) openFile(name string) (*os.File, error) {
	f, err := shm.OpenFile(d.dir, name, false, 0)
	if err != nil {
		return nil, err
	}
	if err := d.checkAccess(f, ErrUnsafeFile); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
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

// makeDir and makeFile make something with the mode it is meant to have,
// whatever the umask. The group id bit lets what is made inside have the
// directory's group.
func (d *domain) makeDir(parent *os.File, name string) error {
	mode := uint32(0o700)
	if d.group {
		mode = 0o770 | unix.S_ISGID
	}
	if err := ignoringEINTR(func() error { return unix.Mkdirat(int(parent.Fd()), name, 0o700) }); err != nil {
		return &os.PathError{Op: "mkdir", Path: filepath.Join(parent.Name(), name), Err: err}
	}
	fd, err := openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Join(parent.Name(), name), Err: err}
	}
	defer unix.Close(fd)
	return unix.Fchmod(fd, mode)
}

func (d *domain) makeFile(parent *os.File, name string) error {
	f, err := shm.OpenFile(parent, name, true, d.fileMode())
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(d.fileMode()), f.Close())
}

func (d *domain) fileMode() os.FileMode {
	if d.group {
		return 0o660
	}
	return 0o600
}

// place makes something under a name of its own and then gives it the name it
// is meant to have, unless somebody else did: it appears complete or not at all.
func place(parent *os.File, name string, make func(parent *os.File, name string) error) error {
	temporary := hidden(name)
	if err := make(parent, temporary); err != nil {
		return err
	}
	err := rename(parent, temporary, name)
	if err == nil {
		return nil
	}
	if removal := removeEntry(parent, temporary); removal != nil {
		return removal
	}
	if err != unix.EEXIST {
		return &os.PathError{Op: "rename", Path: filepath.Join(parent.Name(), name), Err: err}
	}
	return nil
}

// hidden returns a new name for something that is on its way to or from a name.
func hidden(name string) string { return fmt.Sprintf(".%s.%016x", name, random()) }

// random returns a random number that is not 0.
func random() (n uint64) {
	for n == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		n = binary.LittleEndian.Uint64(b[:])
	}
	return n
}

// current reports whether the domain's path still leads to its control file.
func (d *domain) current() (bool, error) {
	var mine, there unix.Stat_t
	if err := unix.Fstat(int(d.control.Fd()), &mine); err != nil {
		return false, &os.PathError{Op: "stat", Path: d.control.Name(), Err: err}
	}
	path := filepath.Join(d.name+suffix, versionDir, controlFile)
	err := ignoringEINTR(func() error { return unix.Fstatat(int(d.base.Fd()), path, &there, unix.AT_SYMLINK_NOFOLLOW) })
	switch err {
	case nil:
		return mine.Ino == there.Ino && mine.Dev == there.Dev, nil
	case unix.ENOENT, unix.ENOTDIR:
		return false, nil
	}
	return false, &os.PathError{Op: "stat", Path: d.control.Name(), Err: err}
}

// remove takes the domain's files away, of this layout version only. It renames
// first, so that from one moment on nobody finds any of it. The caller holds the
// init byte or knows that there is no control file.
func (d *domain) remove() error {
	if err := rename(d.parent, versionDir, hidden(versionDir)); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "rename", Path: d.dir.Name(), Err: err}
	}
	return d.sweep()
}

// sweep removes what removers, the dead ones too, have renamed.
func (d *domain) sweep() error {
	names, err := readNames(d.parent)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "."+versionDir+".") {
			continue
		}
		if err := emptyDir(d.parent, name); err != nil {
			return err
		}
		if err := removeEntry(d.parent, name); err != nil {
			return err
		}
	}
	err = ignoringEINTR(func() error { return unix.Unlinkat(int(d.base.Fd()), d.name+suffix, unix.AT_REMOVEDIR) })
	switch err {
	case nil, unix.ENOENT, unix.ENOTEMPTY, unix.EEXIST: // other versions are none of our business
		return nil
	}
	return &os.PathError{Op: "rmdir", Path: d.parent.Name(), Err: err}
}

// emptyDir removes what is in a directory.
func emptyDir(parent *os.File, name string) error {
	fd, err := openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Join(parent.Name(), name), Err: err}
	}
	dir := os.NewFile(uintptr(fd), filepath.Join(parent.Name(), name))
	defer dir.Close()
	names, err := readNames(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := removeEntry(dir, name); err != nil {
			return err
		}
	}
	return nil
}

func readNames(dir *os.File) ([]string, error) {
	if _, err := dir.Seek(0, 0); err != nil {
		return nil, err
	}
	return dir.Readdirnames(-1)
}

// removeEntry removes a file or an empty directory, or finds it gone.
func removeEntry(dir *os.File, name string) error {
	err := ignoringEINTR(func() error { return unix.Unlinkat(int(dir.Fd()), name, 0) })
	if err == unix.EISDIR || err == unix.EPERM {
		err = ignoringEINTR(func() error { return unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR) })
	}
	if err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "unlink", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	return nil
}

func rename(dir *os.File, from, to string) error {
	fd := int(dir.Fd())
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

// checkName checks the name of a domain.
func checkName(name string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	if name == "" || len(name) > maxName || name[0] == '.' || strings.Trim(name, allowed) != "" {
		return fmt.Errorf("name %q: need 1 to %d of A-Z a-z 0-9 . _ -, not starting with a dot: %w", name, maxName, ErrOptions)
	}
	return nil
}

func orDefaultDir(dir string) string {
	if dir == "" {
		return DefaultDir
	}
	return dir
}

// List returns the names of the domains of this layout version in a directory
// (DefaultDir if it is empty), sorted, whoever owns them.
func List(dir string) ([]string, error) {
	dir = orDefaultDir(dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list domains: %w", err)
	}
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || checkName(name) != nil {
			continue
		}
		_, err := os.Lstat(filepath.Join(dir, e.Name(), versionDir, controlFile))
		if err == nil || errors.Is(err, fs.ErrPermission) {
			names = append(names, name)
		}
	}
	return names, nil
}

// Destroy ends a domain: its handles report ErrDestroyed and are woken, its path
// is free for a successor at once, its files are removed. What processes have
// mapped stays readable for them. The control segment need not be intact. It
// returns ErrNotFound if there is no domain and ErrBusy if ctx ends while another
// process opens or destroys it. After a crash inside, call it again.
func Destroy(ctx context.Context, dir, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	for nap := firstBackoff; ; nap = min(2*nap, longestBackoff) {
		err := destroy(ctx, orDefaultDir(dir), name)
		if err != errMoved {
			return wrap(err, "destroy domain %s in %s", name, orDefaultDir(dir))
		}
		if err := pause(ctx, nap); err != nil {
			return fmt.Errorf("destroy domain %s: %w: %w", name, ErrBusy, err)
		}
	}
}

func destroy(ctx context.Context, dir, name string) error {
	// Group members may destroy: the directory's own mode decides.
	d, err := findDomain(dir, name, true, false)
	defer d.close()
	if errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%w: %w", ErrNotFound, err), d.removeRemains())
	}
	if err != nil {
		return err
	}
	if err := awaitLock(ctx, d.control, layout.InitByte); err != nil {
		return err
	}
	defer unlock(d.control, layout.InitByte)
	if same, err := d.current(); err != nil || !same {
		return orElse(err, errMoved)
	}
	d.tellDestroyed()
	return d.remove()
}

// removeRemains cleans up after a destroyer or a first opener that died.
func (d *domain) removeRemains() error {
	switch {
	case d.parent == nil:
		return nil
	case d.dir == nil:
		return d.sweep()
	}
	return d.remove()
}

// wrap adds what was being done to an error, if it is one.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
