package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The tests run the command as processes: this test binary again, told by the
// environment to be it. What it starts itself inherits that.
const commandVariable = "FLAGSTONE_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(commandVariable) != "" {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// bench is a directory of caches and the command to use them with.
type bench struct {
	*testing.T
	dir     string
	program string // the command: this test binary, or one of another version
}

func newBench(t *testing.T) bench { return bench{t, t.TempDir(), os.Args[0]} }

// patience is how long a command may take that is expected to end.
const patience = 60 * time.Second

func (b bench) command(args ...string) *exec.Cmd {
	cmd := exec.Command(b.program, append([]string{"--dir", b.dir}, args...)...)
	// With the race detector a process sleeps for a second at its end, unless told.
	cmd.Env = append(os.Environ(), commandVariable+"=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// outcome is what a command said.
type outcome struct {
	*testing.T
	args      []string
	out, errs string
	code      int
}

func (b bench) run(args ...string) outcome { return b.feed("", args...) }

func (b bench) feed(stdin string, args ...string) outcome {
	b.Helper()
	var out, errs bytes.Buffer
	cmd := b.command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }).Stop()
	_ = cmd.Wait() // the exit code says it
	return outcome{b.T, args, out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// exits checks the exit code.
func (o outcome) exits(code int) outcome {
	o.Helper()
	if o.code != code {
		o.Fatalf("%q exits with %d, want %d\n%s%s", o.args, o.code, code, o.out, o.errs)
	}
	return o
}

// says checks that stdout has all these parts.
func (o outcome) says(parts ...string) outcome {
	o.Helper()
	for _, part := range parts {
		if !strings.Contains(o.out, part) {
			o.Errorf("%q does not say %q:\n%s", o.args, part, o.out)
		}
	}
	return o
}

// warns checks that stderr has all these parts.
func (o outcome) warns(parts ...string) outcome {
	o.Helper()
	for _, part := range parts {
		if !strings.Contains(o.errs, part) {
			o.Errorf("%q does not warn %q:\n%s", o.args, part, o.errs)
		}
	}
	return o
}

// decode reads stdout as JSON without fields that v does not have.
func (o outcome) decode(v any) {
	o.Helper()
	d := json.NewDecoder(strings.NewReader(o.out))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		o.Fatalf("%q: %v\n%s", o.args, err, o.out)
	}
}

// background is a command that goes on.
type background struct {
	*testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string // of stdout
}

func (b bench) start(args ...string) *background {
	b.Helper()
	g := &background{b.T, b.command(args...), nil, make(chan string)}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if g.in, err = g.cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	if err := g.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	quit := make(chan struct{})
	go func() {
		defer close(g.lines)
		for d := json.NewDecoder(out); ; {
			var line json.RawMessage
			if d.Decode(&line) != nil {
				return
			}
			select {
			case g.lines <- string(line):
			case <-quit:
				return
			}
		}
	}()
	b.Cleanup(func() {
		close(quit)
		_ = g.cmd.Process.Kill()
		_ = g.cmd.Wait()
	})
	return g
}

// await returns the next event of that kind, of a --json watch.
func (g *background) await(kind string) eventJSON {
	g.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-g.lines:
			if !ok {
				g.Fatalf("ended without %q", kind)
			}
			var e eventJSON
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				g.Fatalf("%s: %v", line, err)
			}
			if e.Event == kind {
				return e
			}
		case <-timeout:
			g.Fatalf("no %q", kind)
		}
	}
}
