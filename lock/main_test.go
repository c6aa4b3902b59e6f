//go:build linux

package lock

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

var bg = context.Background()

// patience ends waits that would hang a broken test.
const patience = 30 * time.Second

func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(bg, d)
}

// words is a lock in memory, with what it guards.
type words struct {
	seg             *shm.Segment
	word            *layout.Uint64
	futex           *layout.Uint32
	guarded, shared *layout.Uint64 // changed under the lock; by anybody
}

func wordsOf(seg *shm.Segment) words {
	w := seg.Window()
	return words{
		seg, shm.At[layout.Uint64](w, 0), shm.At[layout.Uint32](w, 8),
		shm.At[layout.Uint64](w, 64), shm.At[layout.Uint64](w, 128),
	}
}

func heapWords() words { return wordsOf(shm.Heap(4096)) }

func (w words) mutex(o Owner) (*Mutex, *Counters) {
	c := new(Counters)
	return New(w.word, w.futex, o, c), c
}

// graveyard says who is dead; owners of one share it.
type graveyard struct {
	mu   sync.Mutex // guards dead
	dead map[uint64]bool
}

type fakeOwner struct {
	*graveyard
	token uint64
}

func newGraveyard() *graveyard { return &graveyard{dead: map[uint64]bool{}} }
func (g *graveyard) owner(region, generation uint32) fakeOwner {
	return fakeOwner{g, Token(region, generation)}
}

func (g *graveyard) bury(token uint64) {
	g.mu.Lock()
	g.dead[token] = true
	g.mu.Unlock()
}

func (o fakeOwner) Token() uint64 { return o.token }
func (o fakeOwner) Dead(token uint64) bool {
	if token == o.token {
		panic("asked about itself")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dead[token]
}
func (fakeOwner) Ask(uint64) {}

// leaseOwner lives as long as it holds an OFD lock on its region's byte.
type leaseOwner struct {
	region uint32
	token  uint64
	leases *os.File
}

func newLeaseOwner(dir string, region, generation uint32) (*leaseOwner, error) {
	f, err := os.OpenFile(filepath.Join(dir, "leases"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(region), Len: 1}
	return &leaseOwner{region, Token(region, generation), f}, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l)
}

func (o *leaseOwner) Token() uint64 { return o.token }
func (o *leaseOwner) Dead(token uint64) bool {
	region, _, ok := Region(token)
	if !ok || region == o.region {
		return true
	}
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(region), Len: 1}
	return unix.FcntlFlock(o.leases.Fd(), unix.F_OFD_GETLK, &l) == nil && l.Type == unix.F_UNLCK
}
func (*leaseOwner) Ask(uint64) {}

// Children are this test binary again. They obey lines on stdin and answer each
// with one on stdout.

const (
	dirVariable    = "FLAGSTONE_TEST_DIR"
	regionVariable = "FLAGSTONE_TEST_REGION"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirVariable); dir != "" {
		if err := obey(dir); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func openWords(dir string) (words, error) {
	f, err := os.OpenFile(filepath.Join(dir, "words"), os.O_RDWR, 0)
	if err != nil {
		return words{}, err
	}
	defer f.Close()
	seg, err := shm.Map(f, 4096)
	if err != nil {
		return words{}, err
	}
	return wordsOf(seg), nil
}

func obey(dir string) error {
	region, err := strconv.ParseUint(os.Getenv(regionVariable), 10, 32)
	if err != nil {
		return err
	}
	o, err := newLeaseOwner(dir, uint32(region), 1)
	if err != nil {
		return err
	}
	w, err := openWords(dir)
	if err != nil {
		return err
	}
	m, counters := w.mutex(o)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		answer, command := "ok", strings.Fields(in.Text())
		switch command[0] {
		case "hello":
		case "lock":
			consistent, err := m.Lock(bg)
			answer = fmt.Sprint(consistent, err, counters.Steals.Load())
		case "unlock":
			answer = fmt.Sprint(m.Unlock(true))
		case "count": // n unprotected additions under the lock
			n, _ := strconv.Atoi(command[1])
			for range n {
				if _, err := m.Lock(bg); err != nil {
					return err
				}
				w.guarded.Store(w.guarded.Load() + 1)
				if err := m.Unlock(true); err != nil {
					return err
				}
			}
		case "hammer": // with 8 goroutines until told to stop
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for w.shared.Load() == 0 {
						if _, err := m.Lock(bg); err == nil {
							w.guarded.Add(1)
							_ = m.Unlock(true)
						}
					}
				})
			}
			fmt.Println("hammering")
			in.Scan()
			w.shared.Store(1)
			wg.Wait()
		}
		fmt.Println(answer)
	}
	return nil
}

type child struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// newDomain makes the files that children share.
func newDomain(t *testing.T) (string, words) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "words"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := openWords(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, w
}

func startChild(t *testing.T, dir string, region int) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), dirVariable+"="+dir, fmt.Sprint(regionVariable, "=", region))
	c.cmd.Stderr = os.Stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewScanner(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	c.want("hello", "ok")
	return c
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

func (c *child) send(line string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, line); err != nil {
		c.t.Fatal(err)
	}
}

func (c *child) answer() string {
	c.t.Helper()
	if !c.out.Scan() {
		c.t.Fatal("the child is gone")
	}
	return c.out.Text()
}

func (c *child) want(line, answer string) {
	c.t.Helper()
	c.send(line)
	if got := c.answer(); got != answer {
		c.t.Fatalf("%s: %q, want %q", line, got, answer)
	}
}

// stop stops the child and waits until it stands still.
func (c *child) stop() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(c.cmd.Process.Pid, &status, unix.WUNTRACED, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || !status.Stopped() {
			c.t.Fatal(err, status)
		}
		return
	}
}
