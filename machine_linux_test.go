package flagstone_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/table"
)

// What happens to the machine, or is done to the files by hand, while processes have a
// cache open: nobody dies of it, who is afflicted gets an error that says what, and
// goes on when it is over.

func init() {
	next := obeyMore
	obeyMore = func(ctx context.Context, c **flagstone.Cache, dir, order string, arg []string) (string, error) {
		if answer, err := obeyMachine(ctx, c, dir, order, arg); err != errUnknown {
			return answer, err
		}
		return next(ctx, c, dir, order, arg)
	}
}

// kinds are the errors that the machine's failures are allowed to cause, by the words
// that children use for them.
var kinds = []struct {
	word string
	err  error
}{
	{"fault", flagstone.ErrFault},
	{"destroyed", flagstone.ErrDestroyed},
	{"memory", flagstone.ErrNoMemory},
	{"space", flagstone.ErrNoSpace},
	{"descriptor", flagstone.ErrNoDescriptor},
	{"access", flagstone.ErrAccess},
	{"missing", flagstone.ErrMissing},
	{"format", table.ErrFormat},
	{"size", table.ErrSegmentSize},
	{"corrupt", flagstone.ErrCorrupt},
	{"busy", flagstone.ErrBusy},
	{"closed", flagstone.ErrClosed},
	{"lost", flagstone.ErrLost},
}

// kindOf returns the word for an error, "good" if there is none, and all of it if it is
// of no kind.
func kindOf(err error) string {
	if err == nil {
		return "good"
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.word
		}
	}
	return strings.ReplaceAll(err.Error(), " ", "_")
}

// outcomes counts by kind what became of the operations of one child's goroutines.
type outcomes struct {
	mu     sync.Mutex // guards counts
	counts map[string]int
}

func (o *outcomes) add(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.counts == nil {
		o.counts = map[string]int{}
	}
	o.counts[kindOf(err)]++
}

// take returns the kinds since the last call.
func (o *outcomes) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var words []string
	for word := range o.counts {
		words = append(words, word)
	}
	clear(o.counts)
	slices.Sort(words)
	return strings.Join(words, " ")
}

var toll outcomes

// toil uses a cache in all ways at once, for ever, beside its pulse and its steward.
func toil(c *flagstone.Cache) {
	bg := context.Background()
	go func() {
		for { // which ends with a fault, and may be begun again
			for range c.Watch(bg) {
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	use := func(op func(i int, k []byte) error) {
		go func() {
			for i := 0; ; i++ {
				toll.add(op(i, fmt.Append(nil, os.Getpid(), i%100)))
				runtime.Gosched()
			}
		}()
	}
	use(func(i int, k []byte) error { return c.Set(bg, k, numberedValue(i), 0) })
	use(func(i int, k []byte) error { _, _, err := c.Get(nil, k); return err })
	use(func(i int, k []byte) error {
		time.Sleep(time.Millisecond)
		var b flagstone.Batch
		err := c.GetBatch(&b, [][]byte{k, numbered(i)})
		if err == nil {
			_, err = c.Delete(bg, k)
		}
		if err == nil {
			_, err = c.Stats()
		}
		return err
	})
}

// stepping is the system's clock, but for the wall clock, to which the milliseconds in a
// file are added.
type stepping string

func (s stepping) Wall() uint64 {
	text, _ := os.ReadFile(string(s))
	offset, _ := strconv.ParseInt(string(text), 10, 64)
	return uint64(time.Now().UnixMilli() + offset)
}

func (stepping) Monotonic() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // never fails
	return uint64(ts.Nano() / 1e6)
}

// was are the limits before they were lowered.
var was = map[int]unix.Rlimit{}

func lower(which int, to uint64) error {
	var l unix.Rlimit
	if err := unix.Getrlimit(which, &l); err != nil {
		return err
	}
	was[which] = l
	return unix.Setrlimit(which, &unix.Rlimit{Cur: to, Max: l.Max})
}

func obeyMachine(ctx context.Context, c **flagstone.Cache, dir, order string, arg []string) (answer string, err error) {
	n, _ := strconv.ParseUint(arg[0], 10, 64)
	switch order {
	case "toil": // opens the cache and uses it for ever
		o := options(dir)
		o.Steward.KeepFor = time.Hour
		o.Search = flagstone.Parallel
		if arg[0] == "stepping" {
			o.Clock = stepping(filepath.Join(dir, "offset"))
		}
		if *c, err = flagstone.Open(ctx, name, o); err != nil {
			return "", err
		}
		toil(*c)
		return strconv.Itoa((*c).Table().Self()), nil
	case "toll": // what became of it since the last time
		return toll.take(), nil
	case "kind": // what opening a cache of n bytes comes to; "readonly" as one who only looks
		o := flagstone.Options{Dir: dir, Size: n, ReadOnly: arg[0] == "readonly"}
		*c, err = flagstone.Open(ctx, name, o)
		if err != nil {
			fmt.Println(kindOf(err))
			return strings.ReplaceAll(err.Error(), "\n", "; "), nil
		}
		return "good", nil
	case "descriptors": // leaves n
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return "", err
		}
		highest := uint64(0)
		for _, f := range open {
			fd, _ := strconv.ParseUint(f.Name(), 10, 64)
			highest = max(highest, fd)
		}
		// Those in between are used up, so that n are left.
		for {
			fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return "", err
			}
			if uint64(fd) >= highest {
				unix.Close(fd)
				return "ok", lower(unix.RLIMIT_NOFILE, uint64(fd)+n)
			}
		}
	case "addresses": // leaves n bytes
		text, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			return "", err
		}
		pages, _ := strconv.ParseUint(strings.Fields(string(text))[0], 10, 64)
		return "ok", lower(unix.RLIMIT_AS, pages*uint64(os.Getpagesize())+n)
	case "unlimited":
		for which, l := range was {
			if err := unix.Setrlimit(which, &l); err != nil {
				return "", err
			}
		}
		return "ok", nil
	case "enlarge": // by a slab of n bytes
		_, err := (*c).Grow(ctx, "", flagstone.Shape{Size: n})
		return kindOf(err), nil
	case "hog": // sets keys for ever, and takes memory, until it is killed
		toil(*c)
		fmt.Println("ok")
		for all := [][]byte{}; ; {
			all = append(all, slices.Repeat([]byte{1}, 1<<20))
			runtime.KeepAlive(all)
		}
	}
	return "", errUnknown
}

