package table

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// What is done here with a version directory rests on what PROTOCOL.md, "Files",
// promises for all major versions: its names, the lease bytes, the init byte.

// version judges one version of a domain.
func (c *collector) version(parent *os.File, name, version string) {
	d := &domain{name: name, version: version, group: true, base: c.base, parent: parent}
	err := d.openVersion()
	defer func() {
		d.dir.Close()
		d.control.Close()
	}()
	if err != nil && (d.dir == nil || !errors.Is(err, fs.ErrNotExist)) {
		c.unknown(name, parent, version, err)
		return
	}
	found := Collected{Name: name, Path: d.dir.Name(), Bytes: usage(d.dir), Used: d.lastUse()}
	garbage := func() bool {
		found.Verdict, found.Err = d.judge()
		return c.wants(found)
	}
	if !garbage() {
		c.keep(d, found)
		return
	}
	c.garbage(found, func() (gone bool, err error) {
		if d.control == nil {
			if err := d.standIn(); errors.Is(err, fs.ErrNotExist) {
				return false, nil // somebody else removed it
			} else if err != nil {
				return false, err
			}
		}
		if gone, err = d.removeUnused(garbage); gone || err != nil {
			return gone, err
		}
		if same, err := d.current(); same || err != nil { // somebody was quicker, and has it open
			found.Verdict, found.Err = d.judge()
			c.keep(d, found)
		}
		return false, nil
	})
}

func (d *domain) openVersion() (err error) {
	if d.dir, err = d.openDir(d.parent, d.version, false); err == nil {
		d.control, err = d.openFile(controlFile)
	}
	return err
}

// standIn makes the control file that a creator did not come to make, with the mode
// that it would have given it: others may be about to use it.
func (d *domain) standIn() error {
	info, err := d.dir.Stat()
	if err != nil {
		return err
	}
	d.group = info.Mode().Perm()&0o070 != 0
	return d.makeControl()
}

// wants reports whether the options let a version directory go.
func (c *collector) wants(found Collected) bool {
	switch found.Verdict {
	case VerdictStaleBoot, VerdictUnfinished, VerdictDestroyed:
		return true
	case VerdictOtherVersion, VerdictUnused:
		return (c.o.Unused || found.Verdict == VerdictOtherVersion) && time.Since(found.Used) >= c.o.Idle
	}
	return false
}

// keep notes a version that stays, and removes what is garbage inside.
func (c *collector) keep(d *domain, found Collected) {
	if found.Verdict == VerdictInUse {
		found.Pids = openedBy(d.control)
	}
	c.all = append(c.all, found)
	if d.version != versionDir {
		return
	}
	for _, file := range d.strays() {
		inside := Collected{Name: found.Name, Path: join(d.dir, file), Verdict: VerdictOrphan, Bytes: fileUsage(d.dir, file)}
		if _, isHidden := hiddenOf(file); isHidden {
			inside.Verdict = VerdictUnfinished
		}
		c.garbage(inside, func() (bool, error) { return removed(d.dir, file) })
	}
}

// judge says what a version of a domain is. What is garbage has to be judged again
// by removeUnused. A lease tells that it is in use, whatever the rest looks like.
func (d *domain) judge() (Verdict, error) {
	if d.control == nil {
		return VerdictUnfinished, nil
	}
	for _, bytes := range [][2]int64{{layout.LeaseByte, toTheEnd}, {layout.InitByte, 1}} {
		if held, err := lockedByOthers(d.control, bytes[0], bytes[1]); err != nil {
			return VerdictUnknown, err
		} else if held {
			return VerdictInUse, nil
		}
	}
	if d.version != versionDir {
		if size, err := fileSize(d.control); err != nil || size == 0 {
			return VerdictUnfinished, err
		}
		return VerdictOtherVersion, nil
	}
	switch todo, err := d.look(); {
	case errors.Is(err, ErrFormat):
		return VerdictUnused, err
	case err != nil:
		return VerdictUnknown, err
	case todo == initialise:
		return VerdictUnfinished, nil
	case todo == removal:
		return VerdictDestroyed, nil
	}
	seg, h, err := d.attach()
	switch {
	case errors.Is(err, ErrStaleBoot):
		return VerdictStaleBoot, nil
	case err != nil:
		return VerdictUnused, err
	}
	begun, err := barren(seg, h)
	switch err = errors.Join(err, seg.Close()); {
	case err != nil:
		return VerdictUnknown, err
	case begun:
		return VerdictUnfinished, nil
	}
	return VerdictUnused, nil
}

