package testee

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Program is a testee that can be started.
type Program struct {
	Name  string   // as the command line calls it
	Words []string // the command line
}

// Deadline is how long a testee may take for one answer.
const Deadline = 30 * time.Second

var (
	// ErrLate is wrapped by errors about answers that did not come in time. The testee
	// was killed.
	ErrLate = errors.New("no answer in time")
	// ErrGone is wrapped by errors about testees that ended.
	ErrGone = errors.New("the testee has ended")
)

// Testee is a running testee. Commands may be sent from several goroutines, which
// are answered in the order of their sending.
type Testee struct {
	Program Program

	cmd      *exec.Cmd
	deadline time.Duration
	in, out  *os.File
	errs     *tail
	exited   chan struct{}
	status   error // what Wait said, once exited is closed

	sending sync.Mutex // one command is written at a time; taken before mu
	mu      sync.Mutex
	waiting []*Call // sent and not answered, in order
	failed  error   // why nothing more is sent
	late    *time.Timer
}

// Call is a command that was sent.
type Call struct {
	Line string
	By   *Testee

	command string
	answer  Answer
	err     error
	done    chan struct{}
}

// Start starts the program. Each of its answers has to come within the deadline, or
// within Deadline if that is 0.
func Start(p Program, deadline time.Duration) (*Testee, error) {
	if len(p.Words) == 0 {
		return nil, fmt.Errorf("start testee %s: it has no command line", p.Name)
	}
	if deadline == 0 {
		deadline = Deadline
	}
	inRead, inWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start testee %s: %w", p.Name, err)
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		_, _ = inRead.Close(), inWrite.Close()
		return nil, fmt.Errorf("start testee %s: %w", p.Name, err)
	}
	errs, errsWrite, err := newTail()
	if err != nil {
		_, _, _, _ = inRead.Close(), inWrite.Close(), outRead.Close(), outWrite.Close()
		return nil, fmt.Errorf("start testee %s: %w", p.Name, err)
	}
	t := &Testee{Program: p, deadline: deadline, in: inWrite, out: outRead, errs: errs, exited: make(chan struct{})}
	t.cmd = exec.Command(p.Words[0], p.Words[1:]...)
	t.cmd.Stdin, t.cmd.Stdout, t.cmd.Stderr = inRead, outWrite, errsWrite
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Close ends its children too
	err = t.cmd.Start()
	_, _, _ = inRead.Close(), outWrite.Close(), errsWrite.Close()
	if err != nil {
		_, _, _ = inWrite.Close(), outRead.Close(), errs.from.Close()
		return nil, fmt.Errorf("start testee %s: %w", p.Name, err)
	}
	t.late = time.AfterFunc(deadline, t.timeout)
	t.late.Stop()
	go t.wait()
	go t.read()
	return t, nil
}

// wait waits for the end of the process. What it wrote before is still read.
func (t *Testee) wait() {
	t.status = t.cmd.Wait()
	close(t.exited)
	_ = t.out.SetReadDeadline(time.Now().Add(200 * time.Millisecond)) // a forked child may keep it open
}

// Send sends a command without waiting for its answer.
func (t *Testee) Send(words ...string) *Call {
	c := &Call{Line: strings.Join(words, " "), By: t, done: make(chan struct{})}
	c.command, _, _ = strings.Cut(c.Line, " ")
	if strings.Contains(c.Line, "\n") || c.command == "" {
		c.finish(Answer{}, fmt.Errorf("send %q to testee %s: this is not one command", c.Line, t.Program.Name))
		return c
	}
	t.sending.Lock()
	defer t.sending.Unlock()
	if !t.expect(c) {
		return c
	}
	_ = t.in.SetWriteDeadline(time.Now().Add(t.deadline))
	if _, err := t.in.WriteString(c.Line + "\n"); errors.Is(err, os.ErrDeadlineExceeded) {
		t.fail(fmt.Errorf("%w: it does not read its standard input", ErrLate))
	} // any other error is the end of the process, about which read says more
	return c
}

// expect has the next answer go to c.
func (t *Testee) expect(c *Call) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed != nil {
		c.finish(Answer{}, t.failed)
		return false
	}
	t.waiting = append(t.waiting, c)
	if len(t.waiting) == 1 {
		t.late.Reset(t.deadline)
	}
	return true
}

// Do sends a command and returns its answer.
func (t *Testee) Do(words ...string) (Answer, error) { return t.Send(words...).Wait() }

// Wait waits for the answer.
func (c *Call) Wait() (Answer, error) {
	<-c.done
	return c.answer, c.err
}

// Done is closed when the answer has come, or will not.
func (c *Call) Done() <-chan struct{} { return c.done }

func (c *Call) finish(a Answer, err error) {
	c.answer, c.err = a, err
	close(c.done)
}

// maxLine is the longest line of an answer: the longest value in hexadecimal would
// be longer, but no case asks for one.
const maxLine = 64 << 20

