package torture

import (
	"fmt"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// What a process has left unanswered happened up to some command, and from there on not:
// it does them in their order. The next one in the slot reads the keys that it alone
// writes, and that must be so.

// keep takes down the writes of keys with one writer that were not answered.
func (s *slot) keep(l *life, unanswered []*op, at moment) {
	var left []*op
	for _, o := range unanswered {
		if o.write != nil && (o.on.family == own || o.on.family == named) {
			left = append(left, o)
		}
	}
	if len(left) == 0 {
		return // what is there still waits to be looked at, or nothing does
	}
	s.left = left
	if s.crew.stopped(l.sent, at) { // some may have been answered with busy
		s.left = nil
	}
}

// postMortem reads what was left, and reports whether the process has outlived that.
func (s *slot) postMortem(l *life) bool {
	s.marks[s.n].Store(int64(now()))
	l.sent, l.burst = now(), nil
	p := prefix{left: s.left, most: len(s.left)}
	seen := map[*subject]bool{}
	for _, o := range s.left {
		if k := o.on; !seen[k] {
			seen[k] = true
			get := &op{event: l.event(), line: "get " + k.word, on: k}
			get.judge = func(o *op, a testee.Answer) string {
				removed := a.Kind == testee.No && k.wasRemoved(o, s.left)
				if wrong := judgeGet(o, a); wrong != "" {
					return wrong
				}
				return p.look(k, a.Kind == testee.OK, o.number, removed)
			}
			l.burst = append(l.burst, get)
		}
	}
	if !s.do(l) {
		return false
	}
	s.left = nil
	return true
}

// wasRemoved reports whether there may have been nothing under the key before what was
// left.
func (s *subject) wasRemoved(r *op, left []*op) bool {
	for _, w := range s.writes {
		mine := false
		for _, o := range left {
			mine = mine || o.write == w
		}
		if w.absent && !mine && s.current(w, &r.event) {
			return true
		}
	}
	return false
}

// prefix is how many of the commands that were left have happened.
type prefix struct {
	left        []*op
	least, most int
}

// look judges what was found of one key: a number, or nothing, which may be from before.
func (p *prefix) look(s *subject, found bool, number uint64, removed bool) (wrong string) {
	last := -1  // the last one on the key that may have happened
	first := -1 // the first one from which on it may be so
	for i, o := range p.left {
		if o.on == s && (found && o.number == number || !found && o.write.absent) {
			last = i
			if first < 0 && !removed {
				first = i
			}
		}
	}
	p.least = max(p.least, first+1)
	for i := last + 1; i < len(p.left); i++ {
		if o := p.left[i]; o.on == s && o.wait == 0 && (o.name() == "set" || o.name() == "del" && found) { // these cannot have failed
			p.most = min(p.most, i)
			break
		}
	}
	if p.least > p.most {
		return fmt.Sprintf("command %d of those that were not answered has happened (%s), though %d has not (%s): they are done in order",
			p.least-1, p.left[p.least-1].line[:min(60, len(p.left[p.least-1].line))], p.most, p.left[p.most].line[:min(60, len(p.left[p.most].line))])
	}
	return ""
}
