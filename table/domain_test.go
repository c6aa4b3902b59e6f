//go:build linux

package table

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

func TestDestroy_OthersOpen_TheyAreTold(t *testing.T) {
	o := options(t.TempDir())
	table := openTable(t, o)
	segment := publish(t, table, spec("x"))
	uuid := table.UUID()
	for len(table.C()) > 0 {
		<-table.C()
	}
	must(t, Destroy(limited(t), o.Dir, o.Name))
	select {
	case <-table.C():
	case <-limited(t).Done():
		t.Fatal("not woken")
	}
	if !table.Destroyed() {
		t.Fatal("does not know")
	}
	_, err := table.Reserve(spec("y"))
	mustFail(t, err, ErrDestroyed)
	_, err = table.Attach(segment.Entry())
	mustFail(t, err, ErrDestroyed)
	mustFail(t, table.Exclusive(limited(t), func() error { return nil }), ErrDestroyed)
	if segment.Bytes()[0] != 42 {
		t.Fatal("mapped memory is gone")
	}
	if left, err := os.ReadDir(o.Dir); err != nil || len(left) != 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
	mustFail(t, Destroy(limited(t), o.Dir, o.Name), ErrNotFound)

	// The successor: another domain, whose segments the old handle cannot reach.
	successor := openTable(t, o)
	if successor.UUID() == uuid || successor.Destroyed() {
		t.Fatal("not a new domain")
	}
	theirs := publish(t, successor, spec("x"))
	_, err = table.mapSegment(theirs.Entry()) // past the check for destruction
	mustFail(t, err, fs.ErrNotExist)
	if n := len(successor.Regions()); n != 1 {
		t.Fatalf("%d regions in the new domain, want 1", n)
	}
	must(t, segment.Close())
	must(t, table.Close())
}

func TestDestroy_DestroyerDied_OpenFinishes(t *testing.T) {
	o := options(t.TempDir())
	table := openTable(t, o)
	table.ready.Store(layout.ControlDestroyed)
	successor := openTable(t, o)
	if successor.UUID() == table.UUID() {
		t.Fatal("joined the destroyed domain")
	}
	if names, _ := os.ReadDir(filepath.Join(o.Dir, "d.flagstone")); len(names) != 1 {
		t.Fatalf("left behind: %v", names)
	}
}

func TestDestroy_AfterRename_RemainsSwept(t *testing.T) {
	o := options(t.TempDir())
	table := openTable(t, o)
	must(t, table.Close())
	parent := filepath.Join(o.Dir, "d.flagstone")
	must(t, os.Rename(filepath.Join(parent, versionDir), filepath.Join(parent, hidden(versionDir))))
	mustFail(t, Destroy(limited(t), o.Dir, o.Name), ErrNotFound)
	if left, _ := os.ReadDir(o.Dir); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
}

func TestDestroy_OtherVersion_Kept(t *testing.T) {
	o := options(t.TempDir())
	table := openTable(t, o)
	must(t, table.Close())
	other := filepath.Join(o.Dir, "d.flagstone", "v999")
	must(t, os.Mkdir(other, 0o700))
	must(t, Destroy(limited(t), o.Dir, o.Name))
	if _, err := os.Stat(other); err != nil {
		t.Fatal(err)
	}
	if names, err := List(o.Dir); err != nil || len(names) != 0 {
		t.Fatalf("%v, %v", names, err)
	}
}

func TestDestroy_Opening_ErrBusyUntilFree(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	c := start(t, "exclusive", dir)
	c.hear()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	mustFail(t, Destroy(ctx, dir, "d"), ErrBusy)
	if table.Destroyed() {
		t.Fatal("destroyed all the same")
	}
	c.kill()
	must(t, Destroy(limited(t), dir, "d"))
}

