package testee

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// SendAll sends commands in one write, without waiting for their answers.
func (t *Testee) SendAll(lines []string) []*Call {
	calls := make([]*Call, len(lines))
	t.sending.Lock()
	defer t.sending.Unlock()
	for i, line := range lines {
		c := &Call{Line: line, done: make(chan struct{})}
		c.command, _, _ = strings.Cut(line, " ")
		t.expect(c)
		calls[i] = c
	}
	_ = t.in.SetWriteDeadline(time.Now().Add(t.deadline))
	if _, err := t.in.WriteString(strings.Join(lines, "\n") + "\n"); errors.Is(err, os.ErrDeadlineExceeded) {
		t.fail(fmt.Errorf("%w: it does not read its standard input", ErrLate))
	} // any other error is the end of the process, about which read says more
	return calls
}
