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

	ctx    context.Context
	of     Case
	dir    string
	levels map[string]Level
	full   testee.Program // makes domains for testees that cannot

	mu       sync.Mutex
	testees  map[int]*testee.Testee
	started  []*testee.Testee
	messages []string
	report   []string
	note     func(string)
	made     bool // the domain, by the maker
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
	p := t.Start(t.program(i))
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

// Wait returns the answer to a call, and ends the case if none comes.
func (t *T) Wait(c *testee.Call) testee.Answer {
	a, err := c.Wait()
	if err != nil {
		t.Fatalf("%s: %v", c.Line, err)
	}
	return a
}

// Answer is Wait for what is offered: the case ends if it is not, which is a failure
// if the testee's level promises it.
func (t *T) Answer(c *testee.Call) testee.Answer {
	a := t.Wait(c)
	if a.Kind != testee.Unsupported {
		return a
	}
	command, _, _ := strings.Cut(c.Line, " ")
	if level := t.levels[c.By.Program.Name]; promises(level, command) {
		t.Fatalf("%s: unsupported, though level %s promises it", c.Line, level)
	}
	t.Skip("%s: unsupported", c.Line)
	return a
}

// promises tells whether a level has the command: section 22. Nobody has to be able to
// crash at a store, or to fork.
func promises(l Level, command string) bool {
	switch command {
	case "crashafter", "fork":
		return false
	case "hello", "open", "close", "get", "crash":
		return true
	case "set", "add", "replace", "cas", "del", "rebuild":
		return l >= Writer
	}
	return l >= Full
}

// Maker is the number of a process that offers all: a further one where testee 0 does.
const Maker = -1

// Domain is the name of the domain in the case's directory.
const Domain = "d"

func (t *T) program(i int) testee.Program {
	if i == Maker {
		return t.full
	}
	return t.Mix[i%len(t.Mix)]
}

// Send has testee i do a command. In open, destroy, gc and list the directory is
// filled in, in the first two Domain too; what is opened by a testee that cannot make
// a domain is made before, and a reader opens as one.
func (t *T) Send(i int, words ...string) *testee.Call {
	switch words[0] {
	case "open":
		return t.open(i, words[1:])
	case "destroy":
		words = []string{"destroy", t.dir, Domain}
	case "gc", "list":
		words = []string{words[0], t.dir}
	}
	return t.Testee(i).Send(words...)
}

func (t *T) open(i int, options []string) *testee.Call {
	words := append([]string{"open", t.dir, Domain}, options...)
	level := t.levels[t.program(i).Name]
	if level < Full && !t.made {
		t.made = true
		if a := t.Answer(t.Testee(Maker).Send(words...)); a.Kind != testee.OK {
			t.Fatalf("make the domain: %v", a)
		}
	}
	if level == Reader && !slices.Contains(words, "read=1") {
		words = append(words, "read=1")
	}
	return t.Testee(i).Send(words...)
}

// Do is Send, and Answer.
func (t *T) Do(i int, words ...string) testee.Answer {
	return t.Answer(t.Send(i, words...))
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

func (t *T) name(i int) string { return t.program(i).Name }

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
