package demo

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// progress tells what goes on: one line, updated in place, on a terminal, and a
// plain line now and then elsewhere. Its methods may be called concurrently.
type progress struct {
	out      io.Writer
	terminal bool
	began    time.Time

	mu    sync.Mutex // guards what follows
	last  time.Time
	dirty bool // the terminal's line is not ended
}

const (
	inPlaceEvery = 100 * time.Millisecond
	lineEvery    = 5 * time.Second
)

func newProgress(out io.Writer) *progress {
	p := &progress{out: out, began: time.Now()}
	if f, ok := out.(*os.File); ok {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		p.terminal = err == nil
	}
	return p
}

// say ends a step with a line that stays.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line(fmt.Sprintf(format, args...), "\n")
	p.dirty, p.last = false, time.Now()
}

// update tells how far a step is, if it is time to.
func (p *progress) update(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	every, end := lineEvery, "\n"
	if p.terminal {
		every, end = inPlaceEvery, ""
	}
	if time.Since(p.last) < every {
		return
	}
	p.line(fmt.Sprintf(format, args...), end)
	p.dirty, p.last = p.terminal, time.Now()
}

// close ends a line that was updated in place.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dirty {
		fmt.Fprintln(p.out)
		p.dirty = false
	}
}

func (p *progress) line(text, end string) {
	start := ""
	if p.terminal {
		start = "\r\x1b[K"
	}
	fmt.Fprintf(p.out, "%s%5.1fs  %s%s", start, time.Since(p.began).Seconds(), text, end)
}