// kind wants that opening comes to that, with those words in the error.
func (c *child) kind(want string, size any, words ...string) {
	c.t.Helper()
	got := c.ask("kind", size)
	if got != want {
		c.t.Fatalf("%s, %s, want %s", got, c.hear(), want)
	}
	if want == "good" {
		return
	}
	text := c.hear()
	for _, w := range words {
		if !strings.Contains(text, w) {
			c.t.Errorf("%q does not say %q", text, w)
		}
	}
}

// toils starts a child that uses the cache.
func toils(t *testing.T, dir string, how ...any) *child {
	t.Helper()
	c := start(t, dir)
	if answer := c.ask("toil", how...); strings.HasPrefix(answer, "error") {
		t.Fatal(answer)
	}
	return c
}

// until asks for the toll until it has the word.
func (c *child) until(word string) {
	c.t.Helper()
	eventually(c.t, word, func() bool { return c.tolls(word) })
}

// only waits until there is nothing else any more.
func (c *child) only(word string) {
	c.t.Helper()
	eventually(c.t, "nothing but "+word, func() bool { c.tolls(word); time.Sleep(5 * time.Millisecond); return c.ask("toll") == word })
}

// tolls asks once. A kind of its own is an error that nobody has thought of.
func (c *child) tolls(word string) bool {
	c.t.Helper()
	found := false
	for _, w := range strings.Fields(c.ask("toll")) {
		known := w == "good" || slices.ContainsFunc(kinds, func(k struct {
			word string
			err  error
		},
		) bool {
			return k.word == w
		})
		if !known {
			c.t.Fatalf("neither good nor a known error: %s", w)
		}
		found = found || w == word
	}
	return found
}

// raceDetector says that tests run under it. Its own code does the atomic accesses, and
// dies of a fault, which nothing can recover there.
var raceDetector bool

// recovers reports whether a child comes to nothing but good. Who held a lock when its
// word went finds it lost, and has to open the cache anew.
func (c *child) recovers() bool {
	c.t.Helper()
	answer := ""
	eventually(c.t, "nothing but good, or a lock lost", func() bool {
		c.tolls("good")
		time.Sleep(5 * time.Millisecond)
		answer = c.ask("toll")
		return answer == "good" || slices.Contains(strings.Fields(answer), "lost")
	})
	return answer == "good"
}

