//go:build linux

package identity

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

const roleVariable = "FLAGSTONE_IDENTITY_ROLE"

// roles are what the test binary does when it is started as a child.
var roles = map[string]func() error{
	"wait": func() error { return introduce(os.Args[1:]...) },
	"exec": func() error {
		return errors.Join(introduce(), unix.Exec("/proc/self/exe", os.Args[:1], []string{roleVariable + "=drain"}))
	},
	"drain": func() error {
		signal.Ignore(unix.SIGUSR1)
		fmt.Println("drain")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	},
	"recycle": recycle,
}

func TestMain(m *testing.M) {
	role := roles[os.Getenv(roleVariable)]
	if role == nil {
		os.Exit(m.Run())
	}
	if err := role(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// introduce prints this process's identity and waits for a byte or end of input.
// An argument becomes its command name first.
func introduce(name ...string) error {
	if len(name) > 0 {
		if err := os.WriteFile("/proc/self/comm", []byte(name[0]), 0); err != nil {
			return err
		}
	}
	id, err := Self()
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(id); err != nil {
		return err
	}
	_, err = os.Stdin.Read(make([]byte, 1))
	if err == io.EOF {
		return nil
	}
	return err
}

// child is a process in one of the roles.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	id  Identity
}

func startChild(role string, attr *syscall.SysProcAttr, args ...string) (*child, error) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = attr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, in: in, out: bufio.NewReader(out)}
	line, err := c.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &c.id)
	}
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	return c, nil
}

func (c *child) end() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

func start(t *testing.T, role string, args ...string) *child {
	t.Helper()
	c, err := startChild(role, nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.end)
	return c
}

func TestSelf_TwoCalls_DifferInInstanceOnly(t *testing.T) {
	a, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	if a.Instance == b.Instance {
		t.Errorf("instance %x twice", a.Instance)
	}
	b.Instance = a.Instance
	if a != b {
		t.Errorf("%+v and %+v", a, b)
	}
	if int(a.Pid) != os.Getpid() || a.StartTicks == 0 || a.Boot == [2]uint64{} {
		t.Errorf("%+v", a)
	}
}

func TestStore_Load_IsIdentity(t *testing.T) {
	r := shm.At[layout.Region](shm.Heap(layout.SizeRegion).Window(), 0)
	id := Identity{[2]uint64{1, 2}, 3, 4, 5, 6, 7, [2]uint64{8, 9}}
	id.Store(r)
	if got := Load(r); got != id {
		t.Errorf("stored %+v, loaded %+v", id, got)
	}
}

func TestParseStartTicks_AnyCommandName_FindsField22(t *testing.T) {
	rest := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21"
	for _, name := range []string{"go", "", "a b", ") R 1 2 (", "))((", "x\ny) S 1", "\x00\xff"} {
		if ticks, err := parseStartTicks([]byte("12 (" + name + ")" + rest)); err != nil || ticks != 987654 {
			t.Errorf("%q: %d, %v", name, ticks, err)
		}
	}
	for _, bad := range []string{"", "12", "12 (a", "12 (a)", "12 (a) S 1 2 3", "1 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x"} {
		if ticks, err := parseStartTicks([]byte(bad)); err == nil {
			t.Errorf("%q: %d", bad, ticks)
		}
	}
}

func TestParseCaught_Status_FindsLine(t *testing.T) {
	caught, err := parseCaught([]byte("Name:\tSigCgt: \\n\nSigIgn:\t01\nSigCgt:\t0000000000000a00\nX:\n"))
	if err != nil || caught != 0xa00 {
		t.Errorf("%#x, %v", caught, err)
	}
	for _, bad := range []string{"", "Name:\tSigCgt:", "SigCgt:\n", "SigCgt:\tzz\n"} {
		if caught, err := parseCaught([]byte(bad)); err == nil {
			t.Errorf("%q: %#x", bad, caught)
		}
	}
}

