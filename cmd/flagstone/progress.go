package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// progress reports on stderr how long work goes on: one line that is written
// anew on a terminal, lines elsewhere if asked for.
type progress struct {
	w        io.Writer // nil: no reports
	terminal bool
	next     time.Time
	written  bool
}

const reportEvery = 200 * time.Millisecond

func newProgress(errs io.Writer, asked bool) *progress {
	p := &progress{terminal: isTerminal(errs)}
	if p.terminal || asked {
		p.w = errs
	}
	return p
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// update reports unless the last report is recent.
func (p *progress) update(format string, args ...any) {
	now := time.Now()
	if p.w == nil || now.Before(p.next) {
		return
	}
	p.next, p.written = now.Add(reportEvery), true
	if p.terminal {
		format = "\r\x1b[K" + format
	} else {
		format += "\n"
	}
	fmt.Fprintf(p.w, format, args...)
}

// end clears the terminal's line.
func (p *progress) end() {
	if p.terminal && p.written {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.written = false
	}
}