// A slab is cut at several lengths under processes that read, write, watch and are
// stewards: they get ErrFault where there is nothing any more, and nobody dies. It grows
// back, empty: they go on.
func TestMachine_SlabTruncatedInUse_ErrFaultThenUsableAgain(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector dies of faults")
	}
	dir := t.TempDir()
	cache := open(t, options(dir))
	file := slabFile(t, dir)
	info, err := os.Stat(file)
	must(t, err)
	var all []*child
	for range 3 {
		all = append(all, toils(t, dir))
	}
	for _, length := range []int64{info.Size() / 2, 4096 + 600, 4096, 100, 0} {
		for _, c := range all {
			c.until("good")
		}
		must(t, os.Truncate(file, length))
		for _, c := range all {
			c.until("fault")
		}
		mustFail(t, cache.Rebuild(limited(t)), flagstone.ErrFault)
		other := open(t, optionsNamed(dir)) // another's openers see none of it
		must(t, other.Set(limited(t), []byte("k"), []byte("v"), 0))
		must(t, other.Close())
		must(t, os.Truncate(file, info.Size()))
		must(t, cache.Rebuild(limited(t)))
		all = slices.DeleteFunc(all, func(c *child) bool { // who cannot go on with this handle
			lost := !c.recovers()
			if lost {
				c.kill()
			}
			return lost
		})
		if length >= 4096 {
			sound(t, cache)
		} else if problems, err := cache.Check(limited(t)); err != nil || len(problems) != 1 || !strings.Contains(problems[0], "nothing but `destroy` helps") {
			t.Fatalf("those who come find no header, and Check says %q, %v", problems, err)
		}
	}
	must(t, cache.Set(limited(t), []byte("k"), []byte("v"), 0))
	mustGet(t, cache, "k", "v")
}

func optionsNamed(dir string) flagstone.Options {
	o := options(filepath.Join(dir, "beside"))
	_ = os.Mkdir(o.Dir, 0o700) // there already
	return o
}

// The control segment is cut: nothing works for lack of clocks and directory, and
// nobody dies. What grows back is empty, which is no domain any more.
func TestMachine_ControlTruncatedInUse_TypedErrorsAndNobodyDies(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector dies of faults")
	}
	for _, length := range []int64{20480, 8192, 4096, 100, 0} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			dir := t.TempDir()
			cache := open(t, options(dir))
			file := controlFile(t, dir)
			info, err := os.Stat(file)
			must(t, err)
			all := []*child{toils(t, dir), toils(t, dir)}
			for _, c := range all {
				c.until("good")
			}
			must(t, os.Truncate(file, length))
			_, err = flagstone.Open(limited(t), name, options(dir))
			mustFail(t, err, table.ErrFormat)
			for _, c := range all {
				if length == 0 {
					c.only("fault")
				}
				c.tolls("")
			}
			must(t, os.Truncate(file, info.Size()))
			for _, c := range all {
				c.tolls("")
			}
			if length < 4096 {
				_, err = flagstone.Open(limited(t), name, options(dir))
				mustFail(t, err, table.ErrNotReady) // some still hold their leases
				mustName(t, err, "destroy")
			}
			must(t, flagstone.Destroy(limited(t), dir, name))
			next := open(t, options(dir))
			for _, c := range all {
				eventually(t, "refused", func() bool { return !c.tolls("good") })
			}
			must(t, next.Set(limited(t), []byte("k"), []byte("v"), 0))
			mustGet(t, next, "k", "v")
			sound(t, next)
			_ = cache.Close() // ErrFault or not
		})
	}
}

