//go:build linux

package signal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/identity"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// The tests' segment is a region, which peers share, and a page for the storm.
const (
	stormOffset = layout.PageSize
	segmentSize = 2 * layout.PageSize
	patience    = 60 * time.Second // bound of a wait that should be short
	never       = 24 * time.Hour   // a poll that does not come to the rescue
)

// storm counts each notifier's rings, before and after.
type storm struct {
	begun     [notifiers]atomic.Uint64
	completed [notifiers]atomic.Uint64
}

const notifiers = 3

const roleVariable = "FLAGSTONE_SIGNAL_ROLE"

// roles are what the test binary does when it is started as a child with the
// segment's path as first argument.
var roles = map[string]func(s *shm.Segment) error{
	"listen": childListen,
	"exec":   childExec,
	"execs":  childExecs,
	"ignore": childIgnore,
	"ring":   childRing,

	"innocents": childInnocents,
	"fickle":    childFickle,
}

func TestMain(m *testing.M) {
	role := roles[os.Getenv(roleVariable)]
	if role == nil {
		os.Exit(m.Run())
	}
	s, err := attach(os.Args[1])
	if err == nil {
		err = role(s)
		runtime.KeepAlive(s) // the roles keep only what lies in it
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func attach(path string) (*shm.Segment, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	f, err := shm.OpenFile(dir, filepath.Base(path), false, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return shm.Map(f, segmentSize)
}

func region(s *shm.Segment) *layout.Region { return shm.At[layout.Region](s.Window(), 0) }

// claim makes the region this process's.
func claim(r *layout.Region) error {
	id, err := identity.Self()
	if err != nil {
		return err
	}
	id.Store(r)
	r.State.Store(r.State.Load()>>layout.StateGenerationShift<<layout.StateGenerationShift + 1<<layout.StateGenerationShift | layout.RegionClaimed)
	return nil
}

// childListen listens in the mode of the second argument, prints "ready" and
// every lot of reasons, and closes at the end of its input.
func childListen(s *shm.Segment) error {
	mode, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	r := region(s)
	if err := claim(r); err != nil {
		return err
	}
	l, err := Listen(r, Options{Mode: Mode(mode), Poll: never})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	input := make(chan error)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		input <- err
	}()
	for {
		select {
		case <-l.C():
			fmt.Printf("%#x\n", l.Reasons())
		case err := <-input:
			return errors.Join(err, l.Close())
		}
	}
}

// childExec listens and then becomes sleep, which has no handlers.
func childExec(s *shm.Segment) error { return becomeSleep(s, Options{Poll: never}, func() {}) }

// childExecs is childExec with the signal of the second argument, and when it is told to.
func childExecs(s *shm.Segment) error {
	sig, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	return becomeSleep(s, Options{Signal: unix.Signal(sig), Poll: never}, func() { _, _ = os.Stdin.Read(make([]byte, 1)) })
}

func becomeSleep(s *shm.Segment, o Options, wait func()) error {
	r := region(s)
	if err := claim(r); err != nil {
		return err
	}
	if _, err := Listen(r, o); err != nil {
		return err
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		return err
	}
	awaitSleeping(r)
	fmt.Println("ready")
	wait()
	return unix.Exec(sleep, []string{"sleep", "600"}, os.Environ())
}

// isSleep reports whether the process has become sleep.
func isSleep(pid int) bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && string(name) == "sleep\n"
}

// childIgnore declares a signal that it has no handler for.
func childIgnore(s *shm.Segment) error {
	r := region(s)
	if err := claim(r); err != nil {
		return err
	}
	signal.Ignore(unix.SIGUSR1)
	pretend(r, unix.SIGUSR1)
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// childRing rings until it is killed. Its number is the second argument.
func childRing(s *shm.Segment) error {
	n, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	r, st := region(s), shm.At[storm](s.Window(), stormOffset)
	fmt.Println("ready")
	for {
		ring := st.begun[n].Add(1)
		if err := Ring(r, 1<<n, live); err != nil {
			return err
		}
		st.completed[n].Store(ring)
		if ring%4 == 0 {
			awaitSleeping(r) // so that wake-ups are needed
		}
	}
}

func live() bool { return true }

// ownThread is a thread of this process that a signal may be for.
var ownThread = sync.OnceValue(func() uint32 { return thread(defaultSignal) })

// pretend fakes a sleeping listener.
func pretend(r *layout.Region, sig unix.Signal) {
	r.WakeSignal.Store(uint32(sig))
	r.WakeThread.Store(ownThread())
	r.WakeMode.Store(layout.WakeSignal)
	r.Sleeping.Store(1)
}

func awaitSleeping(r *layout.Region) bool {
	return eventually(func() bool { return r.Sleeping.Load() != 0 })
}

// eventually waits for a word of shared memory.
func eventually(ok func() bool) bool {
	for end := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// heapRegion returns a region of this process that the race detector watches.
func heapRegion(t *testing.T) *layout.Region {
	t.Helper()
	s := shm.Heap(segmentSize)
	t.Cleanup(func() { runtime.KeepAlive(s) })
	r := region(s)
	if err := claim(r); err != nil {
		t.Fatal(err)
	}
	return r
}

// sharedSegment returns a segment that children can attach.
func sharedSegment(t *testing.T) *shm.Segment {
	t.Helper()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	s, f, err := shm.Create(dir, "segment", segmentSize, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	t.Cleanup(func() { s.Close() })
	return s
}

// listen starts a Listener that is closed when the test ends.
func listen(t *testing.T, r *layout.Region, o Options) *Listener {
	t.Helper()
	l, err := Listen(r, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// await waits for an announcement.
func await(t *testing.T, l *Listener) {
	t.Helper()
	select {
	case <-l.C():
	case <-time.After(patience):
		t.Fatal("nothing was announced")
	}
}

// child is a process in one of the roles, which has printed "ready".
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func start(t *testing.T, role string, s *shm.Segment, args ...string) *child {
	t.Helper()
	c, err := spawn(role, s, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	return c
}

func spawn(role string, s *shm.Segment, args ...string) (*child, error) {
	cmd := exec.Command("/proc/self/exe", append([]string{s.Name()}, args...)...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	return spawnCommand(cmd)
}

// spawnCommand starts a process that prints "ready".
func spawnCommand(cmd *exec.Cmd) (*child, error) {
	cmd.Stderr = os.Stderr
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
	c := &child{cmd, in, bufio.NewReader(out)}
	if line := c.line(); line != "ready" {
		c.kill()
		return nil, fmt.Errorf("%s: %q instead of ready", cmd, line)
	}
	return c, nil
}

func (c *child) line() string {
	line, _ := c.out.ReadString('\n')
	return strings.TrimSpace(line)
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// finish ends the child's input and wants it to exit by itself, unharmed.
func (c *child) finish(t *testing.T) {
	t.Helper()
	c.in.Close()
	_, _ = io.Copy(io.Discard, c.out)
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("child: %v", err)
	}
}
