//go:build linux && steps

package crash

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Children are this test binary again, told by the environment what to do.
const jobVariable = "FLAGSTONE_CRASH_JOB"

// job is what a child does.
type job struct {
	Dir       string   // of the domain
	Operation string   // its name
	Recover   bool     // first what whoever comes after a crash does
	Keys      []string // what it looks up then
	Kill      *passage // where to die; nil records the trace
}

// message is a line of a child.
type message struct {
	Acknowledged int       `json:",omitempty"` // parts done
	Recovered    bool      `json:",omitempty"` // the operation follows
	Dying        *site     `json:",omitempty"` // killed here
	Trace        []passage `json:",omitempty"`
	State        *state    `json:",omitempty"` // before the first part, and after each
	Error        string    `json:",omitempty"`
	Done         bool      `json:",omitempty"`
}

func TestMain(m *testing.M) {
	if text := os.Getenv(jobVariable); text != "" {
		var j job
		if err := json.Unmarshal([]byte(text), &j); err != nil {
			panic(err)
		}
		j.run()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// tell writes one line, at once, as the next step may be the last.
func tell(m message) {
	line, err := json.Marshal(m)
	if err == nil {
		_, err = os.Stdout.Write(append(line, '\n'))
	}
	if err != nil {
		panic(err)
	}
}

// run is a child's life.
func (j *job) run() {
	h := &hook{kill: j.Kill, dying: func(s site) { tell(message{Dying: &s}) }}
	h.ready()
	e := newEnv(j.Dir, find(j.Operation))
	life := e.operate
	if j.Recover {
		life = func(h *hook) { e.takeOver(h, j.Keys) }
	}
	if err := guarded(func() { life(h) }); err != nil {
		tell(message{Error: err.Error()})
		return
	}
	tell(message{Trace: h.trace, Done: true})
}

// operate does the operation's parts, and acknowledges each. Who is not to be killed
// tells what the domain holds before and after each.
func (e *env) operate(h *hook) {
	show := func() {
		if h.kill == nil {
			tell(message{State: ptr(e.state())})
		}
	}
	e.prepare()
	show()
	h.arm(e.o.background)
	for i, part := range e.o.do {
		part(e)
		h.aside(show)
		tell(message{Acknowledged: i + 1})
	}
	h.disarm()
}

// takeOver recovers from a crash and does the operation once more.
func (e *env) takeOver(h *hook, keys []string) {
	h.arm("")
	e.recover(keys)
	tell(message{Recovered: true})
	e.redo()
	e.close()
	h.disarm()
	tell(message{State: ptr(e.state())})
}

func ptr[T any](v T) *T { return &v }

// outcome is what became of a child.
type outcome struct {
	acknowledged int
	recovered    bool
	died         *site
	trace        []passage
	states       []state
}

var self = sync.OnceValues(os.Executable)

// spawn runs a child to its end.
func spawn(j job) (out outcome, err error) {
	path, err := self()
	if err != nil {
		return out, err
	}
	text, err := json.Marshal(j)
	if err != nil {
		return out, err
	}
	c := exec.Command(path)
	c.Env = append(os.Environ(), jobVariable+"="+string(text), "GOMAXPROCS=2")
	c.Stderr = os.Stderr
	pipe, err := c.StdoutPipe()
	if err != nil {
		return out, err
	}
	if err := c.Start(); err != nil {
		return out, err
	}
	watchdog := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	defer watchdog.Stop()
	done := false
	for d := json.NewDecoder(pipe); ; {
		var m message
		if d.Decode(&m) != nil {
			break
		}
		out.acknowledged = max(out.acknowledged, m.Acknowledged)
		out.recovered = out.recovered || m.Recovered
		if m.Dying != nil {
			out.died = m.Dying
		}
		if m.Trace != nil {
			out.trace = m.Trace
		}
		if m.State != nil {
			out.states = append(out.states, *m.State)
		}
		if m.Error != "" {
			err = errors.Join(err, fmt.Errorf("child: %s", m.Error))
		}
		done = done || m.Done
	}
	waited := c.Wait()
	status, _ := c.ProcessState.Sys().(syscall.WaitStatus)
	killed := status.Signaled() && status.Signal() == syscall.SIGKILL
	switch {
	case err != nil:
	case out.died != nil && !killed:
		err = fmt.Errorf("child at %+v was to die: %w", *out.died, waited)
	case out.died == nil && !done:
		err = fmt.Errorf("child ended too early: %w", waited)
	}
	return out, err
}
