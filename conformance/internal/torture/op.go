package torture

import (
	"fmt"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// op is a command with what is made of its answer.
type op struct {
	event
	line   string
	on     *subject      // nil: none, or several
	number uint64        // of the write
	write  *write        // of the write, or the removal
	wait   time.Duration // for locks, if it was given
	allows string        // errors that may be, beside busy
	doomed bool          // the process does not outlive it

	// judge says what is wrong with the answer ok or no. What it knows of the subject is
	// locked.
	judge func(o *op, a testee.Answer) (wrong string)
	// failed is called, locked too, if an error was answered, or nothing before the process
	// ended.
	failed func(o *op, name string)
}

func (o *op) name() string {
	name, _, _ := strings.Cut(o.line, " ")
	return name
}

// allowed reports whether the command may be answered with that error.
func (o *op) allowed(name string) bool {
	return name == "busy" || strings.Contains(" "+o.allows+" ", " "+name+" ")
}

// take judges an answer.
func (o *op) take(a testee.Answer) (wrong string) {
	if o.on != nil {
		o.on.mu.Lock()
		defer o.on.mu.Unlock()
	}
	switch a.Kind {
	case testee.OK, testee.No:
		if o.judge != nil {
			return o.judge(o, a)
		}
	case testee.Err:
		if o.failed != nil {
			o.failed(o, a.Name)
		}
		if !o.allowed(a.Name) {
			return fmt.Sprintf("unexpected error: %v", a)
		}
	case testee.Unsupported:
		if o.failed != nil {
			o.failed(o, "unsupported")
		}
	}
	return ""
}

// lose says that the process has ended without an answer.
func (o *op) lose() {
	if o.failed == nil {
		return
	}
	if o.on != nil {
		o.on.mu.Lock()
		defer o.on.mu.Unlock()
	}
	o.failed(o, "")
}

// words is the answer's words, if they are so many.
func words(a testee.Answer, n int) ([]string, string) {
	if a.Kind != testee.OK || len(a.Words) != n {
		return make([]string, n), fmt.Sprintf("not understood: %v: %d words wanted", a, n)
	}
	return a.Words, ""
}

// number is the answer's only word.
func number(a testee.Answer) (uint64, string) {
	w, wrong := words(a, 1)
	if wrong != "" {
		return 0, wrong
	}
	n, err := testee.Number(w[0])
	if err != nil {
		return 0, err.Error()
	}
	return n, ""
}
