package table

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// CollectOptions say what Collect looks at and what it may remove.
type CollectOptions struct {
	Dir    string   // DefaultDir if it is empty
	Names  []string // of domains; none is all in Dir
	Unused bool     // also domains in order that nobody has open
	// Idle keeps what was used within that time: a domain of this layout version as its
	// clock says, others as their files do, which do not show every use.
	Idle   time.Duration
	DryRun bool // removes nothing
}

// Collected is something that Collect found.
type Collected struct {
	Name    string // of the domain
	Path    string // a version of a domain, or what was left beside or inside one
	Verdict Verdict
	Used    time.Time // versions: when it was last in use, as far as that can be told
	Bytes   uint64    // that it takes of the file system
	Pids    []int     // VerdictInUse: the processes that have it open, of those that can be seen
	Garbage bool      // it was to be removed, or would be
	Removed bool
	Err     error // why it was not judged or not removed
}

// Verdict is what Collect thinks of something.
type Verdict int

// Debris is garbage at once, VerdictOtherVersion too, and VerdictUnused if the options say so.
const (
	VerdictUnknown      Verdict = iota // see Collected.Err
	VerdictInUse                       // somebody has it open, or is making, growing or destroying it
	VerdictUnused                      // nobody has it open
	VerdictOtherVersion                // nobody has it open, and it is of another layout version
	VerdictStaleBoot                   // debris: made before this machine's last boot
	VerdictUnfinished                  // debris: whoever was making it has died
	VerdictDestroyed                   // debris: whoever was destroying it has died
	VerdictOrphan                      // debris: a segment's file that the directory does not list
)

var verdicts = [...]string{
	"cannot be judged", "in use", "nobody has it open", "of another version, nobody has it open",
	"made before the last boot", "left by a creator that died", "left by a destroyer that died", "in no directory entry",
}

// String says it for people.
func (v Verdict) String() string {
	if v < 0 || int(v) >= len(verdicts) {
		return fmt.Sprintf("Verdict(%d)", int(v))
	}
	return verdicts[v]
}

// Collect finds what the dead have left in a directory of domains, and versions of
// domains that nobody has open, those of other layout versions too, and removes what
// the options allow. It returns all versions of domains that it saw, and what else was
// garbage, sorted by path. It waits for nobody, and may run beside everything else:
// a process that opens a domain meanwhile is either seen, and keeps it, or makes a new
// one. Readers are not seen. It returns ErrNotFound for a name that is not there, and
// what cannot be judged or removed has its own error. PROTOCOL.md, "Collecting".
func Collect(o CollectOptions) ([]Collected, error) {
	o.Dir = orDefaultDir(o.Dir)
	for _, name := range o.Names {
		if err := checkName(name); err != nil {
			return nil, err
		}
	}
	c := &collector{o: o}
	err := c.collect()
	slices.SortFunc(c.all, func(a, b Collected) int { return strings.Compare(a.Path, b.Path) })
	return c.all, wrap(err, "collect in %s", o.Dir)
}

type collector struct {
	o    CollectOptions
	base *os.File
	all  []Collected
}

func (c *collector) collect() (err error) {
	if c.base, err = openBase(c.o.Dir); err != nil {
		return err
	}
	defer c.base.Close()
	entries, err := readNames(c.base)
	if err != nil {
		return err
	}
	left := slices.Clone(c.o.Names)
	for _, entry := range entries {
		of, isHidden := hiddenOf(entry)
		if !isHidden {
			of = entry
		}
		name, ok := strings.CutSuffix(of, suffix)
		if !ok || checkName(name) != nil || len(c.o.Names) > 0 && !slices.Contains(c.o.Names, name) {
			continue
		}
		left = slices.DeleteFunc(left, func(n string) bool { return n == name })
		if isHidden {
			c.hidden(c.base, name, entry)
		} else {
			c.domain(name)
		}
	}
	for _, name := range left {
		err = errors.Join(err, fmt.Errorf("domain %s: %w", name, ErrNotFound))
	}
	return err
}

// domain looks through all versions of a domain.
func (c *collector) domain(name string) {
	parent, err := (&domain{group: true}).openDir(c.base, name+suffix, false)
	if err != nil {
		c.unknown(name, c.base, name+suffix, err)
		return
	}
	defer parent.Close()
	entries, err := readNames(parent)
	if err != nil {
		c.unknown(name, c.base, name+suffix, err)
		return
	}
	if len(entries) == 0 {
		c.garbage(Collected{Name: name, Path: parent.Name(), Verdict: VerdictUnfinished}, func() (bool, error) {
			return removedEmpty(c.base, name+suffix)
		})
	}
	for _, entry := range entries {
		of, isHidden := hiddenOf(entry)
		switch {
		case isHidden && isVersion(of):
			c.hidden(parent, name, entry)
		case isVersion(entry):
			c.version(parent, name, entry)
		}
	}
	if !c.o.DryRun && len(entries) > 0 {
		_ = removeEmpty(c.base, name+suffix) // what is in it was told
	}
}

// hidden is about a directory on its way to or from a name.
func (c *collector) hidden(parent *os.File, name, entry string) {
	found := Collected{Name: name, Path: join(parent, entry), Verdict: VerdictUnfinished}
	dir, err := openPlain(parent, entry)
	if dir == nil {
		c.unknown(name, parent, entry, err)
		return
	}
	defer dir.Close()
	if inside, err := readNames(dir); err == nil && len(inside) > 0 {
		found.Verdict, found.Bytes = VerdictDestroyed, usage(dir)
	}
	c.garbage(found, func() (bool, error) { return removeHidden(parent, entry) })
}

// garbage removes something and notes it. Who finds it gone was not the one.
func (c *collector) garbage(found Collected, remove func() (bool, error)) {
	found.Garbage = true
	if !c.o.DryRun {
		found.Removed, found.Err = remove()
		if !found.Removed && found.Err == nil {
			return
		}
	}
	c.all = append(c.all, found)
}

// unknown notes what cannot be looked at. What is gone by now is not noted.
func (c *collector) unknown(name string, parent *os.File, entry string, err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.all = append(c.all, Collected{Name: name, Path: join(parent, entry), Err: err})
	}
}

// OtherVersions returns the names of the version directories of a domain, "v1" for
// example, that are not of this layout version and have a control file, sorted, whoever
// owns them. They have nothing to do with this version's but the name.
func OtherVersions(dir, name string) (versions []string, err error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	parent := filepath.Join(orDefaultDir(dir), name+suffix)
	entries, err := os.ReadDir(parent)
	if err != nil {
		return nil, fmt.Errorf("versions of domain %s: %w", name, err)
	}
	for _, e := range entries {
		if !isVersion(e.Name()) || e.Name() == versionDir {
			continue
		}
		_, err := os.Lstat(filepath.Join(parent, e.Name(), controlFile))
		if err == nil || errors.Is(err, fs.ErrPermission) {
			versions = append(versions, e.Name())
		}
	}
	return versions, nil
}

// ListAll returns the names of the domains of any layout version in a directory
// (DefaultDir if it is empty), sorted, whoever owns them.
func ListAll(dir string) ([]string, error) {
	return list(dir, func(name string) bool {
		others, _ := OtherVersions(dir, name) // of what cannot be read List tells
		return len(others) > 0
	})
}

// isVersion reports whether it is v and a number.
func isVersion(name string) bool {
	number, ok := strings.CutPrefix(name, "v")
	return ok && number != "" && strings.Trim(number, "0123456789") == "" && (number == "0" || number[0] != '0')
}