func TestList_SortedDomainsOnly(t *testing.T) {
	o := options(t.TempDir())
	for _, name := range []string{"b", "a"} {
		o.Name = name
		openTable(t, o)
	}
	must(t, os.MkdirAll(filepath.Join(o.Dir, "c.flagstone", "v999"), 0o700))
	must(t, os.Mkdir(filepath.Join(o.Dir, "other"), 0o700))
	names, err := List(o.Dir)
	if err != nil || !slices.Equal(names, []string{"a", "b"}) {
		t.Fatalf("%v, %v", names, err)
	}
	_, err = List(filepath.Join(o.Dir, "none"))
	mustFail(t, err, fs.ErrNotExist)
}

func TestOpen_MustExist_ErrNotFoundNothingMade(t *testing.T) {
	o := options(t.TempDir())
	o.MustExist = true
	_, err := Open(limited(t), o)
	mustFail(t, err, ErrNotFound)
	if left, _ := os.ReadDir(o.Dir); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
}

func TestOpen_BadOptions_ErrOptions(t *testing.T) {
	dir := t.TempDir()
	for _, o := range []Options{
		{},
		{Name: ".a"},
		{Name: "a/b"},
		{Name: "a\x00"},
		{Name: strings.Repeat("a", 65)},
		{Name: ".."},
		{Name: "a", Regions: -1},
		{Name: "a", Regions: 4097},
		{Name: "a", Entries: 4097},
		{Name: "a", Entries: 10, Mutexes: 9},
		{Name: "a", Mutexes: 16385},
		{Name: "a", Held: 257},
		{Name: "a", Mapped: 4097},
	} {
		o.Dir = dir
		_, err := Open(limited(t), o)
		mustFail(t, err, ErrOptions)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
	mustFail(t, Destroy(limited(t), dir, "../x"), ErrOptions)
}

func TestOpen_DifferentSizes_AttachesToWhatIsThere(t *testing.T) {
	o := options(t.TempDir())
	first := openTable(t, o)
	o.Regions, o.Entries, o.Held = 100, 200, 3
	if second := openTable(t, o); second.Geometry() != first.Geometry() {
		t.Fatalf("%+v, want %+v", second.Geometry(), first.Geometry())
	}
}

func TestOpen_NoRoom_ErrNoSpaceNothingLeft(t *testing.T) {
	var fs unix.Statfs_t
	must(t, unix.Statfs("/dev/shm", &fs))
	dir, err := os.MkdirTemp("/dev/shm", "flagstone-test-")
	must(t, err)
	defer os.RemoveAll(dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Skipf("needs to mount: %v", err)
	}
	defer func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) }()
	o := options(dir)
	o.Regions = 4096
	_, err = Open(limited(t), o)
	mustFail(t, err, ErrNoSpace)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
	o.Regions, o.Mutexes, o.Entries = 4, 8, 8
	openTable(t, o)
}

