package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// progress says on stderr what goes on: on a terminal in one line that is written
// anew, elsewhere a line for each suite and mix, and for long cases from time to time.
type progress struct {
	w        io.Writer
	terminal bool
	of       string    // the suite and mix of the last line
	next     time.Time // of the next note
}

const noteEvery = 5 * time.Second

func newProgress(w io.Writer) *progress {
	f, isFile := w.(*os.File)
	p := &progress{w: w}
	if isFile {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		p.terminal = err == nil
	}
	return p
}

func (p *progress) started(r *suite.Result, i, n int) {
	p.next = time.Now().Add(noteEvery)
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%d of %d: %s with %s", i+1, n, r.ID(), r.Mix)
	} else if of := r.Suite + " with " + r.Mix; of != p.of {
		p.of = of
		fmt.Fprintf(p.w, "%s: case %d of %d\n", of, i+1, n)
	}
}

func (p *progress) note(r *suite.Result, how string) {
	switch now := time.Now(); {
	case p.terminal:
		fmt.Fprintf(p.w, "\r\x1b[K%s with %s: %s", r.ID(), r.Mix, how)
	case now.After(p.next):
		p.next = now.Add(noteEvery)
		fmt.Fprintf(p.w, "%s with %s: %s\n", r.ID(), r.Mix, how)
	}
}

// done tells of a failure at once.
func (p *progress) done(r *suite.Result) {
	if !r.Bad() {
		return
	}
	p.end()
	fmt.Fprintf(p.w, "%s with %s: %s after %s\n", r.ID(), r.Mix, verdict(r), r.Elapsed.Round(time.Millisecond))
}

func verdict(r *suite.Result) string {
	if r.Status == suite.Passed {
		return "passed, though it is expected to fail"
	}
	return r.Status.String()
}

// end leaves the line of the terminal.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
