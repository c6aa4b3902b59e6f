package torture

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// slot is a place in the run that one process after the other takes.
type slot struct {
	*crew
	n       int
	program testee.Program
	random  *rand.Rand
	crashes bool  // its testee knows crashafter
	left    []*op // writes that the last life in the primary slab has left unanswered

	lifes  atomic.Uint64 // id of the one that lives, 0 if none does
	dying  atomic.Uint64 // id of the one that is about to die
	dooms  atomic.Bool   // it is to crash with its next burst
	mu     sync.Mutex    // of what follows: taken by who kills and stops
	peer   peer
	killed bool
	stop   int // its stop among the crew's that is not over, -1 if none
}

// burst is how many commands are sent at once.
const burst = 64

// run starts processes one after the other until the time is over, and leaves one.
func (s *slot) run() error {
	for {
		l, err := s.begin()
		if err != nil {
			return err
		}
		if s.live(l) {
			return nil
		}
		if s.crew.broken() {
			return nil
		}
	}
}

// begin starts a process.
func (s *slot) begin() (*life, error) {
	p, err := s.start(s.program)
	if err != nil {
		return nil, err
	}
	l := &life{slot: s, id: s.nextLife.Add(1), random: s.random, claims: map[*claim]*subject{}}
	if !s.crew.over() {
		l.place = []place{primary, primary, primary, primary, primary, primary, ponds, ponds, west, east}[s.random.IntN(10)]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peer, s.killed, s.stop = p, false, -1
	s.dooms.Store(false)
	s.lifes.Store(l.id)
	s.crew.processes.Add(1)
	return l, nil
}

// live has a process work until it ends, or the time is over: then it lives on.
func (s *slot) live(l *life) bool {
	l.sent = now()
	l.burst = nil
	l.tell(s.crew.open(l.place, fmt.Sprintf("wake=%s steward=%d promote=%d", []string{"poll", "futex", "signal"}[s.random.IntN(3)], s.random.IntN(2), min(1, s.random.IntN(4)))))
	if !s.do(l) {
		return false
	}
	if l.place == primary && len(s.left) > 0 && !s.postMortem(l) {
		return false
	}
	for !s.crew.over() || l.doomed {
		if s.crew.broken() {
			return true
		}
		s.marks[s.n].Store(int64(now()))
		l.sent = now()
		l.fill(1 + s.random.IntN(2*burst))
		if !l.doomed && s.dooms.Load() {
			l.doom()
		}
		if !s.do(l) {
			return false
		}
	}
	s.marks[s.n].Store(int64(never))
	l.sent = now()
	l.fill(0) // gives back a mutex that others wait for
	if len(l.burst) > 0 && !s.do(l) {
		return false
	}
	<-s.calm // it may have been killed at the last moment
	l.sent, l.burst = now(), nil
	l.tell("steward")
	return s.do(l)
}

// doom has the process kill itself: with a column's lock, or after so many stores.
func (l *life) doom() {
	l.doomed = true
	l.crew.dies(l.slot, l.id, l.sent)
	l.crew.crashes.Add(1)
	if l.crashes && l.random.IntN(2) == 0 {
		n := 1 + l.random.IntN(300)
		l.burst = slices.Insert(l.burst, 0, &op{event: event{life: l.id, sent: l.sent, done: never}, line: "crashafter " + itoa(int64(n)), doomed: true})
		return
	}
	l.grip(l.any(l.family(false)))
	l.add(&op{event: l.event(), line: "crash", doomed: true})
}

// do sends a burst, and judges the answers as they come. It reports whether the process
// has outlived it.
func (s *slot) do(l *life) bool {
	o := l.burst
	calls := s.peer.SendAll(l.lines())
	last, held := l.sent, s.pace.held()
	for i, c := range calls {
		a, err := c.Wait()
		o[i].done = now()
		if err != nil {
			s.ended(l, o[i:], err)
			return false
		}
		s.answered(l, o[i], a)
		still := s.pace.held()
		s.crew.waited(l, o[i], last, still-held)
		last, held = o[i].done, still
	}
	return true
}

// answered judges an answer.
func (s *slot) answered(l *life, o *op, a testee.Answer) {
	s.crew.count(o.name(), a)
	if o.doomed && a.Kind == testee.Unsupported {
		l.doomed, s.crashes = false, false
	}
	if wrong := o.take(a); wrong != "" {
		s.crew.violation(l, o, wrong, a)
	}
	if o.on != nil {
		o.on.mu.Lock()
		o.on.notes.add(note{slot: s.n, program: s.program.Name, life: l.id, op: o, answer: a})
		o.on.mu.Unlock()
	}
}

// ended settles what a process has left unanswered.
func (s *slot) ended(l *life, o []*op, why error) {
	s.mu.Lock()
	expected := s.killed || l.doomed
	_ = s.peer.Kill() // waits for its end
	s.crew.endStop(s)
	s.lifes.Store(0)
	said := strings.TrimSpace(s.peer.Stderr())
	s.peer.Close()
	s.mu.Unlock()
	at := now()
	s.crew.dies(s, l.id, at)
	s.crew.dead(l.id, at)
	if !expected {
		s.crew.violation(l, o[0], fmt.Sprintf("the process ended by itself: %v; it said: %s", why, testee.Short(said)))
	}
	for _, o := range o {
		o.done = at
		o.lose()
		if o.on != nil {
			o.on.mu.Lock()
			o.on.notes.add(note{slot: s.n, program: s.program.Name, life: l.id, op: o, lost: true})
			o.on.mu.Unlock()
		}
	}
	if l.place == primary {
		s.keep(l, o, at)
	}
	s.marks[s.n].Store(int64(never))
}
