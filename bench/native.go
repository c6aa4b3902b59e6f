package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// native measures the client in C beside the one in Go, both as processes of their own
// on the stage's domain: what a lookup, a batch and a store cost in either, and whether
// it matters to a reader in which of the two the writer beside it is written.
type native struct{}

func (native) title() string    { return "C client" }
func (native) rivals() []string { return nil }

var errNoNative = errors.New("no C client: it needs make and a C compiler, and clients/c beside bench")

// contests of the C client, each against Go's of the same name.
var natives = []struct {
	op, keys string
	target   *target
}{
	{"get", "uniform", atMost(1)},
	{"get", "hot", nil},
	{"batch", "uniform", atMost(1)},
	{"batch", "hot", nil},
	{"set", "records", nil},
}

func (x native) run(ctx context.Context, s *session, st *stage) (err error) {
	exe, err := buildNative(ctx)
	if errors.Is(err, errNoNative) {
		s.missing = append(s.missing, x.title())
		s.report.Notes = append(s.report.Notes, "left out: "+err.Error())
		return nil
	} else if err != nil {
		return err
	}
	gos, err := st.workers(subject)
	if err != nil {
		return err
	}
	var cs [2]*nativeWorker // a reader and a writer
	for i := range cs {
		if cs[i], err = startNative(exe, st); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, cs[i].close()) }()
	}
	inGo := func(c command) func(int, time.Duration) (chunk, error) {
		return func(_ int, d time.Duration) (chunk, error) { c.Duration = d; return run(gos[:1], c) }
	}
	for _, n := range natives {
		for _, c := range cs {
			if err := c.load(st.workload, n.keys); err != nil {
				return err
			}
		}
		name := x.title() + ", " + n.op + " " + n.keys
		rounds, err := s.compete(ctx, name, st.Shape, []entrant{
			{"C", func(_ int, d time.Duration) (chunk, error) { return cs[0].run(n.op, d) }},
			{"Go", inGo(command{Op: n.op, Keys: n.keys})},
		})
		if err != nil {
			return err
		}
		own, theirs := column(rounds, 0, chunk.nanosPerKey), column(rounds, 1, chunk.nanosPerKey)
		s.add(row{Measurement: name, Shape: st.Shape, Unit: "ns", Rival: "Go", Target: n.target}, own, theirs, quotients(own, theirs))
	}
	return x.besideWriters(ctx, s, st, cs[0], cs[1], gos[0])
}

// besideWriters measures a reader in C while a process in Go stores into the same
// domain, against the same while the writer is in C.
func (x native) besideWriters(ctx context.Context, s *session, st *stage, reader, writer *nativeWorker, goWriter *worker) error {
	if err := reader.load(st.workload, "uniform"); err != nil {
		return err
	}
	if err := writer.load(st.workload, "records"); err != nil {
		return err
	}
	name := x.title() + ", get uniform beside a writer"
	rounds, err := s.compete(ctx, name, st.Shape, []entrant{
		{"in Go", func(_ int, d time.Duration) (chunk, error) {
			if err := goWriter.send(command{"set", "records", d}); err != nil {
				return chunk{}, err
			}
			c, err := reader.run("get", d)
			_, wrong := goWriter.receive()
			return c, errors.Join(err, wrong)
		}},
		{"in C", func(_ int, d time.Duration) (chunk, error) {
			if err := writer.send("set", d); err != nil {
				return chunk{}, err
			}
			c, err := reader.run("get", d)
			_, wrong := writer.receive()
			return c, errors.Join(err, wrong)
		}},
	})
	if err != nil {
		return err
	}
	own, theirs := column(rounds, 0, chunk.nanosPerKey), column(rounds, 1, chunk.nanosPerKey)
	s.add(row{Measurement: name + " in Go", Shape: st.Shape, Unit: "ns", Rival: "in C", Target: atMost(1)}, own, theirs, quotients(own, theirs))
	return nil
}

// buildNative builds the worker in C.
func buildNative(ctx context.Context) (exe string, err error) {
	_, self, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(self), "..", "clients", "c")
	for _, tool := range []string{"make", "cc"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", errNoNative
		}
	}
	if _, err := os.Stat(dir); err != nil {
		return "", errNoNative
	}
	out, err := exec.CommandContext(ctx, "make", "-s", "-C", dir, "bench").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the C client: %w\n%s", err, out)
	}
	return filepath.Join(dir, "build", "bench"), nil
}

// nativeWorker is a process of the C client. Like the others it is stopped while it has
// nothing to do.
type nativeWorker struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *bufio.Reader
	dir     string // of the files with streams
}

// startNative starts one on the stage's domain.
func startNative(exe string, st *stage) (*nativeWorker, error) {
	dir, err := os.MkdirTemp(st.Dir, "bench-c-")
	if err != nil {
		return nil, err
	}
	w := &nativeWorker{dir: dir, cmd: exec.Command(exe, st.Dir, st.Domain, fmt.Sprint(keySize), fmt.Sprint(st.Shape.Value), fmt.Sprint(batchSize))}
	w.cmd.Stderr = os.Stderr
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the C client: %w", err)
	}
	w.answers = bufio.NewReader(out)
	_, err = w.receive()
	return w, err
}

// load gives it the keys of a stream, with their values if there are any.
func (w *nativeWorker) load(from *workload, name string) error {
	s := from.keys(name)
	keys, values := filepath.Join(w.dir, "keys"), "-"
	if err := os.WriteFile(keys, s.bytes, 0o600); err != nil {
		return err
	}
	defer os.Remove(keys)
	if s.values != nil {
		values = filepath.Join(w.dir, "values")
		if err := os.WriteFile(values, s.values, 0o600); err != nil {
			return err
		}
		defer os.Remove(values)
	}
	if err := w.say("load", keys, values); err != nil {
		return err
	}
	_, err := w.receive()
	return err
}

func (w *nativeWorker) say(words ...string) error {
	if err := w.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w.in, strings.Join(words, " "))
	return err
}

func (w *nativeWorker) send(op string, d time.Duration) error {
	return w.say(op, fmt.Sprint(d.Nanoseconds()))
}

// receive reads an answer: nanoseconds, keys, and how many of them were answered
// rightly.
func (w *nativeWorker) receive() (chunk, error) {
	line, err := w.answers.ReadString('\n')
	if err != nil {
		return chunk{}, fmt.Errorf("the C client's answer: %w", err)
	}
	var nanos, keys, right int64
	if _, err := fmt.Sscanf(line, "%d %d %d", &nanos, &keys, &right); err != nil {
		return chunk{}, fmt.Errorf("the C client: %s", strings.TrimSpace(line))
	}
	if right != keys {
		return chunk{}, fmt.Errorf("the C client: %d of %d keys answered wrongly", keys-right, keys)
	}
	return chunk{Nanos: nanos, Keys: keys}, w.cmd.Process.Signal(syscall.SIGSTOP)
}

func (w *nativeWorker) run(op string, d time.Duration) (chunk, error) {
	if err := w.send(op, d); err != nil {
		return chunk{}, err
	}
	return w.receive()
}

func (w *nativeWorker) close() error {
	err := errors.Join(w.cmd.Process.Signal(syscall.SIGCONT), w.in.Close(), w.cmd.Wait())
	return errors.Join(err, os.RemoveAll(w.dir))
}