// Somebody removes, replaces or moves the files instead of destroying the cache: all
// who have it open say ErrDestroyed soon, who opens the name gets a new one, and nothing of the two is mixed.
func TestMachine_FilesRemovedByHand_ErrDestroyedAndASuccessor(t *testing.T) {
	for what, away := range map[string]func(t *testing.T, dir string){
		"control removed": func(t *testing.T, dir string) { must(t, os.Remove(controlFile(t, dir))) },
		"all removed":     func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, name+".flagstone"))) },
		"moved away": func(t *testing.T, dir string) {
			must(t, os.Rename(filepath.Join(dir, name+".flagstone"), filepath.Join(dir, "old.flagstone")))
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			cache := open(t, options(dir))
			o := options(dir)
			o.ReadOnly = true
			reader := open(t, o)
			busy := []*child{toils(t, dir), toils(t, dir)}
			idle := opened(t, dir)
			idle.expect("ok", "set", "idle", "old")
			for _, c := range busy {
				c.until("good")
			}
			events := cache.Watch(limited(t))
			uuid := cache.Table().UUID()
			away(t, dir)
			next := open(t, options(dir))
			if next.Table().UUID() == uuid {
				t.Fatal("the old one was opened")
			}
			must(t, next.Set(limited(t), []byte("k"), []byte("new"), 0))
			for _, c := range busy {
				eventually(t, "destroyed", func() bool { return c.ask("toll") != "" && c.ask("set", "k", "x") != "ok" })
				c.refused(flagstone.ErrDestroyed, "set", "k", "x")
			}
			eventually(t, "the idle one knows", func() bool { return idle.ask("set", "idle", "x") != "ok" })
			idle.refused(flagstone.ErrDestroyed, "set", "k", "x")
			idle.refused(flagstone.ErrDestroyed, "get", "missing")
			idle.expect("destroyed", "enlarge", 1<<20)
			for e := range events {
				if e.Kind == table.Destroyed {
					uuid = [2]uint64{}
				}
			}
			if uuid != ([2]uint64{}) {
				t.Error("watchers were not told")
			}
			eventually(t, "the reader knows", func() bool {
				_, _, err := reader.Get(nil, []byte("missing"))
				return errors.Is(err, flagstone.ErrDestroyed)
			})
			mustFail(t, cache.Table().Exclusive(limited(t), func() error { return nil }), flagstone.ErrDestroyed)
			mustGet(t, next, "k", "new")
			if n, err := next.Len(); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			slabFile(t, dir) // is the only one
			sound(t, next)
			idle.expect("closed", "close")
			idle.open()
			idle.expect("true new", "get", "k")
		})
	}
}

// Another domain's control file takes the place of this one's.
func TestMachine_ControlReplaced_ErrDestroyedNeverAMix(t *testing.T) {
	dir := t.TempDir()
	a := opened(t, dir)
	a.expect("ok", "set", "k", "a")
	file := controlFile(t, dir)
	o := optionsNamed(dir)
	b := open(t, o)
	must(t, b.Set(limited(t), []byte("k"), []byte("b"), 0))
	must(t, os.Rename(controlFile(t, o.Dir), file))
	eventually(t, "the first knows", func() bool { return a.ask("set", "k", "x") != "ok" })
	a.refused(flagstone.ErrDestroyed, "set", "k", "x")
	eventually(t, "the second knows", func() bool { return b.Set(limited(t), []byte("k"), []byte("x"), 0) != nil })
	mustFail(t, b.Set(limited(t), []byte("k"), nil, 0), flagstone.ErrDestroyed)
	// Its slab is not where its control segment is now.
	_, err := flagstone.Open(limited(t), name, options(dir))
	mustFail(t, err, flagstone.ErrMissing)
	mustName(t, err, "Destroy")
	must(t, flagstone.Destroy(limited(t), dir, name))
	for _, o := range []flagstone.Options{options(dir), o} {
		c := open(t, o)
		mustMiss(t, c, "k")
		sound(t, c)
	}
}

// tmpfs mounts a file system of that many bytes, or skips.
func tmpfs(t *testing.T, size int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("mode=0700,size=%d", size)); err != nil {
		t.Skipf("may not mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// files are all that there is below a directory.
func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		all = append(all, path)
		return err
	}))
	return all
}