func TestOpen_NotSafe_Refused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		field string
		err   error
	}{
		"BaseWorldWritable": {func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o777)) }, "mode", ErrUnsafeDir},
		"DomainWorldReadable": {
			func(t *testing.T, dir string) { must(t, os.Chmod(dir+"/d.flagstone", 0o755)) }, "mode", ErrUnsafeDir,
		},
		"DomainGroupReadable": {
			func(t *testing.T, dir string) { must(t, os.Chmod(dir+"/d.flagstone/v1", 0o750)) }, "mode", ErrUnsafeDir,
		},
		"DomainIsLink": {func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/d.flagstone", dir+"/x"))
			must(t, os.Symlink(dir+"/x", dir+"/d.flagstone"))
		}, "type", ErrUnsafeDir},
		"DomainIsFile": {func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir+"/d.flagstone"))
			must(t, os.WriteFile(dir+"/d.flagstone", nil, 0o600))
		}, "type", ErrUnsafeDir},
		"ControlIsLink": {func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/d.flagstone/v1/control", dir+"/x"))
			must(t, os.Symlink(dir+"/x", dir+"/d.flagstone/v1/control"))
		}, "", ErrUnsafeFile},
		"ControlIsPipe": {func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/d.flagstone/v1/control"))
			must(t, unix.Mkfifo(dir+"/d.flagstone/v1/control", 0o600))
		}, "", ErrUnsafeFile},
		"ControlWorldWritable": {
			func(t *testing.T, dir string) { must(t, os.Chmod(dir+"/d.flagstone/v1/control", 0o602)) }, "mode", ErrUnsafeFile,
		},
		"DomainOfAnother": {func(t *testing.T, dir string) {
			if os.Geteuid() != 0 {
				t.Skip("needs root to give a directory away")
			}
			must(t, os.Chown(dir+"/d.flagstone", 12345, -1))
		}, "owner", ErrUnsafeDir},
		"ControlOfAnother": {func(t *testing.T, dir string) {
			if os.Geteuid() != 0 {
				t.Skip("needs root to give a file away")
			}
			must(t, os.Chown(dir+"/d.flagstone/v1/control", 12345, -1))
		}, "owner", ErrUnsafeFile},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t.TempDir())
			must(t, openTable(t, o).Close())
			c.spoil(t, o.Dir)
			_, err := Open(limited(t), o)
			mustFail(t, err, c.err)
			var access *AccessError
			if c.field != "" && (!errors.As(err, &access) || access.Field != c.field || access.Got == access.Want) {
				t.Fatalf("%v, want the field %s", err, c.field)
			}
		})
	}
}

func TestOpen_Group_ModesWhateverTheUmask(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	o := options(t.TempDir())
	o.Group = true
	table := openTable(t, o)
	e := publish(t, table, spec("x")).Entry()
	for path, want := range map[string]os.FileMode{
		"d.flagstone":            0o770,
		"d.flagstone/v1":         0o770,
		"d.flagstone/v1/control": 0o660,
		"d.flagstone/v1/" + segmentFile(e.Kind, e.SegmentID): 0o660,
	} {
		st, err := os.Stat(filepath.Join(o.Dir, path))
		if err != nil || st.Mode().Perm() != want {
			t.Fatalf("%s: %v, want %v, %v", path, st.Mode().Perm(), want, err)
		}
	}
	// Owned by another member it is as good; by a member of a group that we are
	// not in it is not.
	if os.Geteuid() == 0 {
		must(t, os.Chown(o.Dir+"/d.flagstone", 12345, os.Getegid()))
		openTable(t, o)
		must(t, os.Chown(o.Dir+"/d.flagstone", 12345, 54321))
		_, err := Open(limited(t), o)
		mustFail(t, err, ErrUnsafeDir)
		must(t, os.Chown(o.Dir+"/d.flagstone", 0, 0))
	}
	o.Group = false
	_, err := Open(limited(t), o)
	mustFail(t, err, ErrUnsafeDir)
}

// rewrite changes the header of a domain that nobody has open, and makes its
// checksum right again if sealed.
func rewrite(t *testing.T, o Options, sealed bool, change func(c *layout.ControlHeader)) {
	t.Helper()
	path := filepath.Join(o.Dir, "d.flagstone", versionDir, controlFile)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	seg, err := shm.Map(f, layout.PageSize)
	must(t, err)
	defer seg.Close()
	c := shm.At[layout.ControlHeader](seg.Window(), 0)
	change(c)
	if sealed {
		c.Checksum.Store(checksum(seg.Window()))
	}
}

