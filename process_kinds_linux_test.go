package flagstone_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/identity"
	"github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/table"
)

const workerVariable = "FLAGSTONE_TEST_WORKER"

func init() {
	if dir := os.Getenv(workerVariable); dir != "" {
		if err := work(dir); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	next := obeyMore
	obeyMore = func(ctx context.Context, c **flagstone.Cache, dir, order string, arg []string) (string, error) {
		n, _ := strconv.Atoi(arg[0])
		switch order {
		case "opengroup":
			o := options(dir)
			o.Group = true
			cache, err := flagstone.Open(ctx, name, o)
			if err != nil {
				var access *table.AccessError
				return "", fmt.Errorf("typed %v: %w", errors.As(err, &access), err)
			}
			*c = cache
			return strconv.Itoa(cache.Table().Self()), nil
		case "lockall": // holds all locks
			s, err := (*c).Tiers()
			if err != nil {
				return "", err
			}
			_, err = s[0].LockWriters(ctx)
			return "locked", err
		case "exec": // becomes another program, which is this one from its start
			return "", unix.Exec("/proc/self/exe", os.Args[:1], os.Environ())
		case "pid":
			return strconv.Itoa(os.Getpid()), nil
		case "ring":
			err := (*c).Table().Ring(n, table.ReasonApplication)
			return fmt.Sprint(errors.Is(err, signal.ErrNotSent), " ", errors.Is(err, identity.ErrElsewhere)), nil
		case "prefork": // starts n workers, which live on
			for range n {
				worker := exec.Command("/proc/self/exe")
				worker.Env = append(os.Environ(), workerVariable+"="+dir)
				worker.Stderr = os.Stderr
				if err := worker.Start(); err != nil {
					return "", err
				}
			}
			return "ok", nil
		}
		return next(ctx, c, dir, order, arg)
	}
}

// work is the life of a worker: it says that it is there, counts, and goes when it is told.
func work(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := flagstone.Open(ctx, name, options(dir))
	if err != nil {
		return err
	}
	open, err := controls(os.Getpid())
	if err == nil && open != 1 {
		err = fmt.Errorf("%d descriptors of control", open)
	}
	if err == nil {
		err = c.Set(ctx, fmt.Append(nil, "worker ", os.Getpid()), []byte("here"), 0)
	}
	for told := false; err == nil && !told; {
		if _, err = c.Increment(ctx, []byte("n"), 1, 0, 0); err == nil {
			_, told, err = c.Peek(nil, []byte("stop"))
		}
	}
	return errors.Join(err, c.Close())
}

// controls counts the descriptors of control files that a process has.
func controls(pid int) (n int, err error) {
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if path, err := os.Readlink(fd); err == nil && filepath.Base(path) == "control" {
			n++
		}
	}
	return n, err
}

// exec keeps the pid and takes descriptors and mappings: the owner is dead, though its
// process is not.
func TestExec_HoldingLocks_OthersTakeOverThoughThePidLives(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	must(t, cache.Set(limited(t), []byte("k"), []byte("v"), 0))
	c := opened(t, dir)
	pid := c.ask("pid")
	c.expect("locked", "lockall")
	c.tell("exec")
	must(t, cache.Set(limited(t), []byte("k"), []byte("w"), 0))
	c.expect(pid, "pid") // the other program
	n, err := controls(c.cmd.Process.Pid)
	if must(t, err); n != 0 {
		t.Fatalf("%d descriptors outlived exec", n)
	}
	c.open()
	c.expect("true w", "get", "k")
	c.expect("ok", "set", "k", "x")
	mustGet(t, cache, "k", "x")
	sound(t, cache)
}

// A master opens the cache, starts workers by fork and exec, as Node's cluster and other
// preforking servers do, and dies; none of them has anything of it.
func TestPrefork_MasterKilled_WorkersGoOn(t *testing.T) {
	const workers = 4
	dir := t.TempDir()
	cache := open(t, options(dir))
	master := opened(t, dir)
	master.expect("ok", "prefork", workers)
	handles := func() (alive []table.Region) {
		for _, r := range cache.Table().Regions() {
			if r.Alive {
				alive = append(alive, r)
			}
		}
		return alive
	}
	here := func() (n int) {
		must(t, scan(limited(t), cache, func(r flagstone.Record) bool {
			if strings.HasPrefix(string(r.Key), "worker") {
				n++
			}
			return true
		}))
		return n
	}
	eventually(t, "all work", func() bool { return here() == workers })
	master.kill()
	if n := len(handles()); n != workers+1 {
		t.Fatalf("%d handles live, want %d and this one: the master's lease was inherited", n, workers)
	}
	count := func() int64 { n, err := cache.Increment(limited(t), []byte("n"), 0, 0, 0); must(t, err); return n }
	before := count()
	eventually(t, "they go on", func() bool { return count() > before+100 })
	must(t, cache.Set(limited(t), []byte("stop"), nil, 0))
	eventually(t, "all have gone", func() bool { return len(handles()) == 1 })
	sound(t, cache)
}