// The file system fills up: Grow says ErrNoSpace and leaves nothing, a steward that wants a
// slab says so once and goes on, writers evict. With room again it grows.
func TestMachine_FileSystemFull_GrowRefusedAndStewardGoesOn(t *testing.T) {
	dir := tmpfs(t, 4<<20)
	var notGrown, grew atomic.Int64
	o := small(dir)
	o.Entries = 300
	o.Steward.KeepFor = time.Hour
	o.OnEvent = func(e flagstone.Event) {
		switch {
		case e.Kind == flagstone.EventNotGrown && errors.Is(e.Err, flagstone.ErrNoSpace):
			notGrown.Add(1)
		case e.Kind == flagstone.EventGrew:
			grew.Add(1)
		}
	}
	c := open(t, o)
	peer := opened(t, dir)
	var fs unix.Statfs_t
	must(t, unix.Statfs(dir, &fs))
	hog := filepath.Join(dir, "hog")
	must(t, os.WriteFile(hog, make([]byte, fs.Bavail*uint64(fs.Bsize)-8192), 0o600))
	before := files(t, dir)
	_, err := c.Grow(limited(t), "more", flagstone.Shape{})
	mustFail(t, err, flagstone.ErrNoSpace)
	mustName(t, err, "bytes needed", "free;")
	_, err = c.CreateSlab(limited(t), "own", shapeOfSlab)
	mustFail(t, err, flagstone.ErrNoSpace)
	set := func(i int) {
		must(t, c.Set(limited(t), fmt.Append(nil, i), []byte("v"), 0))
	}
	i := 0
	eventually(t, "the steward says so", func() bool { set(i); i++; return notGrown.Load() > 0 })
	for end := i + 2000; i < end; i++ {
		set(i)
	}
	peer.expect("ok", "set", "k", "v")
	peer.expect("true v", "get", "k")
	if n := notGrown.Load(); n != 1 || grew.Load() != 0 {
		t.Fatalf("said %d times", n)
	}
	if after := files(t, dir); !slices.Equal(before, after) {
		t.Fatalf("%v, there were %v", after, before)
	}
	sound(t, c)
	must(t, os.Remove(hog))
	eventually(t, "it grows", func() bool { set(i); i++; return grew.Load() > 0 })
	sound(t, c)
	peer.expect("ok", "set", "k", "w")
	mustGet(t, c, "k", "w")
}

// At every number of descriptors left, Open succeeds or says ErrNoDescriptor, and
// leaves nothing half made; with more it succeeds.
func TestMachine_OutOfDescriptors_OpenSaysSo(t *testing.T) {
	dir := t.TempDir()
	c := start(t, dir)
	refused := 0
	for left := 0; ; left++ {
		c.expect("ok", "descriptors", left)
		got := c.ask("kind", 1<<20)
		if got == "good" {
			break
		}
		if text := c.hear(); got != "descriptor" || !strings.Contains(text, "RLIMIT_NOFILE") {
			t.Fatalf("with %d left: %s, %s", left, got, text)
		}
		if refused++; refused > 30 {
			t.Fatal("never enough")
		}
		c.expect("ok", "unlimited")
		if names, err := table.List(dir); len(names) != 0 || err != nil {
			t.Fatalf("with %d left: %v, %v", left, names, err)
		}
		if left := files(t, dir); len(left) != 1 {
			t.Fatalf("left behind: %v", left)
		}
	}
	if refused < 3 {
		t.Fatalf("refused %d times only", refused)
	}
	c.expect("ok", "set", "k", "v")
	cache := open(t, options(dir))
	mustGet(t, cache, "k", "v")
	sound(t, cache)
}

// Without descriptors a slab that others add cannot be attached, and none added; what is above it
// goes on. Others are unharmed, and so is this one afterwards.
func TestMachine_OutOfDescriptors_AttachAndGrowLater(t *testing.T) {
	dir := t.TempDir()
	a := open(t, small(dir))
	must(t, a.Set(limited(t), []byte("k"), []byte("k"), 0))
	c := start(t, dir)
	c.ask("join", "signal")
	c.expect("true k", "get", "k")
	c.expect("ok", "descriptors", 0)
	c.expect("descriptor", "enlarge", 1<<20)
	growMore(t, a, 1, 100)
	must(t, a.Set(limited(t), []byte("new"), []byte("new"), 0))
	sink(t, a, 1)
	c.refused(flagstone.ErrNoDescriptor, "get", "k")
	c.refused(flagstone.ErrUnattached, "set", "k", "x")
	mustGet(t, a, "k", "k")
	must(t, a.Set(limited(t), []byte("above"), []byte("above"), 0))
	c.expect("true above", "get", "above")
	c.expect("ok", "unlimited")
	c.expect("true k", "get", "k")
	c.expect("ok", "set", "k", "x")
	c.expect("good", "enlarge", 1<<20)
	mustGet(t, a, "k", "x")
	sound(t, a)
}

