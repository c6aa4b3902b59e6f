package torture

import (
	"fmt"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// notes are the last operations on a key.
type notes struct {
	ring [32]note
	next int
}

// note is one of them, as it was answered.
type note struct {
	slot    int
	program string
	life    uint64
	op      *op
	answer  testee.Answer
	lost    bool
}

func (n *notes) add(x note) {
	n.ring[n.next%len(n.ring)] = x
	n.next++
}

func (n *notes) lines(since moment) (lines []string) {
	for i := max(0, n.next-len(n.ring)); i < n.next; i++ {
		lines = append(lines, n.ring[i%len(n.ring)].line(since))
	}
	return lines
}

func (n *note) line(since moment) string {
	const most = 150
	cut := func(s string) string {
		if len(s) > most {
			return s[:most] + "..."
		}
		return s
	}
	answer := "not answered: the process has ended"
	if !n.lost {
		answer = cut(n.answer.String())
	}
	number := ""
	if n.op.number != 0 {
		number = fmt.Sprintf(" (number %d)", n.op.number)
	}
	return fmt.Sprintf("%12.6f to %.6f: slot %d, %s, life %d: %s%s: %s", time.Duration(n.op.sent-since).Seconds(), time.Duration(n.op.done-since).Seconds(),
		n.slot, n.program, n.life, cut(n.op.line), number, answer)
}