func TestOpen_BadHeader_TypedErrorNothingChanged(t *testing.T) {
	for name, c := range map[string]struct {
		change func(c *layout.ControlHeader)
		field  string
		err    error
	}{
		"Magic":        {func(c *layout.ControlHeader) { c.Magic.Store(layout.SlabMagic) }, "Magic", ErrMagic},
		"MagicUnready": {func(c *layout.ControlHeader) { c.Magic.Store(layout.SlabMagic); c.Ready.Store(0) }, "Magic", ErrMagic},
		"Endian":       {func(c *layout.ControlHeader) { c.Endian.Store(0x0102030405060708) }, "Endian", ErrEndian},
		"ReadVersion":  {func(c *layout.ControlHeader) { c.ReadVersion.Store(layout.Major + 1) }, "ReadVersion", ErrVersion},
		"WriteVersion": {func(c *layout.ControlHeader) { c.WriteVersion.Store(layout.Major + 1) }, "WriteVersion", ErrVersion},
		"Feature":      {func(c *layout.ControlHeader) { c.Incompatible.Store(1 << 63) }, "Incompatible", ErrFeature},
		"Fingerprint":  {func(c *layout.ControlHeader) { c.Fingerprint.Add(1) }, "Fingerprint", ErrFingerprint},
		"Checksum":     {func(c *layout.ControlHeader) { c.Created.Add(1); c.Checksum.Add(1) }, "Checksum", ErrChecksum},
		"Regions":      {func(c *layout.ControlHeader) { c.Regions.Store(layout.MaxRegions + 1) }, "Regions", ErrGeometry},
		"NoRegions":    {func(c *layout.ControlHeader) { c.Regions.Store(0) }, "Regions", ErrGeometry},
		"Entries":      {func(c *layout.ControlHeader) { c.Entries.Store(1 << 31) }, "Entries", ErrGeometry},
		"Mutexes":      {func(c *layout.ControlHeader) { c.Mutexes.Store(1) }, "Mutexes", ErrGeometry},
		"Held":         {func(c *layout.ControlHeader) { c.Held.Store(layout.MaxHeld + 1) }, "Held", ErrGeometry},
		"Mapped":       {func(c *layout.ControlHeader) { c.Mapped.Store(layout.MaxMapped + 1) }, "Mapped", ErrGeometry},
		"Stride":       {func(c *layout.ControlHeader) { c.RegionStride.Store(64) }, "RegionStride", ErrGeometry},
		"MutexOffset":  {func(c *layout.ControlHeader) { c.MutexOffset.Store(0) }, "MutexOffset", ErrGeometry},
		"EntryOffset":  {func(c *layout.ControlHeader) { c.EntryOffset.Add(8) }, "EntryOffset", ErrGeometry},
		"RegionOffset": {func(c *layout.ControlHeader) { c.RegionOffset.Store(1 << 63) }, "RegionOffset", ErrGeometry},
		"FileSize":     {func(c *layout.ControlHeader) { c.FileSize.Add(layout.PageSize) }, "FileSize", ErrGeometry},
		"Ready":        {func(c *layout.ControlHeader) { c.Ready.Store(77) }, "Ready", ErrNotReady},
		"BootID":       {func(c *layout.ControlHeader) { c.BootID[1].Add(1) }, "BootID", ErrStaleBoot},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t.TempDir())
			must(t, openTable(t, o).Close())
			rewrite(t, o, name != "Checksum", c.change)
			checkRefused(t, o, c.field, c.err)
			must(t, Destroy(limited(t), o.Dir, o.Name)) // what the way out is
			openTable(t, o)
		})
	}
}

// checkRefused opens a domain whose control file is bad.
func checkRefused(t *testing.T, o Options, field string, want error) {
	t.Helper()
	path := filepath.Join(o.Dir, "d.flagstone", versionDir, controlFile)
	before, err := os.ReadFile(path)
	must(t, err)
	_, err = Open(limited(t), o)
	mustFail(t, err, want, ErrFormat)
	var format *FormatError
	if !errors.As(err, &format) || format.Field != field || format.Got == format.Want || format.File != path {
		t.Fatalf("%#v, want the field %s", format, field)
	}
	if !strings.Contains(err.Error(), path) {
		t.Fatalf("%v does not name %s", err, path)
	}
	after, err := os.ReadFile(path)
	must(t, err)
	if !slices.Equal(before, after) {
		t.Fatal("the file was changed")
	}
}

