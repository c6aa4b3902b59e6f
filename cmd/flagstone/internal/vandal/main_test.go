//go:build linux

package vandal_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/hostile"
	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/vandal"
)

// Children are this test binary again, told by the environment what to be: a vandal or
// a worker, until stdin ends.
const (
	roleVariable = "FLAGSTONE_TEST_ROLE"
	dirVariable  = "FLAGSTONE_TEST_DIR"
	seedVariable = "FLAGSTONE_TEST_SEED"
	whatVariable = "FLAGSTONE_TEST_WHAT"
)

const (
	name     = "c"
	shards   = hostile.Shards
	patience = time.Minute
)

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	seed, _ := strconv.ParseUint(os.Getenv(seedVariable), 10, 64)
	what, _ := strconv.ParseUint(os.Getenv(whatVariable), 10, 64)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // the parent closes it, or is gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var said string
	var err error
	if role == "vandal" {
		var n int64
		n, err = hostile.Ravage(ctx, os.Getenv(dirVariable), seed, vandal.What(what))
		said = fmt.Sprint(n, " writes")
	} else {
		var n int64
		n, said, err = hostile.Work(ctx, os.Getenv(dirVariable), name, seed)
		said = fmt.Sprint(n, " operations", said)
	}
	if err != nil {
		said = "violation: " + strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	fmt.Println(said)
	os.Exit(0)
}

func options(dir string) flagstone.Options { return hostile.Cache(dir) }

type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
	errs  *bytes.Buffer
}

func start(t *testing.T, role, dir string, seed uint64, what vandal.What) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command("/proc/self/exe"), errs: new(bytes.Buffer)}
	c.cmd.Env = append(os.Environ(), roleVariable+"="+role, dirVariable+"="+dir,
		fmt.Sprint(seedVariable, "=", seed), fmt.Sprint(whatVariable, "=", uint(what)), "GORACE=atexit_sleep_ms=0")
	c.cmd.Stderr = c.errs
	var err error
	c.stdin, err = c.cmd.StdinPipe()
	must(t, err)
	out, err := c.cmd.StdoutPipe()
	must(t, err)
	c.lines = bufio.NewScanner(out)
	must(t, c.cmd.Start())
	t.Cleanup(func() { _ = c.cmd.Process.Kill(); _ = c.cmd.Wait() })
	return c
}

// end closes the child's stdin and returns what it says then.
func (c *child) end() string {
	c.t.Helper()
	_ = c.stdin.Close()
	watchdog := time.AfterFunc(3*patience, func() { _ = c.cmd.Process.Kill() })
	defer watchdog.Stop()
	said := "nothing"
	if c.lines.Scan() {
		said = c.lines.Text()
	}
	if err := c.cmd.Wait(); err != nil || strings.HasPrefix(said, "violation") || said == "nothing" {
		text := c.errs.String()
		c.t.Errorf("child says %q and ends with %v\n%s", said, err, text[:min(len(text), 20_000)])
	}
	return said
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// long is how long something is done that finds more the longer it is.
func long(d time.Duration) time.Duration {
	if os.Getenv("FLAGSTONE_LONG") != "" {
		return 30 * d
	}
	return d
}
