package torture

import (
	"fmt"
	"math"
	"slices"
)

// A register judges lookups of a key by the writes of it. Of each write is known
// between which two moments it has happened; two writes, or a write and a lookup, whose
// spans overlap may have come in either order. So what is called wrong here is wrong
// in every order that is possible.

// write is a write of a key, or the removal of it.
type write struct {
	event
	number  uint64
	absent  bool   // afterwards there is nothing
	certain bool   // it has happened: it was acknowledged, or seen
	version uint64 // 0: not known
	ttl     int64  // milliseconds; 0: it does not expire
	touched int64  // wall time: it may expire from then on, or may not expire any more; 0: it was not
}

// expires returns between which wall times w expires, if it does.
func (w *write) expires() (from, to int64, ever bool) {
	from, to = w.sent.wall()+w.ttl, math.MaxInt64/2
	if w.touched != 0 {
		from = min(from, w.touched)
	} else if w.done != never {
		to = w.done.wall() + w.ttl
	}
	return from, to, w.ttl != 0
}

// touch says that the expiry is about to be changed.
func (s *subject) touch(expiry int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.writes {
		if w.touched == 0 || expiry < w.touched {
			w.touched = expiry
		}
	}
}

// slack is how far clocks may be behind, in milliseconds.
const slack = 500

// begin adds a write that is about to be sent.
func (s *subject) begin(e event, absent bool, ttl int64) *write {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number++
	w := &write{event: e, number: s.number, absent: absent, ttl: ttl}
	w.done = never
	s.writes = append(s.writes, w)
	return w
}

// acknowledge says that a write has happened before the moment.
func (s *subject) acknowledge(w *write, done moment, version uint64) {
	w.certain, w.done = true, min(w.done, done)
	if version != 0 {
		w.version = version
	}
}

// forget says that a write has not happened.
func (s *subject) forget(w *write) {
	s.writes = slices.DeleteFunc(s.writes, func(x *write) bool { return x == w })
}

// prune leaves out what no lookup can tell of any more that begins from low on.
func (s *subject) prune(low moment) {
	if len(s.writes) < s.pruneFrom || traits[s.family].ages {
		return
	}
	r := &event{sent: low, done: low}
	s.writes = slices.DeleteFunc(slices.Clone(s.writes), func(w *write) bool { return w.done != never && s.superseded(w, r) })
	s.pruneFrom = max(16, 2*len(s.writes))
}

// ordered reports whether a came before b for certain.
func (s *subject) ordered(a, b *write) bool {
	if a.version != 0 && b.version != 0 && !traits[s.family].ages && traits[s.family].namespace == "" {
		return a.version < b.version
	}
	return a.before(&b.event)
}

// superseded reports whether w was not the last write any more when r began: one that
// followed it was over.
func (s *subject) superseded(w *write, r *event) bool {
	return slices.ContainsFunc(s.writes, func(later *write) bool {
		return later != w && later.certain && s.ordered(w, later) && later.before(r)
	})
}

// current reports whether w can be the last write before r.
func (s *subject) current(w *write, r *event) bool {
	return !r.before(&w.event) && !s.superseded(w, r)
}

// found judges that r found the value with that version; 0 is one that was not told.
func (s *subject) found(r *event, b []byte, version uint64) (v value, wrong string) {
	if v, wrong = parse(b); wrong != "" {
		return v, wrong
	}
	if v.id != s.id {
		return v, fmt.Sprintf("another key's: number %d of key %d, this is key %d", v.number, v.id, s.id)
	}
	i := slices.IndexFunc(s.writes, func(w *write) bool { return w.number == v.number && !w.absent })
	if i < 0 {
		if v.number < s.number {
			return v, fmt.Sprintf("older: number %d, which was superseded, or said not to have happened; the last begun is %d", v.number, s.number)
		}
		return v, fmt.Sprintf("never written: number %d, the last begun is %d", v.number, s.number)
	}
	w := s.writes[i]
	_, expired, expires := w.expires()
	switch {
	case r.before(&w.event):
		return v, fmt.Sprintf("number %d, which the same process was to write later", v.number)
	case !traits[s.family].ages && !s.current(w, r):
		return v, fmt.Sprintf("older: number %d, though a later write or removal was acknowledged or seen before", v.number)
	case expires && expired+slack < r.sent.wall():
		return v, fmt.Sprintf("expired: number %d, for %d ms", v.number, r.sent.wall()-expired)
	case version != 0 && w.version != 0 && version != w.version && !traits[s.family].ages:
		return v, fmt.Sprintf("number %d has version %d, it was written with %d", v.number, version, w.version)
	}
	s.acknowledge(w, r.done, version)
	return v, ""
}

// missing judges that r found nothing.
func (s *subject) missing(r *event) (wrong string) {
	if traits[s.family].vanishes {
		return ""
	}
	var can []*write
	for _, w := range s.writes {
		from, _, expires := w.expires()
		if (w.absent || expires && from-slack <= r.done.wall()) && s.current(w, r) {
			can = append(can, w)
		}
	}
	switch {
	case len(can) == 0:
		return "missing: what was written last was not removed"
	case len(can) == 1 && can[0].absent:
		s.acknowledge(can[0], r.done, 0)
	}
	return ""
}

// present judges that r found something, whatever it was.
func (s *subject) present(r *event) (wrong string) {
	for _, w := range s.writes {
		if !w.absent && s.current(w, r) {
			return ""
		}
	}
	return "said to be there: what was written last was removed"
}