func TestOpen_BadSize_TypedErrorNothingChanged(t *testing.T) {
	for name, c := range map[string]struct {
		change int64
		err    error
	}{
		"OnePageLess": {-4096, ErrTruncated},
		"OneByteLess": {-1, ErrTruncated},
		"OneByteMore": {1, ErrOversized},
		"Huge":        {1 << 40, ErrOversized},
		"Tiny":        {-1 << 40, ErrTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t.TempDir())
			table := openTable(t, o)
			size := int64(table.Geometry().FileSize)
			must(t, table.Close())
			path := filepath.Join(o.Dir, "d.flagstone", versionDir, controlFile)
			must(t, os.Truncate(path, max(size+c.change, 100)))
			if c.change >= 1<<40 {
				_, err := Open(limited(t), o)
				mustFail(t, err, c.err)
				return
			}
			checkRefused(t, o, "file size", c.err)
		})
	}
}

func TestOpen_HalfMade_MadeAnew(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"Empty": func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) },
		"Zeros": func(t *testing.T, path string) {
			must(t, os.Truncate(path, 0))
			must(t, os.Truncate(path, 1<<20))
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t.TempDir())
			must(t, openTable(t, o).Close())
			spoil(t, filepath.Join(o.Dir, "d.flagstone", versionDir, controlFile))
			o.MustExist = true
			_, err := Open(limited(t), o)
			mustFail(t, err, ErrNotFound)
			o.MustExist = false
			openTable(t, o)
		})
	}
	t.Run("SegmentsOfTheOneBefore_GoAndNothingElse", func(t *testing.T) {
		o := options(t.TempDir())
		must(t, openTable(t, o).Close())
		home := filepath.Join(o.Dir, "d.flagstone", versionDir)
		must(t, os.Truncate(filepath.Join(home, controlFile), 0))
		for _, name := range append([]string{"slab-0123456789abcdef", "app-fedcba9876543210"}, notSegments...) {
			must(t, os.WriteFile(filepath.Join(home, name), nil, 0o600))
		}
		openTable(t, o)
		left, err := os.ReadDir(home)
		must(t, err)
		var names []string
		for _, e := range left {
			names = append(names, e.Name())
		}
		want := append([]string{controlFile}, notSegments...)
		slices.Sort(want)
		if !slices.Equal(names, want) {
			t.Fatalf("left %v, want %v", names, want)
		}
	})
	t.Run("NotReady", func(t *testing.T) {
		o := options(t.TempDir())
		must(t, openTable(t, o).Close())
		rewrite(t, o, true, func(c *layout.ControlHeader) { c.Ready.Store(0) })
		openTable(t, o)
	})
	t.Run("NotReadyButInUse_Refused", func(t *testing.T) {
		o := options(t.TempDir())
		o.Wake.Poll = time.Hour // a look at the doorbell writes Sleeping
		table := openTable(t, o)
		eventually(t, "the listener sleeps", func() bool { return table.region.Sleeping.Load() == 1 })
		table.ready.Store(0)
		checkRefused(t, o, "Ready", ErrNotReady)
		table.ready.Store(layout.ControlReady)
	})
}

func TestTable_TruncatedUnderneath_ErrFault(t *testing.T) {
	o := options(t.TempDir())
	table := openTable(t, o)
	segment := publish(t, table, spec("x"))
	m, err := table.Mutex(0)
	must(t, err)
	events := table.Watch(limited(t))
	<-events
	must(t, os.Truncate(filepath.Join(table.Dir(), controlFile), 0))
	_, err = table.Reserve(spec("y"))
	mustFail(t, err, ErrFault)
	_, err = table.Reap()
	mustFail(t, err, ErrFault)
	_, err = m.Lock(limited(t))
	mustFail(t, err, ErrFault)
	mustFail(t, table.Retire(segment.Entry()), ErrFault)
	mustFail(t, table.SetFlags(1, 0), ErrFault)
	mustFail(t, table.Ring(3, 1), ErrFault)
	if table.Changes() != 0 || table.Tick() || table.Destroyed() || !table.Retired(segment.Entry()) || table.Dead(1<<32|3<<16) {
		t.Fatal("answers from memory that is gone")
	}
	table.Regions()
	table.Entries()
	table.Acknowledge(3)
	for range events { // ends
	}
	mustFail(t, table.Close(), ErrFault)
}

