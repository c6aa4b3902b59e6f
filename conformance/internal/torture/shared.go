package torture

import (
	"strconv"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// What all write: counters, chains, and what is claimed.

func (l *life) increment() {
	s := l.any(counter)
	s.mu.Lock()
	low := s.count.done
	s.count.begun++
	s.mu.Unlock()
	l.add(&op{event: l.event(), line: "incr " + s.word + " 1", on: s, judge: func(o *op, a testee.Answer) (wrong string) {
		w, wrong := words(a, 1)
		if wrong != "" {
			return wrong
		}
		sum, err := strconv.ParseInt(w[0], 10, 64)
		if err != nil {
			return "not understood: " + a.String()
		}
		return s.count.sum(sum, low)
	}, failed: func(o *op, name string) {
		if name == "busy" {
			s.count.begun--
		}
	}})
}

func (l *life) readCounter() {
	s := l.any(counter)
	s.mu.Lock()
	low := s.count.done
	s.mu.Unlock()
	l.add(&op{event: l.event(), line: "get " + s.word, on: s, judge: func(o *op, a testee.Answer) (wrong string) {
		if a.Kind == testee.No {
			return s.count.missing(low)
		}
		b, _, wrong := gotten(a)
		if wrong != "" {
			return wrong
		}
		return s.count.found(b, low)
	}})
}

// gotten is the value and the version of a lookup's answer.
func gotten(a testee.Answer) (b []byte, version uint64, wrong string) {
	w, wrong := words(a, 5)
	if wrong != "" {
		return nil, 0, wrong
	}
	b, err := testee.Bytes(w[0])
	if err != nil {
		return nil, 0, err.Error()
	}
	version, err = testee.Number(w[1])
	if err != nil {
		return nil, 0, err.Error()
	}
	return b, version, ""
}

// swap looks a chain up, and then puts the next link in the place of the last one.
func (l *life) swap() {
	s := l.any(chain)
	s.mu.Lock()
	low := s.links.floor
	s.mu.Unlock()
	l.add(&op{event: l.event(), line: "get " + s.word, on: s, judge: func(o *op, a testee.Answer) (wrong string) {
		if a.Kind == testee.No {
			l.later(func() { l.link(s, value{}, 0) })
			return s.links.missing(low)
		}
		b, version, wrong := gotten(a)
		if wrong != "" {
			return wrong
		}
		last, wrong := s.links.found(s.id, b, low)
		o.number = last.number
		l.later(func() { l.link(s, last, version) })
		return wrong
	}})
}

// link swaps the last link, of that version, for the next.
func (l *life) link(s *subject, last value, version uint64) {
	e := l.event()
	v := value{id: s.id, number: last.number + 1, writer: l.id<<32 | e.seq, before: last.writer}
	line := join("cas", s.word, strconv.FormatUint(version, 10), testee.Hex(v.bytes()))
	if version == 0 {
		line = join("add", s.word, testee.Hex(v.bytes()))
	}
	l.add(&op{event: e, line: line, on: s, number: v.number, judge: func(o *op, a testee.Answer) (wrong string) {
		if a.Kind == testee.No {
			return ""
		}
		version, wrong := number(a)
		if wrong != "" {
			return wrong
		}
		if l.random.IntN(4) == 0 {
			l.later(func() { l.link(s, v, version) })
		}
		return s.links.link(v)
	}})
}

func (l *life) readClaimed() { l.get(l.any(claimed)) }

// overwrite sets or deletes what may be claimed.
func (l *life) overwrite() {
	s := l.any(claimed)
	e := l.event()
	if l.random.IntN(2) == 0 {
		w := s.begin(e, true, 0)
		l.add(s.ends(&op{event: e, line: "del " + s.word, on: s, number: w.number, write: w, failed: failedWrite, judge: func(o *op, a testee.Answer) (wrong string) {
			if a.Kind == testee.No { // it has ended claims all the same
				wrong = s.missing(&o.event)
			}
			l.stored(o, 0)
			return wrong
		}}))
		return
	}
	o := l.storing("set", s, e, l.ttl())
	o.judge = func(o *op, a testee.Answer) (wrong string) {
		version, wrong := number(a)
		l.stored(o, version)
		return wrong
	}
	l.add(s.ends(o))
}

func (l *life) ttl() int64 { return 5 + l.random.Int64N(150) }

// seize claims a key, and looks at what comes of it.
func (l *life) seize() {
	s := l.any(claimed)
	deadline := time.Duration(200+l.random.IntN(3000)) * time.Millisecond
	if l.random.IntN(4) == 0 {
		deadline = time.Duration(1+l.random.IntN(50)) * time.Millisecond
	}
	c := s.seize(l.event(), deadline)
	if l.dying.Load() == l.id {
		s.dies(l.id, l.sent)
	}
	l.add(&op{event: c.event, line: join("claim", s.word, itoa(int64(deadline/time.Millisecond))), on: s, judge: func(o *op, a testee.Answer) (wrong string) {
		if a.Kind != testee.OK || len(a.Words) == 0 {
			return "not understood: " + a.String()
		}
		if a.Words[0] == "claim" && len(a.Words) == 2 {
			version, err := testee.Number(a.Words[1])
			if err != nil {
				return err.Error()
			}
			l.later(func() { l.settle(s, c) })
			return s.granted(c, o.done, version) + s.missing(&o.event)
		}
		s.drop(c)
		switch {
		case len(a.Words) == 1 && a.Words[0] == "held":
			return s.held(&o.event)
		case len(a.Words) == 2 && a.Words[0] == "value":
			b, err := testee.Bytes(a.Words[1])
			if err != nil {
				return err.Error()
			}
			v, wrong := s.found(&o.event, b, 0)
			o.number = v.number
			return wrong
		case len(a.Words) == 2 && a.Words[0] == "failed":
			if want := testee.Hex("cannot make " + s.String()); a.Words[1] != want {
				return "failed with the text " + a.Words[1] + ", not " + want
			}
			return ""
		}
		return "not understood: " + a.String()
	}, failed: func(o *op, name string) {
		if name != "" {
			s.drop(c)
		} // otherwise the end of the life says it
	}})
}

// settle does something with a claim that is held.
func (l *life) settle(s *subject, c *claim) {
	version := strconv.FormatUint(c.version, 10)
	switch r := l.random.IntN(20); {
	case r < 4: // computes on
		l.later(func() { l.settle(s, c) })
	case r < 5: // forgets it
	case r < 7:
		l.giveUp(s, c, join("release", s.word, version))
	case r < 9:
		l.giveUp(s, c, join("fail", s.word, version, testee.Hex("cannot make "+s.String())))
	case r < 10:
		until := l.sent.wall() + 1 + l.random.Int64N(50)
		l.giveUp(s, c, join("fail", s.word, version, testee.Hex("cannot make "+s.String()), "until="+itoa(until)))
	default:
		l.complete(s, c, version)
	}
}

// complete fills a claim.
func (l *life) complete(s *subject, c *claim, version string) {
	o := l.storing("fill", s, l.event(), l.ttl())
	o.line = "fill " + s.word + " " + version + o.line[len("fill ")+len(s.word):]
	o.allows = "claimlost"
	o.judge = func(o *op, a testee.Answer) (wrong string) {
		version, wrong := number(a)
		if wrong != "" {
			return wrong
		}
		l.stored(o, version)
		s.pruneClaims(l.marks.low())
		return s.filled(c, &o.event, o.write)
	}
	o.failed = func(o *op, name string) {
		failedWrite(o, name)
		if name == "claimlost" {
			l.deny(c, o, s.lost(c, &o.event, o.write))
		}
	}
	l.add(s.ends(o))
}

// giveUp ends a claim without a value.
func (l *life) giveUp(s *subject, c *claim, line string) {
	l.add(s.ends(&op{event: l.event(), line: line, on: s, allows: "claimlost", judge: func(o *op, a testee.Answer) (wrong string) {
		s.pruneClaims(l.marks.low())
		return s.filled(c, &o.event, nil)
	}, failed: func(o *op, name string) {
		if name == "claimlost" {
			l.deny(c, o, s.lost(c, &o.event, nil))
		}
	}}))
}

// deny tells that a claim was refused that nothing had ended.
func (l *life) deny(c *claim, o *op, wrong string) {
	c.over = min(c.over, o.done)
	if wrong != "" {
		l.crew.violation(l, o, wrong)
	}
}