// With FLAGSTONE_LONG for a minute.
func TestStopped_InsideALock_OthersBusyReadersAndOtherShardsGoOn(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	o.Steward.Off = true
	cache := open(t, o)
	stays := map[int][]byte{} // by shard
	for shard := range shards {
		stays[shard] = keyIn(cache, shard)
		must(t, cache.Set(limited(t), stays[shard], stays[shard], 0))
	}
	c := opened(t, dir)
	c.expect("ok", "hammer", "big")
	shard := c.stopHolding(cache)
	until := time.Now()
	if os.Getenv("FLAGSTONE_LONG") != "" {
		until = until.Add(time.Minute)
	}
	for first := true; first || time.Now().Before(until); first = false {
		err := cache.Set(brief(t), stays[shard], []byte("new"), 0)
		mustFail(t, err, flagstone.ErrBusy, context.DeadlineExceeded)
		mustName(t, err, fmt.Sprintf("region %d", c.region), fmt.Sprintf("pid %d", c.cmd.Process.Pid), "stopped")
		for other := range shards {
			if v, ok, err := cache.Get(nil, stays[other]); string(v) != string(stays[other]) || !ok || err != nil {
				t.Fatalf("shard %d of %d: %q, %v, %v", other, shard, v, ok, err)
			}
			if other != shard {
				must(t, cache.Set(limited(t), stays[other], stays[other], 0))
			}
		}
		if v, ok, err := cache.Get(nil, []byte("big")); ok && !whole(v) || err != nil && !errors.Is(err, flagstone.ErrBusy) {
			t.Fatalf("big: %d bytes, %v, %v", len(v), ok, err)
		}
	}
	c.resume()
	must(t, cache.Set(limited(t), stays[shard], []byte("new"), 0))
	mustGet(t, cache, string(stays[shard]), "new")
	before, err := cache.Stats()
	must(t, err)
	eventually(t, "it goes on", func() bool { st, err := cache.Stats(); must(t, err); return st.Sets > before.Sets+10 })
	st, err := cache.Stats()
	must(t, err)
	if st.Steals != 0 || st.Rebuilds != 0 {
		t.Fatalf("%d locks were taken from it, %d shards rebuilt", st.Steals, st.Rebuilds)
	}
	sound(t, cache)
	mustGetWhole(t, cache, "big")
}

func mustGetWhole(t *testing.T, c *flagstone.Cache, key string) {
	t.Helper()
	v, ok, err := c.Get(nil, []byte(key))
	if err != nil || !ok || !whole(v) {
		t.Fatalf("%s: %d bytes, %v, %v", key, len(v), ok, err)
	}
}

// inside is start for a child with those attributes, by way of a shell if there is
// something to do before.
func inside(t *testing.T, dir string, attr *syscall.SysProcAttr, before string) *child {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	c := prepared(t, dir)
	c.cmd.SysProcAttr = attr
	if before != "" {
		self, err := os.Executable()
		must(t, err)
		shell := exec.Command("/bin/sh", "-c", before+` && exec "$0"`, self)
		c.cmd.Path, c.cmd.Args = shell.Path, shell.Args
	}
	if err := c.cmd.Start(); err != nil {
		t.Skipf("%+v: %v", attr, err)
	}
	t.Cleanup(c.kill)
	return c
}

// Each believes to be pid 1, and that the other one is.
func TestPidNamespaces_BothPeersPid1_ShareAndRecover(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	const mount = "mount --make-rprivate / && mount -t proc proc /proc"
	in := func() *child {
		return inside(t, dir, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}, mount)
	}
	a, b := in(), in()
	for _, c := range []*child{a, b} {
		c.tell("pid")
		if !c.lines.Scan() {
			t.Skip("no pid namespace with a /proc of its own")
		}
		if got := c.lines.Text(); got != "1" {
			t.Fatalf("pid %s", got)
		}
		c.open()
	}
	spaces := map[uint64]bool{}
	for _, r := range cache.Table().Regions() {
		if !r.Self && r.Pid != 1 {
			t.Fatalf("%+v", r)
		}
		spaces[r.PidNamespace] = true
	}
	if len(spaces) != 3 {
		t.Fatalf("%d namespaces", len(spaces))
	}
	a.expect("ok", "set", "k", "v")
	b.expect("true v", "get", "k")
	// Rung, but not by a signal: pid 1 here is another process there.
	eventually(t, "nobody is awake", func() bool { return a.ask("ring", b.region) == "true true" })
	eventually(t, "nobody is awake", func() bool { return b.ask("ring", a.region) == "true true" })
	a.expect("locked", "lockall")
	a.kill()
	b.expect("ok", "set", "k", "w")
	mustGet(t, cache, "k", "w")
	b.expect("closed", "close")
	sound(t, cache)
}

func TestGroup_TwoUsers_ShareAndRecover_ThirdRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be other users")
	}
	const group = 64_201
	dir := filepath.Join(t.TempDir(), "shared")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Chown(dir, 0, group))
	must(t, os.Chmod(dir, os.ModeSticky|os.ModeSetgid|0o777)) // as /dev/shm, with a group
	for d := filepath.Dir(dir); d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	user := func(uid uint32, groups ...uint32) *child {
		return inside(t, dir, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: groups}}, "")
	}
	join := func(c *child) {
		c.t.Helper()
		answer := c.ask("opengroup")
		var err error
		if c.region, err = strconv.Atoi(answer); err != nil {
			t.Fatal(answer)
		}
	}
	a, b, stranger := user(64_202, group), user(64_203, group), user(64_204)
	join(a)
	join(b)
	a.expect("ok", "set", "k", "v")
	b.expect("true v", "get", "k")
	b.expect("ok", "set", "k", "w")
	a.expect("true w", "get", "k")
	if got := stranger.ask("opengroup"); !strings.Contains(got, "typed true") || !strings.Contains(got, "permission denied") || !strings.Contains(got, strconv.Itoa(group)) {
		t.Fatalf("a user without the group: %s", got)
	}
	a.expect("locked", "lockall")
	a.kill()
	b.expect("ok", "set", "k", "x")
	b.expect("true x", "get", "k")
	c := user(64_202, group) // the first one again, in files that the second has repaired
	join(c)
	c.expect("true x", "get", "k")
	c.expect("ok", "set", "k", "y")
	b.expect("true y", "get", "k")
	c.expect("closed", "close")
	b.expect("closed", "close")
}