// barren reports whether segments were begun in a domain and none is published: who
// wanted the first has died at it or found no room. Domains of mutexes alone have none.
func barren(seg *shm.Segment, h header) (is bool, err error) {
	defer seg.Catch(shm.Guard(), &err)
	begun := false
	for i := range int(h.Entries) {
		switch word := shm.At[layout.Entry](seg.Window(), h.entry(i)).State.Load(); {
		case stateOf(word).Published():
			return false, nil
		case word != 0:
			begun = true
		}
	}
	return begun, nil
}

// removeUnused removes the version directory if nobody has a region in it, nor the
// init byte, and it still is garbage then. With all leases in one's own hands nobody
// can take one before the directory has another name, and who takes one afterwards
// finds that out: PROTOCOL.md, "Opening a domain", step 8.
func (d *domain) removeUnused(garbage func() bool) (bool, error) {
	for _, bytes := range [][2]int64{{layout.InitByte, 1}, {layout.LeaseByte, toTheEnd}} {
		if ok, err := tryLocks(d.control, bytes[0], bytes[1]); !ok || err != nil {
			return false, err
		}
		defer unlocks(d.control, bytes[0], bytes[1])
	}
	if same, err := d.current(); err != nil || !same {
		return false, err
	}
	if !garbage() {
		return false, nil
	}
	if d.version == versionDir {
		d.tellDestroyed() // readers, whom nobody sees
	}
	return true, d.remove()
}

// lastUse returns the latest of the times that files and clock word tell.
func (d *domain) lastUse() time.Time {
	last := lastChange(d.dir)
	if d.control == nil || d.version != versionDir {
		return last
	}
	page := make([]byte, layout.PageSize)
	if n, _ := d.control.ReadAt(page, 0); n < len(page) {
		return last
	}
	w := shm.Heap(layout.PageSize).Window()
	w.Write(0, page)
	c := shm.At[layout.ControlHeader](w, 0)
	if wall := fromMillis(c.WallClock.Load()); wall.After(last) && wall.Before(time.Now().Add(layout.ClockLeapMillis*time.Millisecond)) {
		return wall
	}
	return last
}

// strays returns the files of a version directory that are nobody's: control files on
// their way to their name, and segments that no entry lists. An entry lists a
// segment before its file is made, and until it is removed: so the files are read
// first.
func (d *domain) strays() (strays []string) {
	files, err := readNames(d.dir)
	if err != nil || d.control == nil {
		return nil
	}
	for _, file := range files {
		if of, ok := hiddenOf(file); ok && of == controlFile {
			strays = append(strays, file)
		}
	}
	listed, err := d.listedFiles()
	if err != nil {
		return strays
	}
	for _, file := range files {
		if isSegmentFile(file) && !listed[file] && exists(d.dir, file) {
			strays = append(strays, file)
		}
	}
	return strays
}

// listedFiles returns the files that directory entries list.
func (d *domain) listedFiles() (listed map[string]bool, err error) {
	seg, h, err := d.attach()
	if err != nil {
		return nil, err
	}
	defer seg.Close()
	defer seg.Catch(shm.Guard(), &err)
	listed = map[string]bool{}
	for i := range int(h.Entries) {
		e := shm.At[layout.Entry](seg.Window(), h.entry(i))
		if stateOf(e.State.Load()) == StateFree {
			continue
		}
		// A name of either kind, as the kind may be half written.
		id := e.SegmentID.Load() // pairs with its store in fill, before the file is made
		listed[segmentFile(KindSlab, id)], listed[segmentFile(KindApplication, id)] = true, true
	}
	return listed, nil
}

// removedEmpty removes a directory if it is empty, and reports whether it is gone.
func removedEmpty(parent *os.File, name string) (bool, error) {
	err := removeEmpty(parent, name)
	return err == nil && !exists(parent, name), err
}

func join(parent *os.File, name string) string { return filepath.Join(parent.Name(), name) }
