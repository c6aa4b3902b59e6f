package suite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// T is what a case works with. Its methods that end the case, which are those that
// say so, may be called only by the goroutine that runs it.
type T struct {
	Options Options
	Mix     Mix

	ctx  context.Context
	of   Case
	dir  string
	full testee.Program // makes domains for testees that cannot

	mu       sync.Mutex
	testees  map[int]*testee.Testee
	started  []*testee.Testee
	messages []string
	report   []string
	note     func(string)
	offered  bool
	failed   bool
}

// Context ends when the run is interrupted.
func (t *T) Context() context.Context { return t.ctx }

// Dir returns a directory of the case alone, in memory, which goes with it.
func (t *T) Dir() string { return t.dir }

// Errorf notes what is wrong and goes on.
func (t *T) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = true
	t.messages = append(t.messages, testee.Short(fmt.Sprintf(format, args...)))
}

// Fatalf notes what is wrong and ends the case.
func (t *T) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}

// Failed tells whether something was wrong so far.
func (t *T) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// Skip ends the case, as the testee does not offer what it is about.
func (t *T) Skip(format string, args ...any) {
	t.mu.Lock()
	t.offered = false
	t.messages = append(t.messages, fmt.Sprintf(format, args...))
	t.mu.Unlock()
	runtime.Goexit()
}

// Logf adds a line to the case's report, which is shown also if it passes.
func (t *T) Logf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report = append(t.report, fmt.Sprintf(format, args...))
}

// Notef says how far a long case is.
func (t *T) Notef(format string, args ...any) { t.note(fmt.Sprintf(format, args...)) }

// Testee returns testee i of the mix, which is started at its first use. Numbers from
// the size of the mix on begin again with its first program.
func (t *T) Testee(i int) *testee.Testee {
	t.mu.Lock()
	running := t.testees[i]
	t.mu.Unlock()
	if running != nil {
		return running
	}
	return t.Restart(i)
}

// Restart starts a new process as testee i. The old one, if there is one, is left as
// it is.
func (t *T) Restart(i int) *testee.Testee {
	p := t.Start(t.Mix[i%len(t.Mix)])
	t.mu.Lock()
	defer t.mu.Unlock()
	t.testees[i] = p
	return p
}

// Start starts a program that ends with the case at the latest.
func (t *T) Start(program testee.Program) *testee.Testee {
	p, err := testee.Start(program, 0)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.started = append(t.started, p)
	return p
}

// Answer ends the case unless the call is answered. That a testee does not offer what
// its level promises is a failure.
func (t *T) Answer(c *testee.Call) testee.Answer {
	a, err := c.Wait()
	if err != nil {
		t.Fatalf("%s: %v", c.Line, err)
	}
	if a.Kind == testee.Unsupported && !slices.Contains(optional, strings.SplitN(c.Line, " ", 2)[0]) {
		t.Fatalf("%s: unsupported, though level %s promises it", c.Line, t.of.Level)
	}
	return a
}

// optional are the commands that no level promises.
var optional = []string{"crashafter"}

// Do has testee i do a command and returns its answer, as Answer does.
func (t *T) Do(i int, words ...string) testee.Answer {
	return t.Answer(t.Testee(i).Send(words...))
}

// OK is Do for what has to be done.
func (t *T) OK(i int, words ...string) testee.Answer {
	a := t.Do(i, words...)
	if a.Kind != testee.OK {
		t.Fatalf("testee %d (%s): %s: %v, not ok", i, t.name(i), t.line(words), a)
	}
	return a
}

// No is Do for what has to be answered with no.
func (t *T) No(i int, words ...string) {
	if a := t.Do(i, words...); a.Kind != testee.No {
		t.Fatalf("testee %d (%s): %s: %v, not no", i, t.name(i), t.line(words), a)
	}
}

// Err is Do for what has to fail with that error, or one of those.
func (t *T) Err(i int, names string, words ...string) {
	a := t.Do(i, words...)
	if a.Kind != testee.Err || !slices.Contains(strings.Split(names, "|"), a.Name) {
		t.Fatalf("testee %d (%s): %s: %v, not err %s", i, t.name(i), t.line(words), a, names)
	}
}

func (t *T) name(i int) string { return t.Mix[i%len(t.Mix)].Name }

func (t *T) line(words []string) string { return testee.Short(strings.Join(words, " ")) }

// run runs the case in a goroutine of its own, as Fatalf ends that.
func (t *T) run() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer t.end()
		defer func() {
			if r := recover(); r != nil {
				t.Errorf("the runner's own error: %v\n%s", r, debug.Stack())
			}
		}()
		t.of.Run(t)
	}()
	<-done
}

// end ends what the case has started, and shows what the testees said if it failed.
func (t *T) end() {
	for _, p := range t.started {
		p.Close()
		if said := strings.TrimSpace(p.Stderr()); said != "" && t.Failed() {
			t.Errorf("standard error of %s (pid %d):\n%s", p.Program.Name, p.Pid(), said)
		}
	}
	if err := os.RemoveAll(t.dir); err != nil {
		t.Errorf("%v", err)
	}
}

// newDir makes the directory of a case.
func newDir(root string) (string, error) {
	dir, err := os.MkdirTemp(root, "flagstone-conformance-")
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}
