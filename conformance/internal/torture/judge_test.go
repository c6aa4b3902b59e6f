package torture

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Whatever byte of a value changes, and wherever it is cut or goes on, it is torn.
func TestParse_DamagedValue_Torn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.Uint64()
		v := value{word.Draw(t, "id"), word.Draw(t, "number"), word.Draw(t, "writer"), word.Draw(t, "before")}
		b := v.bytes()
		if got, wrong := parse(b); wrong != "" || got != v {
			t.Fatalf("%v is %v, %s", v, got, wrong)
		}
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		switch rapid.IntRange(0, 2).Draw(t, "damage") {
		case 0:
			b[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		case 1:
			b = b[:at]
		case 2:
			b = append(b, byte(at))
		}
		if _, wrong := parse(b); !strings.HasPrefix(wrong, "torn") {
			t.Fatalf("damaged at %d of %d: %q", at, len(b), wrong)
		}
	})
}

// What a register finds wrong is impossible: if lookups are answered by a sequence of
// the writes that fits their spans, nothing is wrong.
func TestRegister_PossibleOrder_NothingWrong(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSubject(own, 0, 0, 1)
		var there *write // what is there now
		var version uint64
		span := func(at moment) (from, to moment) { // around an instant
			return at - moment(rapid.IntRange(0, 30).Draw(t, "before")), at + moment(rapid.IntRange(0, 30).Draw(t, "after"))
		}
		for i := range 60 {
			at := moment(100 + 10*i)
			from, to := span(at)
			e := event{life: uint64(1000 + i), sent: from, done: to}
			if rapid.Bool().Draw(t, "write") {
				w := s.begin(e, rapid.IntRange(0, 3).Draw(t, "absent") == 0, 0)
				there = w
				version++
				w.version = version
				if rapid.IntRange(0, 3).Draw(t, "killed") == 0 {
					w.version = 0
					w.done = to
				} else {
					s.acknowledge(w, to, version)
				}
				s.prune(100 + 10*moment(i) - 40)
				continue
			}
			var wrong string
			if there == nil || there.absent {
				wrong = s.missing(&e)
			} else {
				_, wrong = s.found(&e, value{id: s.id, number: there.number}.bytes(), 0)
			}
			if wrong != "" {
				t.Fatalf("lookup %d: %s", i, wrong)
			}
		}
	})
}

// writes are begun and acknowledged one after the other, at 10, 20, ...
func register(f family, absent ...bool) *subject {
	s := newSubject(f, 0, 0, 1)
	for i, a := range absent {
		at := moment(10 * (i + 1))
		w := s.begin(event{life: 1, seq: uint64(i + 1), sent: at}, a, 0)
		s.acknowledge(w, at+5, 0)
	}
	return s
}

func TestRegister_Lookup_Judged(t *testing.T) {
	value := func(number uint64) []byte { return value{id: 1, number: number}.bytes() }
	for _, c := range []struct {
		name  string
		of    *subject
		at    event
		found []byte
		wrong string
	}{
		{"the last one", register(own, false, false), event{sent: 30, done: 31}, value(2), ""},
		{"one before it", register(own, false, false), event{sent: 30, done: 31}, value(1), "older"},
		{"one before it, begun before the last was over", register(own, false, false), event{sent: 24, done: 31}, value(1), ""},
		{"one before it, by the writer", register(own, false, false), event{life: 1, seq: 3, sent: 5, done: 31}, value(1), "older"},
		{"one to come, by the writer", register(own, false, false), event{life: 1, seq: 1, sent: 5, done: 31}, value(2), "number 2, which"},
		{"what was deleted", register(own, false, true), event{sent: 30, done: 31}, value(1), "older"},
		{"one never written", register(own, false), event{sent: 30, done: 31}, value(7), "never written"},
		{"nothing", register(own, false), event{sent: 30, done: 31}, nil, "missing"},
		{"nothing, deleted", register(own, false, true), event{sent: 30, done: 31}, nil, ""},
		{"nothing, set again", register(own, false, true, false), event{sent: 40, done: 41}, nil, "missing"},
		{"nothing where others evict", register(pond, false), event{sent: 30, done: 31}, nil, ""},
		{"an older one where others evict", register(pond, false, false), event{sent: 30, done: 31}, value(1), "older"},
	} {
		var wrong string
		if c.found == nil {
			wrong = c.of.missing(&c.at)
		} else {
			_, wrong = c.of.found(&c.at, c.found, 0)
		}
		if wrong != c.wrong && (c.wrong == "" || !strings.HasPrefix(wrong, c.wrong)) {
			t.Errorf("%s: %q, want %q", c.name, wrong, c.wrong)
		}
	}
}

// A write that was not acknowledged may have happened or not, but not come and go.
func TestRegister_Unacknowledged_SeenOnceIsThere(t *testing.T) {
	s := register(own, false)
	w := s.begin(event{life: 2, seq: 1, sent: 20}, false, 0)
	w.done = 25 // its process has ended
	second := value{id: 1, number: 2}.bytes()
	for _, e := range []event{{sent: 30, done: 31}, {sent: 40, done: 41}} {
		if _, wrong := s.found(&e, value{id: 1, number: 1}.bytes(), 0); wrong != "" {
			t.Errorf("the one before: %s", wrong)
		}
	}
	if _, wrong := s.found(&event{sent: 50, done: 51}, second, 0); wrong != "" {
		t.Errorf("seen late: %s", wrong)
	}
	if _, wrong := s.found(&event{sent: 60, done: 61}, value{id: 1, number: 1}.bytes(), 0); !strings.HasPrefix(wrong, "older") {
		t.Errorf("the one before, afterwards: %q", wrong)
	}
}

// Of the commands that a process leaves, those up to one have happened and no others.
func TestPrefix_LeftCommands_JudgedAsAWhole(t *testing.T) {
	a, b := newSubject(own, 0, 0, 1), newSubject(own, 0, 1, 2)
	left := []*op{
		{line: "set a", on: a, number: 1, write: &write{number: 1}},
		{line: "set b", on: b, number: 1, write: &write{number: 1}},
		{line: "del a", on: a, number: 2, write: &write{number: 2, absent: true}},
		{line: "set b", on: b, number: 2, write: &write{number: 2}},
	}
	type saw struct {
		found   bool
		number  uint64
		removed bool // before what was left
	}
	for _, c := range []struct {
		name  string
		a, b  saw
		wrong bool
	}{
		{"none", saw{false, 0, true}, saw{false, 0, true}, false},
		{"all", saw{false, 0, true}, saw{true, 2, false}, false},
		{"the first", saw{true, 1, true}, saw{false, 0, true}, false},
		{"the second without the first", saw{true, 9, false}, saw{true, 1, false}, true},
		{"the last without the third", saw{true, 1, false}, saw{true, 2, false}, true},
		{"the third without the second", saw{false, 0, false}, saw{true, 9, false}, true},
	} {
		p := prefix{left: left, most: len(left)}
		wrong := p.look(a, c.a.found, c.a.number, c.a.removed) + p.look(b, c.b.found, c.b.number, c.b.removed)
		if (wrong != "") != c.wrong {
			t.Errorf("%s: %q", c.name, wrong)
		}
	}
}