func TestOpen_OddCommandName_Verified(t *testing.T) {
	for _, name := range []string{"a) S 1 2 3", "((()", "new\nline) R"} {
		p, err := start(t, "wait", name).id.Open()
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		p.Close()
	}
}

func TestOpen_Killed_Gone(t *testing.T) {
	c := start(t, "wait")
	p, err := c.id.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 10_000); err != nil {
		t.Fatal(err)
	}
	isGone := func(when string) {
		t.Helper()
		if q, err := c.id.Open(); !errors.Is(err, ErrGone) {
			t.Errorf("%s: Open: %v, %v", when, q, err)
		}
		if _, err := p.Catches(unix.SIGUSR1); !errors.Is(err, ErrGone) {
			t.Errorf("%s: Catches: %v", when, err)
		}
	}
	isGone("zombie")
	_ = c.cmd.Wait()
	isGone("reaped")
	if th, err := p.Thread(uint32(p.pid) + 1); !errors.Is(err, ErrGone) {
		t.Errorf("reaped: Thread: %v, %v", th, err)
	}
}

func TestOpen_Stopped_IsNotGone(t *testing.T) {
	c := start(t, "wait")
	if err := c.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(c.cmd.Process.Pid, &ws, unix.WUNTRACED, nil); err != nil || !ws.Stopped() {
		t.Fatal(ws, err)
	}
	p, err := c.id.Open()
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
}

