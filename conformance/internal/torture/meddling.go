package torture

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// meddles is how what changes the slabs themselves may fail, others doing so too.
const meddles = "full retired notfound state options noentry nospace noslab slabexists toolarge valuetoolong keytoolong missing unattached"

// plain returns a task that is a command without words, whose answer says nothing.
func plain(name string) func(*life) {
	return func(l *life) { l.add(&op{event: l.event(), line: name, allows: meddles}) }
}

func (l *life) tell(line string) { l.add(&op{event: l.event(), line: line, allows: meddles}) }

// hold takes a column's lock, looks around, and gives it back.
func (l *life) hold() {
	s := l.any(l.family(false))
	l.grip(s)
	l.add(&op{event: l.event(), line: "drop", allows: "notheld"}) // hold may have failed
}

// grip takes the lock of a key's column, and looks keys up.
func (l *life) grip(s *subject) {
	l.add(&op{event: l.event(), line: "hold " + s.word, on: s})
	for range l.random.IntN(4) {
		l.read()
	}
}

// mutexes are numbers above those of the directory's entries.
const (
	firstMutex = 100
	mutexes    = 3
)

// lock takes a mutex of the table until the next burst.
func (l *life) lock() {
	if l.mutex != 0 {
		return
	}
	id := firstMutex + l.random.IntN(mutexes)
	l.mutex = id
	l.add(&op{event: l.event(), line: "lock " + strconv.Itoa(id), judge: func(o *op, a testee.Answer) (wrong string) {
		wrong = l.crew.mutexes.locked(id, l.id, &l.dying)
		l.later(func() {
			l.crew.mutexes.unlocked(id, l.id)
			l.add(&op{event: l.event(), line: "unlock " + strconv.Itoa(id), judge: func(*op, testee.Answer) string {
				l.mutex = 0
				return ""
			}})
		})
		return wrong
	}, failed: func(*op, string) { l.mutex = 0 }})
}

// tiers looks at the slabs of the handle's stack, and adds one, or drains or ages one.
func (l *life) tiers() {
	const most = 4
	l.add(&op{event: l.event(), line: "entries", judge: func(o *op, a testee.Answer) (wrong string) {
		tiers := tiersOf(placeNames[l.place], a.Rows)
		if tiers == nil {
			return "no slab " + placeNames[l.place] + " among the entries: " + a.String()
		}
		l.later(func() {
			other := func() string { return tiers[l.random.IntN(len(tiers))] }
			switch r := l.random.IntN(3); {
			case r == 0 && len(tiers) < most:
				l.tell("grow - 1048576")
			case r == 1 && len(tiers) > 1:
				l.tell("drain " + tiers[1+l.random.IntN(len(tiers)-1)])
			case len(tiers) > 1 && l.domain > 0:
				cutoff := l.domain - min(l.domain, uint64(l.random.IntN(1000)))
				l.tell(fmt.Sprintf("age %s %s %d %d", other(), other(), cutoff, l.random.IntN(500)))
			}
		})
		return ""
	}})
}

// tiersOf returns the numbers of the tiers of the stack with that name, tier 0 first.
func tiersOf(name string, rows []string) (tiers []string) {
	var stack string
	for _, row := range rows {
		if w := strings.Split(row, " "); len(w) == 7 && w[6] == testee.Hex(name) && w[3] == w[4] {
			stack, tiers = w[4], []string{w[2]}
		}
	}
	for _, row := range rows {
		if w := strings.Split(row, " "); len(w) == 7 && w[4] == stack && w[3] != stack && (w[0] == "open" || w[0] == "active" || w[0] == "draining") {
			tiers = append(tiers, w[2])
		}
	}
	return tiers
}

// move moves nomads on.
func (l *life) move() {
	l.tell(join("move", testee.Hex(placeNames[west]), testee.Hex(placeNames[east]), strconv.Itoa(1+l.random.IntN(200))))
}

func (l *life) lead() {
	l.tell([]string{"lead", "resign"}[l.random.IntN(2)])
}

// pool makes an independent slab, or retires it.
func (l *life) pool() {
	name := testee.Hex("pool" + strconv.Itoa(l.random.IntN(2)))
	if l.random.IntN(2) == 0 {
		l.tell("slab " + name + " 1048576")
	} else {
		l.tell("retire " + name)
	}
}

func (l *life) now() {
	l.add(&op{event: l.event(), line: "now", judge: func(o *op, a testee.Answer) (wrong string) {
		w, wrong := words(a, 2)
		if wrong != "" {
			return wrong
		}
		domain, err := testee.Number(w[1])
		if err != nil {
			return err.Error()
		}
		if domain < l.domain {
			return fmt.Sprintf("domain time went back from %d to %d", l.domain, domain)
		}
		l.domain = domain
		return ""
	}})
}

func (l *life) evict() {
	if l.domain > 0 {
		l.tell(fmt.Sprintf("evict %d %d", l.domain-min(l.domain, uint64(l.random.IntN(1000))), l.random.IntN(100)))
	}
}

func (l *life) evictNear() {
	l.tell(join("evictnear", l.any(pond).word, strconv.Itoa(1+l.random.IntN(4))))
}

func (l *life) ring() {
	l.tell("flags " + strconv.Itoa(l.random.IntN(8)))
	l.add(&op{event: l.event(), line: fmt.Sprintf("ring %d %d", l.random.IntN(8), l.random.IntN(8)), allows: "state options notfound noregion"})
}

func (l *life) rebuild() { l.tell("rebuild") }
func (l *life) dump()    { l.tell("dump") }

// check has the testee compare what there is with itself.
func (l *life) check() {
	l.add(&op{event: l.event(), line: "check", allows: meddles, judge: func(o *op, a testee.Answer) (wrong string) {
		if len(a.Rows) > 0 {
			return "not sound: " + a.String()
		}
		return ""
	}})
}