// The same for the address space.
func TestMachine_AddressSpaceLimited_ErrNoMemoryUntilItIsNot(t *testing.T) {
	const most, large = 256 << 20, 300 << 20 // the first for Go itself
	dir := t.TempDir()
	c := start(t, dir)
	c.expect("ok", "addresses", most)
	c.kind("memory", large, "RLIMIT_AS is", "ulimit -v", "cannot allocate memory")
	if names, err := filepath.Glob(filepath.Join(dir, "*", "*", "slab-*")); len(names) != 0 || err != nil {
		t.Fatalf("left behind: %v, %v", names, err)
	}
	c.kind("good", 1<<20)
	c.expect("ok", "set", "k", "k")
	c.expect("memory", "enlarge", large)
	a := open(t, options(dir))
	_, err := a.Grow(limited(t), "", flagstone.Shape{Size: large})
	must(t, err)
	c.refused(flagstone.ErrNoMemory, "get", "missing")
	c.refused(flagstone.ErrUnattached, "set", "k", "x")
	c.expect("true k", "get", "k")
	mustMiss(t, a, "missing")
	c.expect("ok", "unlimited")
	c.expect("false ", "get", "missing")
	c.expect("ok", "set", "k", "x")
	mustGet(t, a, "k", "x")
	sound(t, a)
}

// as starts a child of another user.
func as(t *testing.T, dir string, user uint32) *child {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to be another user")
	}
	prepare = func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	}
	defer func() { prepare = func(*exec.Cmd) {} }()
	return start(t, dir)
}

// A directory in which this user may not write: nothing can be made there, and it says why. What is there can be looked at.
func TestMachine_DirectoryNotWritable_ErrAccessAndReadOnlyWorks(t *testing.T) {
	const nobody = 65534
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		must(t, os.Chmod(d, 0o755))
	}
	c := as(t, dir, nobody)
	c.kind("access", 1<<20, "permission denied", fmt.Sprint("user ", nobody), "Dir")
	if left := files(t, dir); len(left) != 1 {
		t.Fatalf("left behind: %v", left)
	}
	must(t, os.Chown(dir, nobody, nobody))
	c.kind("good", 1<<20)
	c.expect("ok", "set", "k", "v")
	version := filepath.Dir(controlFile(t, dir))
	for _, path := range append(files(t, version), filepath.Dir(version)) {
		info, err := os.Stat(path)
		must(t, err)
		must(t, os.Chmod(path, info.Mode().Perm()&0o500))
	}
	other := as(t, dir, nobody)
	other.kind("access", 1<<20, "ReadOnly")
	other.kind("good", "readonly")
	other.expect("true v", "get", "k")
	c.expect("ok", "set", "k", "w")
	other.expect("true w", "get", "k")
	c.expect("access", "enlarge", 1<<20)
	c.expect("true w", "get", "k")
}