func TestOpen_OtherIdentity_Refused(t *testing.T) {
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	pid := func(n uint32) func(*Identity) { return func(id *Identity) { id.Pid = n } }
	for name, c := range map[string]struct {
		change func(*Identity)
		want   error
	}{
		"boot":             {func(id *Identity) { id.Boot[1]++ }, ErrElsewhere},
		"zero":             {func(id *Identity) { *id = Identity{} }, ErrElsewhere},
		"namespace":        {func(id *Identity) { id.PidNamespace++ }, ErrElsewhere},
		"ticks":            {func(id *Identity) { id.StartTicks--; id.PidfdInode = 0 }, ErrGone},
		"pid 0":            {pid(0), ErrGone},
		"pid of a thread":  {pid(uint32(aThread(t))), ErrGone},
		"pid beyond":       {pid(1 << 30), ErrGone},
		"pid out of range": {pid(1 << 31), ErrGone},
		"pid minus one":    {pid(1<<32 - 1), ErrGone},
		"another's pid":    {pid(uint32(os.Getppid())), ErrGone},
	} {
		id := self
		c.change(&id)
		if _, err := id.Open(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if self.PidfdInode == 0 {
		t.Skip("this kernel's pidfds have no inodes of their own")
	}
	other := self
	other.PidfdInode++
	if _, err := other.Open(); !errors.Is(err, ErrGone) {
		t.Errorf("inode: %v", err)
	}
	other = self
	other.StartTicks++
	if _, err := other.Open(); !errors.Is(err, ErrElsewhere) {
		t.Errorf("ticks of the same inode: %v", err)
	}
}

// aThread returns the number of a thread of this process that does not lead it.
func aThread(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if n, err := strconv.Atoi(e.Name()); err == nil && n != os.Getpid() {
			return n
		}
	}
	t.Skip("one thread only")
	return 0
}

func TestOpen_ManyFailures_LeakNoDescriptor(t *testing.T) {
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	self.StartTicks++
	descriptors := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := descriptors()
	for range 50 {
		if _, err := self.Open(); err == nil {
			t.Fatal("opened")
		}
	}
	if after := descriptors(); after > before+10 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestCatches_Execed_HandlersAreGone(t *testing.T) {
	c := start(t, "exec")
	p, err := c.id.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if yes, err := p.Catches(unix.SIGUSR1); err != nil || !yes {
		t.Fatalf("before exec: %v, %v", yes, err)
	}
	if _, err := c.in.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if line, err := c.out.ReadString('\n'); line != "drain\n" {
		t.Fatal(line, err)
	}
	if yes, err := p.Catches(unix.SIGUSR1); err != nil || yes {
		t.Errorf("after exec: %v, %v", yes, err)
	}
	same, err := c.id.Open()
	if err != nil {
		t.Fatalf("exec changed the identity: %v", err)
	}
	same.Close()
	for _, sig := range []unix.Signal{-1, 0, 65} {
		if _, err := p.Catches(sig); !errors.Is(err, unix.EINVAL) {
			t.Errorf("signal %d: %v", sig, err)
		}
	}
}

func TestThread_NotOfTheProcess_Gone(t *testing.T) {
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	p, err := self.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, tid := range []uint32{0, 1, uint32(os.Getpid()), uint32(os.Getppid()), 1 << 31, math.MaxUint32} {
		if th, err := p.Thread(tid); !errors.Is(err, ErrGone) {
			t.Errorf("thread %d: %v, %v", tid, th, err)
		}
	}
}

// ownThread says the number of its thread, which ends with it. It is not the first one,
// which cannot end: whoever is on that holds it, and leaves the rest to another.
func ownThread(tids chan<- int, quit <-chan bool) {
	runtime.LockOSThread()
	if tid := unix.Gettid(); tid != os.Getpid() {
		tids <- tid
	} else {
		go ownThread(tids, quit)
		defer runtime.UnlockOSThread()
	}
	<-quit
}

func TestSignal_Thread_ArrivesUntilItEnds(t *testing.T) {
	arrived := make(chan os.Signal, 1)
	signal.Notify(arrived, unix.SIGUSR2)
	defer signal.Stop(arrived)
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	p, err := self.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	tids, quit := make(chan int), make(chan bool)
	go ownThread(tids, quit)
	th, err := p.Thread(uint32(<-tids))
	if err != nil {
		t.Fatal(err)
	}
	defer th.Close()
	if err := th.Signal(unix.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	select {
	case <-arrived:
	case <-time.After(30 * time.Second):
		t.Error("no signal")
	}
	close(quit)
	for end := time.Now().Add(30 * time.Second); err == nil; err = th.Signal(unix.SIGUSR2) {
		if time.Now().After(end) {
			t.Fatal("the thread does not end")
		}
	}
	if !errors.Is(err, ErrGone) {
		t.Error(err)
	}
}

// The pid namespace of its own lets a child set the next pid.
func TestOpen_PidRecycled_Gone(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=recycle")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	switch err := cmd.Run(); {
	case errors.Is(err, unix.EPERM), strings.Contains(out.String(), "SKIP"):
		t.Skipf("namespaces are not available: %v %s", err, out.String())
	case err != nil:
		t.Fatalf("%v: %s", err, out.String())
	}
}

// recycle is process 1 of a pid namespace.
func recycle() error {
	// Until /proc is our namespace's own nobody can be judged by it, even where
	// inodes do not help.
	self, err := Self()
	if err != nil {
		return err
	}
	self.PidfdInode = 0
	if _, err := self.Open(); !errors.Is(err, ErrElsewhere) {
		return fmt.Errorf("with another namespace's /proc: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fmt.Println("SKIP", err)
		return nil
	}
	for range 50 {
		first, err := startChild("wait", nil)
		if err != nil {
			return err
		}
		first.end()
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(int(first.id.Pid)-1)), 0); err != nil {
			fmt.Println("SKIP", err)
			return nil
		}
		second, err := startChild("wait", nil)
		if err != nil {
			return err
		}
		defer second.end()
		if second.id.Pid != first.id.Pid { // a thread of ours took the number
			continue
		}
		if _, err := first.id.Open(); !errors.Is(err, ErrGone) {
			return fmt.Errorf("identity of the first owner of pid %d: %w", first.id.Pid, err)
		}
		p, err := second.id.Open()
		if err != nil {
			return err
		}
		p.Close()
		return nil
	}
	return errors.New("no pid was used again")
}
