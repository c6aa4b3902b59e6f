//go:build linux

package table

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/signal"
)

// Children are this test binary again, told by the environment which role to play
// in which domain. They say lines on stdout and end when stdin does.
const (
	roleVariable = "FLAGSTONE_TEST_ROLE"
	dirVariable  = "FLAGSTONE_TEST_DIR"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := roles[role](childOptions()); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func childOptions() Options { return Options{Dir: os.Getenv(dirVariable), Name: "d", Regions: 8} }

// say tells the parent a line.
func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// linger waits until the parent closes stdin.
func linger() { _, _ = io.Copy(io.Discard, os.Stdin) }

var roles = map[string]func(Options) error{
	// join says its region and stays.
	"join": func(o Options) error {
		t, err := Open(context.Background(), o)
		if err != nil {
			return err
		}
		say("%d %x %d", t.Self(), t.UUID(), t.Token())
		linger()
		return t.Close()
	},
	// come joins and leaves, over and over.
	"come": func(o Options) error {
		say("coming")
		for {
			t, err := Open(context.Background(), o)
			if err != nil {
				return err
			}
			if err := t.Close(); err != nil {
				return err
			}
		}
	},
	// count counts and stays.
	"count": func(o Options) error {
		t, err := Open(context.Background(), o)
		if err != nil {
			return err
		}
		t.Count(layout.CounterHits, 100)
		t.Count(layout.CounterMisses, 7)
		t.Count(31, 9)
		say("counted")
		linger()
		return t.Close()
	},
	// creating stops before ACTIVE.
	"creating": func(o Options) error {
		t, err := Open(context.Background(), o)
		if err != nil {
			return err
		}
		e, err := begin(t, "half")
		if err != nil {
			return err
		}
		say("%d", e.Index)
		linger()
		return nil
	},
	// active stops between ACTIVE and OPEN.
	"active": func(o Options) error {
		t, err := Open(context.Background(), o)
		if err != nil {
			return err
		}
		e, err := begin(t, "active")
		if err != nil {
			return err
		}
		t.entryAt(e.Index).State.Store(packed(e.Generation, layout.EntryActive))
		say("%d", e.Index)
		linger()
		return nil
	},
	// lock holds mutex 100.
	"lock": func(o Options) error {
		t, err := Open(context.Background(), o)
		if err != nil {
			return err
		}
		m, err := t.Mutex(100)
		if err != nil {
			return err
		}
		consistent, err := m.Lock(context.Background())
		if err != nil {
			return err
		}
		say("%v %d", consistent, t.Self())
		linger()
		return m.Unlock(true)
	},
	// pin attaches the segment named "shared" and says its first byte.
	"pin": func(o Options) error {
		t, err := Open(context.Background(), o)
		if err != nil {
			return err
		}
		e, ok := t.Find(KindApplication, "shared")
		if !ok {
			return errors.New("shared is not there")
		}
		s, err := t.OpenSegment(e)
		if err != nil {
			return err
		}
		say("%d %d", t.Self(), s.Bytes()[0])
		linger()
		return errors.Join(s.Close(), t.Close())
	},
	"keeps": keeps,
	"churn": churn,
	// exclusive stays in Exclusive.
	"exclusive": func(o Options) error {
		t, err := Open(context.Background(), o)
		if err != nil {
			return err
		}
		return t.Exclusive(context.Background(), func() error {
			say("in")
			linger()
			return nil
		})
	},
}

// begin makes a segment that is not published.
func begin(t *Table, name string) (Entry, error) {
	r, err := t.Reserve(Spec{Kind: KindApplication, Name: name, Size: 4096})
	if err != nil {
		return Entry{}, err
	}
	_, err = r.Create()
	return r.Entry(), err
}

// child is a process that plays a role.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

func start(t *testing.T, role, dir string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), roleVariable+"="+role, dirVariable+"="+dir)
	c.cmd.Stderr = os.Stderr
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
	return c
}

// hear returns the child's next line.
func (c *child) hear() string {
	c.t.Helper()
	watchdog := time.AfterFunc(30*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer watchdog.Stop()
	if !c.lines.Scan() {
		c.t.Fatalf("child said nothing: %v", c.lines.Err())
	}
	line := c.lines.Text()
	if strings.HasPrefix(line, "error:") {
		c.t.Fatalf("child: %s", line)
	}
	return line
}

// number returns the first number of the child's next line.
func (c *child) number() (n int) {
	c.t.Helper()
	if _, err := fmt.Sscan(c.hear(), &n); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// finish lets the child end by itself.
func (c *child) finish() {
	c.t.Helper()
	c.stdin.Close()
	if err := c.cmd.Wait(); err != nil {
		c.t.Fatalf("child: %v", err)
	}
}

// kill ends it as a crash does, and waits until the kernel has let go of its locks.
func (c *child) kill() {
	_ = c.cmd.Process.Signal(syscall.SIGKILL)
	_ = c.cmd.Wait()
}

// limited returns a context that ends if a test hangs.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func options(dir string) Options {
	return Options{Dir: dir, Name: "d", Regions: 8, Wake: signal.Options{Mode: signal.ModePoll, Poll: time.Millisecond}}
}

// open opens a domain and closes it with the test.
func openTable(t *testing.T, o Options) *Table {
	t.Helper()
	table, err := Open(limited(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() })
	return table
}

// mustFail checks that err wraps all that it should.
func mustFail(t *testing.T, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Fatalf("got error %v, want %v", err, w)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until a condition holds that another process or goroutine
// brings about.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// drained drains a segment and returns what names the drain.
func drained(t *testing.T, table *Table, e Entry) Entry {
	t.Helper()
	now, err := table.Drain(e)
	must(t, err)
	return now
}