// read takes the answers and gives them to those who wait.
func (t *Testee) read() {
	lines := bufio.NewScanner(t.out)
	lines.Buffer(make([]byte, 0, 1<<16), maxLine)
	lines.Split(wholeLines)
	err := t.answers(lines)
	if err == nil {
		err = lines.Err()
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		err = ErrGone
		select {
		case <-t.exited:
			if t.status != nil {
				err = fmt.Errorf("%w: %w", ErrGone, t.status)
			}
		case <-time.After(time.Second):
			err = fmt.Errorf("%w: it closed its standard output", ErrGone)
		}
	}
	t.fail(err)
}

func (t *Testee) answers(lines *bufio.Scanner) error {
	for lines.Scan() {
		c := t.first()
		if c == nil {
			return fmt.Errorf("%w: %q came without a command", ErrNonsense, Short(lines.Text()))
		}
		a, rows, err := parse(c.command, lines.Text())
		for range rows {
			if !lines.Scan() {
				return nil // it has ended, as read finds out
			}
			a.Rows = append(a.Rows, lines.Text())
		}
		if err != nil {
			return err
		}
		t.answered(c, a)
	}
	return nil
}

// wholeLines leaves out a last line without its end: who wrote it was killed at it.
func wholeLines(data []byte, _ bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	return 0, nil, nil
}

func (t *Testee) first() *Call {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		return nil
	}
	return t.waiting[0]
}

func (t *Testee) answered(c *Call, a Answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 || t.waiting[0] != c {
		return // it came too late: fail was quicker
	}
	t.waiting = t.waiting[1:]
	t.late.Stop()
	if len(t.waiting) > 0 {
		t.late.Reset(t.deadline)
	}
	c.finish(a, nil)
}

func (t *Testee) timeout() {
	if c := t.first(); c != nil {
		t.fail(fmt.Errorf("%w: it has had %s for %q", ErrLate, t.deadline, Short(c.Line)))
	}
}

// fail ends the testee and fails what waits.
func (t *Testee) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed != nil {
		return
	}
	t.failed = fmt.Errorf("testee %s (pid %d): %w", t.Program.Name, t.Pid(), err)
	t.late.Stop()
	_ = t.signal(syscall.SIGKILL)
	for _, c := range t.waiting {
		c.finish(Answer{}, t.failed)
	}
	t.waiting = nil
}

// Pid returns the testee's process id.
func (t *Testee) Pid() int { return t.cmd.Process.Pid }

func (t *Testee) signal(s syscall.Signal) error { return t.cmd.Process.Signal(s) }

// Kill ends the process at once, as nobody could expect, and waits for its end.
// Children that it forked live on.
func (t *Testee) Kill() error {
	if err := t.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill testee %s: %w", t.Program.Name, err)
	}
	<-t.exited
	return nil
}

// Stop stops the process, and returns when it stands still.
func (t *Testee) Stop() error {
	if err := t.signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop testee %s: %w", t.Program.Name, err)
	}
	for end := time.Now().Add(t.deadline); time.Now().Before(end); {
		if standsStill(t.Pid()) {
			return nil
		}
		select {
		case <-t.exited:
			return fmt.Errorf("stop testee %s: %w", t.Program.Name, ErrGone)
		case <-time.After(time.Millisecond):
		}
	}
	return fmt.Errorf("stop testee %s: it goes on", t.Program.Name)
}

// standsStill tells whether all threads of the process are stopped.
func standsStill(pid int) bool {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return false
	}
	for _, task := range tasks {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, task.Name()))
		if err != nil {
			continue // the thread has ended
		}
		_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
		if !strings.HasPrefix(rest, "T") && !strings.HasPrefix(rest, "t") {
			return false
		}
	}
	return true
}

// Continue lets a stopped process go on.
func (t *Testee) Continue() error {
	if err := t.signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("continue testee %s: %w", t.Program.Name, err)
	}
	return nil
}

// Gone is closed when the process has ended.
func (t *Testee) Gone() <-chan struct{} { return t.exited }

// End closes the testee's standard input and waits for the process, which has to
// end by itself with 0.
func (t *Testee) End() error {
	_ = t.in.Close()
	select {
	case <-t.exited:
		if t.status != nil {
			return fmt.Errorf("end testee %s: %w", t.Program.Name, t.status)
		}
		return nil
	case <-time.After(t.deadline):
		_ = t.Kill()
		return fmt.Errorf("end testee %s: %w: it went on for %s after its standard input had ended", t.Program.Name, ErrLate, t.deadline)
	}
}

// Close kills the process, if it lives, and its children.
func (t *Testee) Close() {
	_ = syscall.Kill(-t.Pid(), syscall.SIGKILL) // its group, though it may have ended: children keep the number
	_ = t.Kill()
	_, _ = t.in.Close(), t.out.Close()
	<-t.errs.done
}

// Stderr returns the end of what the testee wrote to its standard error.
func (t *Testee) Stderr() string { return t.errs.String() }
