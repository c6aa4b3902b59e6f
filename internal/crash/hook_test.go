//go:build linux && steps

package crash

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/step"
)

// site is where a step stands: file and line below the module's root, and for a copy's
// second half the line within the function that copies.
type site struct {
	File   string
	Line   int
	Within int
}

// root is the module's folder, as the compiler names it.
var root = func() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}()

// here returns the step that is being passed, and the function it is in.
func here() (s site, function string) {
	var room [16]uintptr
	frames := runtime.CallersFrames(room[:runtime.Callers(2, room[:])])
	for {
		f, more := frames.Next()
		file, _ := strings.CutPrefix(f.File, root+"/")
		switch {
		case strings.HasPrefix(file, "internal/crash/"), strings.HasPrefix(file, "internal/step/"), file == "internal/layout/words_steps.go":
		case file == "internal/shm/copy_fast.go", file == "internal/shm/copy_atomic.go":
			s.Within = max(s.Within, f.Line)
		default:
			s.File, s.Line = file, f.Line
			return s, f.Function[strings.LastIndexByte(f.Function, '/')+1:]
		}
		if !more {
			panic(fmt.Sprintf("no step in %+v", f))
		}
	}
}

// passage is one passing of a step: the nth of that site since the hook was armed.
type passage struct {
	Site site
	N    int
}

// hook counts steps while it is armed, and kills the process at one of them. Steps of
// other goroutines do not count: the one that is armed keeps its thread meanwhile. For
// what only others do, background names the functions that count, whoever runs them.
type hook struct {
	mu         sync.Mutex // guards the rest; taken by every step
	tid        int        // 0 while it is not armed
	background string
	kill       *passage
	passed     map[site]int
	trace      []passage
	dying      func(site) // tells the parent
}

// end is the passage after the operation's last step.
var end = passage{Site: site{File: "end"}}

func (h *hook) arm(background string) {
	runtime.LockOSThread()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tid, h.background, h.passed, h.trace = unix.Gettid(), background, map[site]int{}, nil
}

// ready sets the hook before anything runs that passes steps.
func (h *hook) ready() { step.Passing = h.pass }

func (h *hook) disarm() {
	if h.kill != nil && *h.kill == end {
		h.die(end.Site)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tid = 0
	runtime.UnlockOSThread()
}

// aside runs what is not to count.
func (h *hook) aside(f func()) {
	was := h.swap(0)
	f()
	h.swap(was)
}

func (h *hook) swap(tid int) (was int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was, h.tid = h.tid, tid
	return was
}

func (h *hook) pass() {
	h.mu.Lock()
	if h.tid == 0 || h.background == "" && h.tid != unix.Gettid() {
		h.mu.Unlock()
		return
	}
	s, function := here()
	if !strings.HasPrefix(function, h.background) {
		h.mu.Unlock()
		return
	}
	h.passed[s]++
	now := passage{s, h.passed[s]}
	if h.kill == nil {
		h.trace = append(h.trace, now)
	} else if *h.kill == now {
		h.die(s)
	}
	h.mu.Unlock()
}

// die ends this process as kill -9 does, and does not return. From pass it comes with mu,
// which every step of every goroutine has to take: nothing that is shared changes any more.
func (h *hook) die(s site) {
	h.dying(s)
	_ = unix.Kill(unix.Getpid(), unix.SIGKILL)
	select {}
}
