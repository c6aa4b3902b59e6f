package torture

import (
	"strconv"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// read looks a key with one writer up.
func (l *life) read() { l.get(l.any(l.family(false))) }

func (l *life) get(s *subject) *op {
	name := "get"
	switch l.random.IntN(10) {
	case 0:
		name = "peek"
	case 1:
		name = "stale"
	}
	o := &op{event: l.event(), line: name + " " + s.word, on: s, judge: judgeGet}
	l.add(o)
	return o
}

func judgeGet(o *op, a testee.Answer) (wrong string) {
	if a.Kind == testee.No {
		return o.on.missing(&o.event)
	}
	n := 5
	if o.name() == "stale" {
		n = 6
	}
	w, wrong := words(a, n)
	if wrong != "" {
		return wrong
	}
	b, err := testee.Bytes(w[0])
	if err != nil {
		return err.Error()
	}
	version, err := testee.Number(w[1])
	if err != nil {
		return err.Error()
	}
	v, wrong := o.on.found(&o.event, b, version)
	o.number = v.number
	if wrong == "" && w[4] != strconv.FormatUint(o.on.tag, 10) {
		wrong = "its user tag is " + w[4] + ", it was written with " + strconv.FormatUint(o.on.tag, 10)
	}
	return wrong
}

// readBatch looks several keys up at once.
func (l *life) readBatch() {
	var some []*subject
	line := "batch"
	for len(some) < 8 {
		if f := l.family(false); traits[f].namespace == "" {
			s := l.any(f)
			some, line = append(some, s), line+" "+s.word
		} else if f == cleared {
			continue
		}
	}
	l.add(&op{event: l.event(), line: line, judge: func(o *op, a testee.Answer) (wrong string) {
		if len(a.Rows) != len(some) {
			return "not understood: " + a.String()
		}
		for i, s := range some {
			if wrong = s.row(&o.event, a.Rows[i]); wrong != "" {
				o.on = s
				return wrong
			}
		}
		return ""
	}})
}

// row judges a row of a batch.
func (s *subject) row(e *event, row string) (wrong string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if row == "-" {
		return s.missing(e)
	}
	if len(row) < 2 || row[:2] != "+ " {
		return "not understood: " + row
	}
	b, err := testee.Bytes(row[2:])
	if err != nil {
		return err.Error()
	}
	_, wrong = s.found(e, b, 0)
	return wrong
}

// put writes one of the slot's keys, or removes it.
func (l *life) put() {
	f := l.family(true)
	s := l.mine(f)
	if f == named || f == cleared || f == nomad || l.random.IntN(8) > 0 {
		if r := l.random.IntN(20); r < 3 && f != nomad {
			l.remove(s)
		} else if r < 7 && (f == own || f == tagged) {
			l.conditional(s)
		} else {
			l.set(s)
		}
		return
	}
	l.set(s)
}

// set writes the next value of a key.
func (l *life) set(s *subject) {
	e := l.event()
	var ttl int64
	if s.family == timed {
		ttl = 20 + l.random.Int64N(400)
	}
	o := l.storing("set", s, e, ttl)
	o.judge = func(o *op, a testee.Answer) (wrong string) {
		if a.Kind == testee.No {
			return "set was answered with no"
		}
		version, wrong := number(a)
		l.stored(o, version)
		return wrong
	}
	l.add(o)
}

// storing makes a command that writes.
func (l *life) storing(name string, s *subject, e event, ttl int64) *op {
	w := s.begin(e, false, ttl)
	v := value{id: s.id, number: w.number, writer: l.id}
	o := &op{event: e, line: join(name, s.word, testee.Hex(v.bytes())), on: s, number: w.number, write: w, failed: failedWrite}
	if ttl != 0 {
		o.line += " ttl=" + itoa(ttl)
	}
	if s.tag != 0 {
		o.line += " tag=" + strconv.FormatUint(s.tag, 10)
	}
	if traits[s.family].place != primary {
		o.allows = "full toolarge valuetoolong"
	}
	return o
}

// failedWrite says that a write was answered with an error, or not at all.
func failedWrite(o *op, name string) {
	if name == "" || !o.allowed(name) {
		o.write.done = min(o.write.done, o.done) // it may have happened
		return
	}
	o.on.forget(o.write)
}

// stored says that the write was acknowledged.
func (l *life) stored(o *op, version uint64) {
	o.on.acknowledge(o.write, o.done, version)
	o.on.prune(l.marks.low())
}

// conditional writes if there is something, or nothing.
func (l *life) conditional(s *subject) {
	name := []string{"add", "replace"}[l.random.IntN(2)]
	o := l.storing(name, s, l.event(), 0)
	o.judge = func(o *op, a testee.Answer) (wrong string) {
		if (a.Kind == testee.No) == (name == "add") {
			wrong = s.present(&o.event)
		} else {
			wrong = s.missing(&o.event)
		}
		if a.Kind == testee.No {
			s.forget(o.write)
			return wrong
		}
		version, not := number(a)
		l.stored(o, version)
		return not + wrong
	}
	l.add(o)
}

// remove deletes a key.
func (l *life) remove(s *subject) {
	e := l.event()
	w := s.begin(e, true, 0)
	l.add(&op{event: e, line: "del " + s.word, on: s, number: w.number, write: w, failed: failedWrite, judge: func(o *op, a testee.Answer) (wrong string) {
		if a.Kind == testee.No {
			s.forget(w)
			return s.missing(&o.event)
		}
		if !traits[s.family].ages {
			wrong = s.present(&o.event)
		}
		l.stored(o, 0)
		return wrong
	}})
}

// touch changes the expiry of one of the slot's keys.
func (l *life) touch() {
	s := l.mine(l.family(true))
	e := l.event()
	var expiry int64
	if s.family == timed {
		if expiry = 0; l.random.IntN(2) == 0 {
			expiry = e.sent.wall() + 50 + l.random.Int64N(300)
			s.touch(expiry)
		} else {
			s.touch(1 << 60)
		}
	}
	l.add(&op{event: e, line: join("touch", s.word, itoa(expiry)), on: s, judge: func(o *op, a testee.Answer) (wrong string) {
		if a.Kind == testee.No {
			return s.missing(&o.event)
		}
		return s.present(&o.event)
	}})
}

// removal removes several keys at once, if they are there.
func (l *life) removal(line string, some []*subject) {
	e := l.event()
	var all []*write
	for _, s := range some {
		all = append(all, s.begin(e, true, 0))
	}
	each := func(does func(s *subject, w *write)) {
		for i, s := range some {
			s.mu.Lock()
			does(s, all[i])
			s.mu.Unlock()
		}
	}
	l.add(&op{event: e, line: line, judge: func(o *op, a testee.Answer) (wrong string) {
		each(func(s *subject, w *write) {
			if a.Kind == testee.No {
				s.forget(w)
				return
			}
			s.acknowledge(w, o.done, 0)
			s.prune(l.marks.low())
		})
		return ""
	}, failed: func(o *op, name string) {
		each(func(_ *subject, w *write) { w.done = min(w.done, o.done) })
	}})
}

func (l *life) evictTag() {
	tag := uint64(1 + l.random.IntN(tags))
	var some []*subject
	for _, of := range l.keys.by[tagged] {
		for _, s := range of {
			if s.tag == tag {
				some = append(some, s)
			}
		}
	}
	l.removal("evicttag "+strconv.FormatUint(tag, 10), some)
}

func (l *life) clearNamespace() {
	l.removal("clearns "+testee.Hex(traits[cleared].namespace), l.of(cleared))
}

func (l *life) clear() { l.removal("clear", append(l.of(pond), l.of(cleared)...)) }

// of returns all keys of a family.
func (l *life) of(f family) (all []*subject) {
	for _, some := range l.keys.by[f] {
		all = append(all, some...)
	}
	return all
}