func TestClock_ForwardOnly_GarbageSetBack(t *testing.T) {
	clock := &testClock{wall: 1_000_000, monotonic: 5_000}
	o := options(t.TempDir())
	o.Clock = clock
	table := openTable(t, o)
	check := func(wall, now uint64) {
		t.Helper()
		if table.Wall() != wall || table.Now() != now {
			t.Fatalf("wall %d, now %d, want %d and %d", table.Wall(), table.Now(), wall, now)
		}
	}
	check(1_000_000, 5_001)
	if table.Tick() {
		t.Fatal("moved though time did not")
	}
	clock.wall, clock.monotonic = 1_000_010, 5_010
	if !table.Tick() {
		t.Fatal("did not move")
	}
	check(1_000_010, 5_011)
	clock.wall, clock.monotonic = 990_010, 5_000 // back by less than a leap, or just that
	table.Tick()
	check(1_000_010, 5_011)
	clock.wall = 990_009 // further
	table.Tick()
	check(990_009, 5_011)
	table.words.Domain.Store(1 << 60)
	table.Tick()
	check(990_009, 5_001)
}

type testClock struct{ wall, monotonic uint64 }

func (c *testClock) Wall() uint64      { return c.wall }
func (c *testClock) Monotonic() uint64 { return c.monotonic }

func TestClock_System_NeverZero(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	if d := time.Since(fromMillis(table.Wall())); table.Now() == 0 || d < -time.Minute || d > time.Minute {
		t.Fatalf("now %d, wall off by %v", table.Now(), d)
	}
}

func TestWatch_EverythingThatHappens(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	events := table.Watch(limited(t))
	expect := func(kind EventKind, what func(e Event) bool) Event {
		t.Helper()
		for {
			select {
			case e, ok := <-events:
				if !ok {
					t.Fatalf("ended while waiting for %v", kind)
				}
				if e.Kind != kind {
					t.Fatalf("%v, want %v", e.Kind, kind)
				}
				if what != nil && !what(e) {
					t.Fatalf("%v: region %+v entry %+v", kind, e.Region, e.Entry)
				}
				return e
			case <-limited(t).Done():
				t.Fatalf("no %v", kind)
			}
		}
	}
	expect(Joined, func(e Event) bool { return e.Region.Self })
	must(t, table.SetFlags(4, 0))
	expect(FlagsChanged, func(e Event) bool { return e.Region.Flags == 4 })
	segment := publish(t, table, spec("x"))
	expect(Published, func(e Event) bool { return e.Entry.Name == "x" })
	drained(t, table, segment.Entry())
	expect(Draining, func(e Event) bool { return e.Entry.Name == "x" })
	must(t, table.Retire(segment.Entry()))
	expect(Retired, func(e Event) bool { return e.Entry.Name == "x" })
	c := start(t, "join", dir)
	region := c.number()
	expect(Joined, func(e Event) bool { return e.Region.Index == region })
	c.finish()
	expect(Left, func(e Event) bool { return e.Region.Index == region })
	c = start(t, "join", dir)
	region = c.number()
	expect(Joined, nil)
	c.kill()
	expect(Died, func(e Event) bool { return e.Region.Index == region && !e.Region.Alive })
	must(t, Destroy(limited(t), dir, "d"))
	expect(Destroyed, nil)
	if _, ok := <-events; ok {
		t.Fatal("goes on after the end")
	}
}
