package torture

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// verdict looks at what is left, slab by slab, through all processes that live: they
// must agree, nothing may be unsound, and what must be there is there.
func (c *crew) verdict() {
	const longestTTL = 500 * time.Millisecond
	time.Sleep(longestTTL + slack*time.Millisecond) // so that nothing expires between two looks
	all := make([]*life, len(c.slots))
	for i, s := range c.slots {
		all[i] = &life{slot: s, id: s.lifes.Load(), seq: 1 << 32, random: s.random}
	}
	for at := range places {
		for _, l := range all {
			l.place = at
			l.ask("close")
			l.ask(c.open(at, "wake=poll promote=0"))
		}
		all[0].ask("reap")
		all[0].ask("dump") // rebuilds what the dead have left
		for _, what := range []string{"check", "dump", "scan", "stat", "entries"} {
			c.agree(all, what)
		}
		c.values(all, at)
	}
	for _, l := range all {
		if err := l.peer.End(); err != nil {
			c.violation(l, &op{event: event{done: now()}}, "in the end: "+err.Error())
		}
	}
}

// ask has a process do one command, which must be done.
func (l *life) ask(line string) testee.Answer {
	l.sent, l.burst = now(), nil
	o := &op{event: l.event(), line: line}
	a, err := l.peer.SendAll([]string{line})[0].Wait()
	o.done = now()
	switch {
	case err != nil:
		l.crew.violation(l, o, "in the end: "+err.Error())
	case a.Kind != testee.OK:
		l.crew.violation(l, o, "in the end: not ok", a)
	}
	return a
}

// agree compares what all answer. What one finds unsound is told.
func (c *crew) agree(all []*life, what string) {
	var first testee.Answer
	for i, l := range all {
		a := l.ask(what)
		switch {
		case i == 0:
			first = a
			if what == "check" && len(a.Rows) > 0 {
				c.violation(l, &op{event: event{done: now()}, line: what}, "not sound in the end", a)
			}
		case !slices.Equal(a.Rows, first.Rows):
			c.violation(l, &op{event: event{done: now()}, line: what}, fmt.Sprintf("in the end slot %d (%s) says otherwise than slot 0 (%s): %s",
				i, l.program.Name, all[0].program.Name, difference(a.Rows, first.Rows)))
		}
	}
}

// difference tells the first row that differs.
func difference(a, b []string) string {
	for i := range max(len(a), len(b)) {
		x, y := "nothing", "nothing"
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return fmt.Sprintf("%d and %d rows, row %d:\n%s\n%s", len(a), len(b), i, x[:min(300, len(x))], y[:min(300, len(y))])
		}
	}
	return "they are equal"
}

// values has all keys of a place looked up, by the processes in turn, and a scan judged.
func (c *crew) values(all []*life, at place) {
	lows := c.keys.lows()
	scan := all[0].ask("scan")
	o := &op{event: all[0].event(), line: "scan"}
	o.sent, o.done = now(), now()
	if wrong := c.keys.scan(o, scan.Rows, at, lows); wrong != "" {
		c.violation(all[0], o, "in the end: "+wrong)
	}
	i := 0
	for _, key := range sorted(c.keys.all) {
		s := c.keys.all[key]
		if traits[s.family].place != at && !(at == east && s.family == nomad && !s.west) {
			continue
		}
		l := all[i%len(all)]
		i++
		l.sent, l.burst = now(), nil
		o := &op{event: l.event(), line: "get " + s.word, on: s}
		o.judge = func(o *op, a testee.Answer) string { return s.last(o, a, at, lows[s]) }
		l.burst = append(l.burst, o)
		if !l.slot.do(l) {
			return
		}
	}
}

// last judges the last lookup of a key.
func (s *subject) last(o *op, a testee.Answer, at place, low uint64) (wrong string) {
	switch s.family {
	case counter, chain:
		if a.Kind == testee.No {
			wrong = s.count.missing(s.count.done) + s.links.missing(s.links.floor)
			break
		}
		b, _, not := gotten(a)
		wrong = not
		if wrong == "" && s.family == counter {
			wrong = s.count.found(b, low)
		} else if wrong == "" {
			_, wrong = s.links.found(s.id, b, low)
		}
	case nomad:
		s.west = at == west && a.Kind == testee.OK
		acknowledged := slices.ContainsFunc(s.writes, func(w *write) bool { return !w.absent && w.certain })
		if at == east && a.Kind == testee.No && acknowledged {
			wrong = "missing: it is neither in the slab from which it was moved nor in the other"
		} else {
			wrong = judgeGet(o, a)
		}
	default:
		wrong = judgeGet(o, a)
	}
	if wrong == "" {
		return ""
	}
	return "in the end: " + strings.TrimSpace(wrong)
}
