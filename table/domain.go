package table

import (
	"cmp"
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
	version  string // vN
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
	d = domain{name: name, version: versionDir, group: group}
	if d.base, err = openBase(dir); err != nil {
		return d, err
	}
	err = d.open(create)
	switch {
	case create && errors.Is(err, fs.ErrNotExist):
		err = errMoved // a destroyer was quicker
	case create && err != nil:
		d.removeEmpty()
	}
	return d, err
}

func (d *domain) open(create bool) (err error) {
	if d.parent, err = d.openDir(d.base, d.name+suffix, create); err != nil {
		return err
	}
	if d.dir, err = d.openDir(d.parent, d.version, create); err != nil {
		return err
	}
	d.control, err = d.openFile(controlFile)
	if !create || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.makeControl()
}

// makeControl makes an empty control file, which is one never finished, or finds
// that somebody else did.
func (d *domain) makeControl() (err error) {
	if err = place(d.dir, controlFile, d.makeFile); err == nil {
		d.control, err = d.openFile(controlFile)
	}
	return err
}

// deepest returns the innermost of the domain's directories that is there.
func (d *domain) deepest() *os.File { return cmp.Or(d.dir, d.parent, d.base) }

// removeEmpty removes what was made in vain, if nobody has made more of it.
func (d *domain) removeEmpty() {
	if d.parent != nil {
		_ = removeEmpty(d.parent, d.version)
	}
	_ = removeEmpty(d.base, d.name+suffix)
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

// makeFile makes an empty file with the mode it is meant to have, where what a control
// file needs works.
func (d *domain) makeFile(parent *os.File, name string) error {
	f, err := shm.OpenFile(parent, name, true, d.fileMode())
	if err != nil {
		return err
	}
	step.Here()
	return errors.Join(f.Chmod(d.fileMode()), tryOut(parent, name, f), f.Close())
}

// tryOut finds out whether locks, and where the file system is unknown mappings, work as
// they have to, in a file that nobody else uses yet.
func tryOut(parent *os.File, name string, f *os.File) error {
	second, err := shm.OpenFile(parent, name, false, 0)
	if err != nil {
		return err
	}
	defer second.Close()
	if _, err := tryLock(f, layout.InitByte); err != nil {
		return err
	}
	known, err := shm.CheckFileSystem(f)
	if known || err != nil {
		return err
	}
	return errors.Join(mustBeHeld(second, layout.InitByte), shm.CheckMapping(f, second))
}

// mustBeHeld returns ErrLocks unless another description of f's file has the lock of
// the byte, which this process has taken through one.
func mustBeHeld(f *os.File, b int64) error {
	held, err := lockedByOthers(f, b, 1)
	if err == nil && !held {
		err = fmt.Errorf("%s: %w: the file system forgets them; use a tmpfs such as /dev/shm", f.Name(), ErrLocks)
	}
	return err
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
		_ = removeEntry(parent, temporary) // what is left a destroyer removes
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

// isNumber reports whether digits are what %016x makes of a number.
func isNumber(digits string) bool {
	return len(digits) == 16 && strings.Trim(digits, "0123456789abcdef") == ""
}

// unhide removes what lies under hidden names for name in dir, where it can: whoever
// died between making and renaming it has left it. One who lives finds his gone, and
// begins anew (errMoved).
func unhide(dir *os.File, name string) {
	names, err := readNames(dir)
	if err != nil {
		return
	}
	for _, n := range names {
		if of, ok := hiddenOf(n); ok && of == name {
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

// hiddenOf returns the name that a hidden one was made from.
func hiddenOf(entry string) (name string, ok bool) {
	dot := strings.LastIndexByte(entry, '.')
	if dot < 2 || entry[0] != '.' || !isNumber(entry[dot+1:]) {
		return "", false
	}
	return entry[1:dot], true
}

// remove takes the domain's files away, of this layout version only. It renames
// first, so that from one moment on nobody finds any of it. The caller holds the
// init byte.
func (d *domain) remove() error {
	if err := rename(d.parent, d.version, hidden(d.version)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &os.PathError{Op: "rename", Path: d.dir.Name(), Err: err}
	}
	return d.sweep()
}

// sweep removes what removers and creators, the dead ones too, have left under
// hidden names. A creator that lives begins again.
func (d *domain) sweep() error {
	if err := sweepHidden(d.parent, d.version); err != nil {
		return err
	}
	if err := removeEmpty(d.base, d.name+suffix); err != nil {
		return err
	}
	return sweepHidden(d.base, d.name+suffix)
}

func sweepHidden(parent *os.File, of string) error {
	names, err := readNames(parent)
	if err != nil {
		return err
	}
	for _, name := range names {
		if have, ok := hiddenOf(name); ok && have == of {
			if _, err := removeHidden(parent, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeHidden removes a directory of a hidden name, and reports whether it was
// this call that did. An empty one may be a creator's, who gives it its name and
// then fills it: that is removed as empty or not at all. One with something in it
// is a remover's.
func removeHidden(parent *os.File, name string) (bool, error) {
	if err := removeEmpty(parent, name); err != nil {
		return false, err
	}
	if !exists(parent, name) {
		return true, nil
	}
	if err := emptyDir(parent, name); err != nil {
		return false, err
	}
	return removed(parent, name)
}

// removeSegments removes the files of segments, as there are none without a control
// segment: somebody has removed that of the domain before. Who maps them still does.
func (d *domain) removeSegments() error {
	names, err := readNames(d.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !isSegmentFile(name) {
			continue
		}
		if err := removeEntry(d.dir, name); err != nil {
			return err
		}
	}
	return nil
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

// readNames lists what is in a directory: nothing if that is itself removed.
func readNames(dir *os.File) ([]string, error) {
	if _, err := dir.Seek(0, 0); err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return names, err
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
func List(dir string) ([]string, error) { return list(dir, func(string) bool { return false }) }

// list is List, with those that also says.
func list(dir string, also func(name string) bool) ([]string, error) {
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
		if err == nil || errors.Is(err, fs.ErrPermission) || also(name) {
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
	if err := d.standIn(); err != nil {
		return err
	}
	_, err := d.removeUnused(func() bool { return true })
	return err
}
