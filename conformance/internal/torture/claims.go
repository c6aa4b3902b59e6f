package torture

import (
	"fmt"
	"slices"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

const lag = moment(slack * time.Millisecond)

// claim is a claim on a key.
type claim struct {
	event
	time    time.Duration // how long it holds at most, from somewhere in the event on
	version uint64        // 0: not answered yet, or never
	ends    moment        // from here on somebody may have ended it, or its owner may be dead
	over    moment        // here it was ended for certain
}

// seize adds a claim that is about to be sent.
func (s *subject) seize(e event, deadline time.Duration) *claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &claim{event: e, time: deadline, ends: never, over: never}
	c.done = never
	if s.enders > 0 {
		c.ends = c.sent
	}
	s.claims = append(s.claims, c)
	return c
}

// drop says that nothing was claimed.
func (s *subject) drop(c *claim) {
	s.claims = slices.DeleteFunc(s.claims, func(x *claim) bool { return x == c })
}

// ending says that something is about to be sent that ends claims on the key: those that
// are there, and those that get there before it.
func (s *subject) ending(at moment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enders++
	for _, c := range s.claims {
		c.ends = min(c.ends, at)
	}
}

// ends has the operation be one that ends claims, if it is done.
func (s *subject) ends(o *op) *op {
	s.ending(o.sent)
	judge, failed := o.judge, o.failed
	o.judge = func(o *op, a testee.Answer) string {
		s.enders--
		wrong := judge(o, a)
		for _, c := range s.claims {
			if c.before(&o.event) {
				c.over = min(c.over, o.done)
			}
		}
		return wrong
	}
	o.failed = func(o *op, name string) {
		s.enders--
		failed(o, name)
	}
	return o
}

// dies says that the life is about to end.
func (s *subject) dies(life uint64, at moment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.claims {
		if c.life == life {
			c.ends = min(c.ends, at)
		}
	}
}

// dead says that the life has ended.
func (s *subject) dead(life uint64, at moment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.claims {
		if c.life == life {
			c.over, c.done = min(c.over, at), min(c.done, at)
		}
	}
}

// granted judges that c was answered with a version: no other may hold all the while.
func (s *subject) granted(c *claim, done moment, version uint64) (wrong string) {
	c.done, c.version = done, version
	for _, other := range s.claims {
		if other == c || other.version == 0 {
			continue
		}
		if other.before(&c.event) && c.done < min(other.ends, other.sent+moment(other.time)-lag) {
			wrong = fmt.Sprintf("claimed twice: version %d, though claim %d of life %d holds", version, other.version, other.life)
		}
		if other.version == version {
			wrong = fmt.Sprintf("claimed twice with version %d", version)
		}
	}
	for _, other := range s.claims { // whoever claims has taken over all others
		if other != c && other.before(&c.event) {
			other.over = min(other.over, c.done)
		}
	}
	return wrong
}

// held judges that r was told that somebody computes the value.
func (s *subject) held(r *event) (wrong string) {
	for _, c := range s.claims {
		late := never
		if c.done != never {
			late = c.done + moment(c.time) + lag
		}
		if c.sent <= r.done && min(c.over, late) >= r.sent {
			return ""
		}
	}
	return "said to be held, though nobody can hold a claim"
}

// filled judges that a value was stored for c by w, or, with w nil, that c was released or
// failed: nothing may have ended it before.
func (s *subject) filled(c *claim, e *event, w *write) (wrong string) {
	for _, other := range s.claims {
		if other.version > c.version && other.before(e) {
			return fmt.Sprintf("claim %d was accepted, though %d had followed it", c.version, other.version)
		}
	}
	for _, other := range s.writes {
		if other != w && other.certain && c.before(&other.event) && other.before(e) {
			return fmt.Sprintf("claim %d was accepted, though number %d was written or removed after it", c.version, other.number)
		}
		if w != nil && other != w && other.version > c.version && other.version < w.version {
			return fmt.Sprintf("claim %d was filled with version %d, though number %d was written with %d in between",
				c.version, w.version, other.number, other.version)
		}
	}
	return ""
}

// lost judges that c was said to be lost: something must have ended it.
func (s *subject) lost(c *claim, e *event, w *write) (wrong string) {
	if c.ends < e.sent {
		return ""
	}
	for _, other := range s.claims {
		if other != c && !other.before(&c.event) {
			return ""
		}
	}
	for _, other := range s.writes {
		if other != w && !other.before(&c.event) {
			return ""
		}
	}
	return fmt.Sprintf("claim %d was said to be lost, though nothing ended it", c.version)
}

// pruneClaims leaves out what is over before low, but the newest: that one tells of all before.
func (s *subject) pruneClaims(low moment) {
	var newest uint64
	for _, c := range s.claims {
		newest = max(newest, c.version)
	}
	s.claims = slices.DeleteFunc(s.claims, func(c *claim) bool { return c.over < low && c.version != newest })
}
