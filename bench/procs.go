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
}

// command asks a worker for one chunk.
type command struct {
	Op, Keys string
	Duration time.Duration
}

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
	commands, answers := json.NewDecoder(in), json.NewEncoder(out)
	var a assignment
	if err := commands.Decode(&a); err != nil {
		return fmt.Errorf("read assignment: %w", err)
	}
	w := newWorkload(a.Options.Entries, a.Options.Seed, a.Salt)
	c, err := makers[a.Cache](ctx, a.Options)
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
	for {
		var next command
		if err := commands.Decode(&next); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read command: %w", err)
		}
		p := players[next.Op+next.Keys]
		if p == nil {
			p = newPlayer(c, ops[next.Op], w.keys(next.Keys), false)
			players[next.Op+next.Keys] = p
		}
		if err := answers.Encode(answerOf(p.run(next.Duration))); err != nil {
			return err
		}
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
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, workerArg)
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
		return nil, fmt.Errorf("start worker: %w", err)
	}
	w := &worker{cmd: cmd, stdin: in, commands: json.NewEncoder(in), answers: json.NewDecoder(out)}
	if err = w.send(a); err == nil {
		_, err = w.receive()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("worker with %s: %w", a.Cache, err), w.close())
	}
	return w, nil
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

// crew has two workers for each contestant that is measured with processes: on
// one domain, or each with a map of its own.
type crew map[string][]*worker

func startCrew(o options) (crew, error) {
	o.Attach = true
	c := make(crew)
	for _, name := range []string{subject, "map"} {
		for salt := range uint64(2) {
			w, err := startWorker(assignment{Cache: name, Salt: salt + 1, Options: o})
			if err != nil {
				return nil, errors.Join(err, c.close())
			}
			c[name] = append(c[name], w)
		}
	}
	return c, nil
}

func (c crew) close() (err error) {
	for _, workers := range c {
		for _, w := range workers {
			err = errors.Join(err, w.close())
		}
	}
	return err
}

// scale measures one scaling: each contestant with one process, which of the two
// it is changes from round to round, and with both.
func (s *session) scale(ctx context.Context, c crew, sc scaling) error {
	var entrants []entrant
	var names []string
	for _, name := range []string{subject, "map"} {
		pair := c[name]
		ask := func(d time.Duration) command { return command{sc.op, sc.keys, d} }
		entrants = append(
			entrants,
			entrant{name + " x 1", func(n int, d time.Duration) (chunk, error) { return run(pair[n%2:n%2+1], ask(d)) }},
			entrant{name + " x 2", func(_ int, d time.Duration) (chunk, error) { return run(pair, ask(d)) }},
		)
		names = append(names, name+" x 1", name+" x 2")
	}
	rounds, err := compete(ctx, s.rand, s.Pairs, s.Chunk, entrants)
	if err != nil {
		return fmt.Errorf("%s: %w", sc.name, err)
	}
	s.report.Raw = append(s.report.Raw, raw{sc.name, names, rounds})
	var times [4][]float64
	for i := range times {
		times[i] = column(rounds, i, chunk.nanosPerKey)
	}
	own, theirs := quotients(times[0], times[1]), quotients(times[2], times[3])
	s.add(row{Measurement: sc.name, Unit: "ns", Rival: "map"}, times[1], times[3], quotients(times[1], times[3]))
	s.add(row{Measurement: sc.name + ", scaling", Unit: "x", Rival: "map", Target: sc.target}, own, theirs, quotients(own, theirs))
	return nil
}