func TestMachine_MountedForReading_ErrAccessAndReadOnlyWorks(t *testing.T) {
	dir := tmpfs(t, 8<<20)
	empty := tmpfs(t, 1<<20)
	cache := open(t, options(dir))
	must(t, cache.Set(limited(t), []byte("k"), []byte("v"), 0))
	look := t.TempDir()
	must(t, unix.Mount(dir, look, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(look, unix.MNT_DETACH) })
	for _, d := range []string{look, empty} {
		must(t, unix.Mount("", d, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
		_, err := flagstone.Open(limited(t), name, options(d))
		mustFail(t, err, flagstone.ErrAccess)
		mustName(t, err, "mounted for reading", "ReadOnly")
	}
	o := options(look)
	o.ReadOnly = true
	reader := open(t, o)
	mustGet(t, reader, "k", "v")
	must(t, cache.Set(limited(t), []byte("k"), []byte("w"), 0))
	mustGet(t, reader, "k", "w")
}

// The wall clock of the whole machine steps by hours, forward and back, under processes
// at work: what expires follows it, ages do not, and nobody gets an error.
func TestMachine_WallClockSteps_ExpiryFollowsAndNobodyIsHarmed(t *testing.T) {
	dir := t.TempDir()
	offset := filepath.Join(dir, "offset")
	step := func(hours int64) {
		must(t, os.WriteFile(offset+".new", fmt.Append(nil, hours*hour), 0o600))
		must(t, os.Rename(offset+".new", offset))
	}
	step(0)
	o := options(dir)
	o.Clock = stepping(offset)
	o.Steward.Off = true
	cache := open(t, o)
	all := []*child{toils(t, dir, "stepping"), toils(t, dir, "stepping"), toils(t, dir, "stepping")}
	began := time.Now()
	must(t, cache.Set(limited(t), []byte("always"), []byte("v"), flagstone.NoExpiry))
	for _, hours := range []int64{5, -3, 0, 24 * 365, -24 * 365, 0} {
		for _, c := range all {
			c.only("good")
		}
		must(t, cache.Set(limited(t), []byte("hour"), []byte("v"), time.Hour))
		for _, c := range all {
			c.expect("true v", "get", "hour")
		}
		before := cache.Table().Wall()
		step(hours)
		eventually(t, "the domain's clock has stepped", func() bool {
			now := cache.Table().Wall()
			return max(now, before)-min(now, before) > uint64(hour)
		})
		want := "true v" // going back it is good for longer
		if cache.Table().Wall() > before {
			want = "false "
		}
		for _, c := range all {
			eventually(t, want, func() bool { return c.ask("get", "hour") == want })
			c.expect("true v", "get", "always")
		}
		must(t, scan(limited(t), cache, func(r flagstone.Record) bool {
			if r.Idle > time.Since(began)+time.Second {
				t.Errorf("%s was last used %v ago, says its age", r.Key, r.Idle)
			}
			return true
		}))
	}
	for _, c := range all {
		c.only("good")
	}
	sound(t, cache)
}

// group makes a control group within this process's own, with that much memory, or
// skips, and returns what moves a child into it.
func group(t *testing.T, limit int) (into func(c *child)) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	must(t, err)
	mount, file, own := "/sys/fs/cgroup", "memory.max", ""
	for line := range strings.Lines(string(text)) {
		field := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if field[1] == "memory" {
			mount, file, own = "/sys/fs/cgroup/memory", "memory.limit_in_bytes", field[2]
			break
		}
		if field[1] == "" {
			own = field[2]
		}
	}
	dir := filepath.Join(mount, own, fmt.Sprint("flagstone-test-", os.Getpid(), "-", time.Now().UnixNano()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("may not make a control group: %v", err)
	}
	t.Cleanup(func() {
		eventually(t, "the group is empty", func() bool { return unix.Rmdir(dir) == nil })
	})
	if err := os.WriteFile(filepath.Join(dir, file), fmt.Append(nil, limit), 0o600); err != nil {
		t.Skipf("may not limit a control group's memory: %v", err)
	}
	return func(c *child) {
		must(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, c.cmd.Process.Pid), 0o600))
	}
}

// A segment that the control group has no memory for is refused: reserving it would get
// the process killed. A smaller one is made.
func TestMachine_GroupLeavesLess_RefusedInsteadOfKilled(t *testing.T) {
	dir := tmpfs(t, 1<<30)
	into := group(t, 64<<20)
	c := start(t, dir)
	into(c)
	c.kind("memory", 100<<20, "bytes needed", "free of the 67108864 in", "raise")
	if left := files(t, dir); len(left) != 1 {
		t.Fatalf("left behind: %v", left)
	}
	c.kind("good", 16<<20)
	c.expect("ok", "set", "k", "v")
	c.expect("memory", "enlarge", 100<<20)
	cache := open(t, options(dir))
	_, err := cache.Grow(limited(t), "", flagstone.Shape{Size: 100 << 20}) // this process may
	must(t, err)
	c.expect("true v", "get", "k")
	c.expect("ok", "set", "k", "w")
	mustGet(t, cache, "k", "w")
	sound(t, cache)
}

// The kernel kills a process amid its writes for want of memory in its group. The others
// go on.
func TestMachine_KilledByItsGroup_OthersGoOn(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	into := group(t, 96<<20)
	for range 3 {
		peer := toils(t, dir)
		peer.until("good")
		victim := opened(t, dir)
		into(victim)
		victim.expect("ok", "hog")
		for victim.lines.Scan() {
			t.Fatal(victim.lines.Text())
		}
		var status *exec.ExitError
		if err := victim.cmd.Wait(); !errors.As(err, &status) || status.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
			t.Fatalf("%v, not killed", err)
		}
		must(t, cache.Set(limited(t), []byte("k"), []byte("v"), 0))
		mustGet(t, cache, "k", "v")
		peer.only("good")
		sound(t, cache)
		peer.kill()
	}
}
