package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// workerArg makes this program a worker.
const workerArg = "worker"

// assignment is the first thing that a worker reads: its contestant.
type assignment struct {
	Cache   string
	Salt    uint64
	Options options
	Shape   shape
}

// command asks a worker for one chunk: of so long, or until the next command.
type command struct {
	Op, Keys string
	Duration time.Duration
}

const (
	timed = "timed" // Op: look up, taking the time of each, until the next command
	stop  = "stop"  // Op: that command; it has no answer of its own
)

// answer follows the assignment, once the contestant is warm, and each command.
type answer struct {
	Chunk chunk
	Error string
}

func answerOf(c chunk, err error) answer {
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Chunk: c}
}

// serve is a worker's life: one contestant, one chunk per command, until in ends.
func serve(ctx context.Context, in io.Reader, out io.Writer) error {
	decoder, answers := json.NewDecoder(in), json.NewEncoder(out)
	var a assignment
	if err := decoder.Decode(&a); err != nil {
		return fmt.Errorf("read assignment: %w", err)
	}
	o := a.Options
	o.Shape, o.Attach = a.Shape, true
	w := newWorkload(o.Shape, o.Seed, a.Salt)
	c, err := makers[a.Cache](ctx, o)
	if err != nil {
		return answers.Encode(answerOf(chunk{}, err))
	}
	defer c.close()
	prepare := fill
	if a.Cache == subject { // what the domain holds is everybody's
		prepare = warm
	}
	err = prepare(a.Cache, c, w)
	runtime.GC()
	players := make(map[string]*player)
	if err := answers.Encode(answerOf(chunk{}, err)); err != nil {
		return err
	}
	commands, failed := make(chan command, 1), make(chan error, 1)
	go func() {
		defer close(commands)
		failed <- receiveAll(decoder, commands)
	}()
	for next := range commands {
		p := players[next.Op+next.Keys]
		if p == nil {
			p = newPlayer(c, ops[next.Op], w.keys(next.Keys), false)
			players[next.Op+next.Keys] = p
		}
		var done answer
		if next.Op == timed {
			done = answerOf(p.runTimed(commands))
		} else {
			done = answerOf(p.run(next.Duration))
		}
		if err := answers.Encode(done); err != nil {
			return err
		}
	}
	return <-failed
}

// receiveAll hands commands on until there are no more.
func receiveAll(from *json.Decoder, to chan<- command) error {
	for {
		var next command
		if err := from.Decode(&next); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read command: %w", err)
		}
		to <- next
	}
}

// worker is a process that hosts one contestant. It is stopped except while it
// has something to do, so nothing of it runs in the time of others.
type worker struct {
	cmd      *exec.Cmd
	stdin    io.Closer
	commands *json.Encoder
	answers  *json.Decoder
}

func startWorker(a assignment) (*worker, error) {
	w, err := start(workerArg)
	if err != nil {
		return nil, err
	}
	if err = w.send(a); err == nil {
		_, err = w.receive()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("worker with %s: %w", a.Cache, err), w.close())
	}
	return w, nil
}

// start starts this program as what arg makes of it.
func start(arg string) (*worker, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, arg)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", arg, err)
	}
	return &worker{cmd: cmd, stdin: in, commands: json.NewEncoder(in), answers: json.NewDecoder(out)}, nil
}

func (w *worker) send(message any) error {
	if err := w.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	return w.commands.Encode(message)
}

func (w *worker) receive() (chunk, error) {
	var a answer
	if err := w.answers.Decode(&a); err != nil {
		return chunk{}, fmt.Errorf("read answer: %w", err)
	}
	if a.Error != "" {
		return chunk{}, errors.New(a.Error)
	}
	return a.Chunk, w.cmd.Process.Signal(syscall.SIGSTOP)
}

func (w *worker) close() error {
	return errors.Join(w.cmd.Process.Signal(syscall.SIGCONT), w.stdin.Close(), w.cmd.Wait())
}

// run lets all of the workers run at the same time, and returns what they did
// together: the sum of their keys, at the sum of their speeds.
func run(workers []*worker, c command) (chunk, error) {
	for _, w := range workers {
		if err := w.send(c); err != nil {
			return chunk{}, err
		}
	}
	var all chunk
	var speed float64
	for _, w := range workers {
		one, err := w.receive()
		if err != nil {
			return chunk{}, err
		}
		all.Keys += one.Keys
		all.Mallocs += one.Mallocs
		speed += float64(one.Keys) / float64(one.Nanos)
	}
	all.Nanos = int64(float64(all.Keys) / speed)
	return all, nil
}

// beside lets the worker take the times of lookups while f runs.
func (w *worker) beside(f func() error) (*latency, error) {
	if err := w.send(command{Op: timed, Keys: "kept"}); err != nil {
		return nil, err
	}
	err := f()
	if err := errors.Join(err, w.send(command{Op: stop})); err != nil {
		return nil, err
	}
	c, err := w.receive()
	return c.Latency, err
}

// scaling compares what a second process adds: with two on one domain, and two
// that have a map each.
type scaling struct {
	name   string
	op     string
	keys   string
	target *target
}

func (sc scaling) title() string { return sc.name }
func (scaling) rivals() []string { return nil } // those in the workers are enough

// run measures each contestant with one process, which of the two it is changes
// from round to round, and with both.
func (sc scaling) run(ctx context.Context, s *session, st *stage) error {
	var entrants []entrant
	for _, name := range []string{subject, "map"} {
		pair, err := st.workers(name)
		if err != nil {
			return err
		}
		ask := func(d time.Duration) command { return command{sc.op, sc.keys, d} }
		entrants = append(
			entrants,
			entrant{name + " x 1", func(n int, d time.Duration) (chunk, error) { return run(pair[n%2:n%2+1], ask(d)) }},
			entrant{name + " x 2", func(_ int, d time.Duration) (chunk, error) { return run(pair, ask(d)) }},
		)
	}
	rounds, err := s.compete(ctx, sc.name, st.Shape, entrants)
	if err != nil {
		return err
	}
	var speeds [4][]float64
	for i := range speeds {
		speeds[i] = column(rounds, i, chunk.keysPerMicro)
	}
	own, theirs := quotients(speeds[1], speeds[0]), quotients(speeds[3], speeds[2])
	s.add(row{Measurement: sc.name, Shape: st.Shape, Unit: "M/s", Rival: "map"}, speeds[1], speeds[3], quotients(speeds[1], speeds[3]))
	s.add(row{Measurement: sc.name + ", scaling", Shape: st.Shape, Unit: "x", Rival: "map", Target: sc.target}, own, theirs, quotients(own, theirs))
	return nil
}
