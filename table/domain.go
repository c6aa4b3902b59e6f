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
	"strings"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/internal/step"
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
	name     string
	group    bool
	readOnly bool
	base     *os.File // DIR
	parent   *os.File // DIR/NAME.flagstone
	dir      *os.File // DIR/NAME.flagstone/vN
	control  *os.File // DIR/NAME.flagstone/vN/control
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

// openFile opens a file of the domain for reading and, unless the domain is only
// looked at, for writing.
func (d *domain) openFile(name string) (f *os.File, err error) {
	if d.readOnly {
		f, err = shm.OpenReadOnly(d.dir, name)
	} else {
		f, err = shm.OpenFile(d.dir, name, false, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := d.checkAccess(f, ErrUnsafeFile); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// mapFile maps a file that openFile opened.
func (d *domain) mapFile(f *os.File, size uint64) (*shm.Segment, error) {
	if d.readOnly {
		return shm.MapReadOnly(f, size)
	}
	return shm.Map(f, size)
}

// makeFile makes an empty file with the mode it is meant to have.
func (d *domain) makeFile(parent *os.File, name string) error {
	f, err := shm.OpenFile(parent, name, true, d.fileMode())
	if err != nil {
		return err
	}
	step.Here()
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
	if !errors.Is(err, fs.ErrExist) {
		return &os.PathError{Op: "rename", Path: filepath.Join(parent.Name(), name), Err: err}
	}
	return nil
}

// hidden returns a new name for something that is on its way to or from a name.
func hidden(name string) string { return fmt.Sprintf(".%s.%016x", name, random()) }

// unhide removes what lies under hidden names for name in dir, where it can: whoever
// died between making and renaming it has left it. One who lives finds his gone, and
// begins anew (errMoved).
func unhide(dir *os.File, name string) {
	names, err := readNames(dir)
	if err != nil {
		return
	}
	for _, n := range names {
		if number, ok := strings.CutPrefix(n, "."+name+"."); ok && len(number) == len(hidden(""))-2 {
			_ = removeEntry(dir, n) // another user's, or not empty, stays
		}
	}
}

// random returns a random number that is not 0.
func random() (n uint64) {
	for n == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		n = binary.LittleEndian.Uint64(b[:])
	}
	return n
}

// remove takes the domain's files away, of this layout version only. It renames
// first, so that from one moment on nobody finds any of it. The caller holds the
// init byte or knows that there is no control file.
func (d *domain) remove() error {
	if err := rename(d.parent, versionDir, hidden(versionDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
	unhide(d.base, d.name+suffix)
	return removeEmpty(d.base, d.name+suffix)
}

// emptyDir removes what is in a directory.
func emptyDir(parent *os.File, name string) error {
	dir, err := openPlain(parent, name)
	if dir == nil || err != nil {
		return err
	}
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
		if d.base != nil {
			unhide(d.base, d.name+suffix)
		}
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
