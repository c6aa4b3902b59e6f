package script

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// step is a line of a script.
type step struct {
	line    int
	text    string
	who     int
	how     byte // ~ again until, & send, = answer, ! signal, 0 once
	command []string
	answers [][]string // patterns, of which one has to be met
	rows    [][]string
	hasRows bool
}

var (
	comment = regexp.MustCompile(`(^|  +)#.*$`)
	who     = regexp.MustCompile(`^(M|[0-9]+): *`)
)

// parse reads a script.
func parse(text string) ([]step, error) {
	var steps []step
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(comment.ReplaceAllString(line, ""))
		if line == "" {
			continue
		}
		if row, is := strings.CutPrefix(line, "|"); is {
			if len(steps) == 0 {
				return nil, fmt.Errorf("line %d: a row without a command", n+1)
			}
			last := &steps[len(steps)-1]
			last.hasRows = true
			if patterns := strings.Fields(literal(row)); len(patterns) > 0 {
				last.rows = append(last.rows, patterns)
			}
			continue
		}
		s := step{line: n + 1, text: line}
		if m := who.FindStringSubmatch(line); m != nil {
			line = line[len(m[0]):]
			s.who = maker
			if m[1] != "M" {
				s.who, _ = strconv.Atoi(m[1])
			}
		}
		if strings.ContainsRune("~&=!", rune(line[0])) {
			s.how, line = line[0], strings.TrimSpace(line[1:])
		}
		command, answer, has := strings.Cut(literal(line), "->")
		if !has {
			answer = "ok *"
		}
		s.command = strings.Fields(command)
		for _, a := range strings.Split(answer, " / ") {
			s.answers = append(s.answers, strings.Fields(a))
		}
		if len(s.answers[0]) == 0 || len(s.command) == 0 && s.how != '=' {
			return nil, fmt.Errorf("line %d: %q: half of it is missing", n+1, s.text)
		}
		steps = append(steps, s)
	}
	return steps, nil
}

const maker = suite.Maker

// script is a script while it is run.
type script struct {
	*suite.T
	vars
	sent map[int][]*testee.Call
}

// Run runs a script. Names may be given that it takes for met.
func Run(t *suite.T, text string, met map[string]string) {
	steps, err := parse(text)
	if err != nil {
		t.Fatalf("the script: %v", err)
	}
	s := &script{T: t, vars: vars{"dir": t.Dir()}, sent: make(map[int][]*testee.Call)}
	maps.Copy(s.vars, met)
	for i := range steps {
		if err := s.step(&steps[i]); err != nil {
			t.Fatalf("line %d: %s: %v", steps[i].line, steps[i].text, err)
		}
	}
}

// Case returns a case that is a script.
func Case(name string, level suite.Level, clauses, text string) suite.Case {
	return suite.Case{
		Name: name, Level: level, Clauses: strings.Split(clauses, "; "),
		Run: func(t *suite.T) { Run(t, text, nil) },
	}
}

func (s *script) step(st *step) error {
	if st.how == '!' {
		return s.signal(st.command)
	}
	words := make([]string, len(st.command))
	for i, w := range st.command {
		var err error
		if words[i], err = s.value(w); err != nil {
			return err
		}
	}
	switch st.how {
	case '&':
		s.sent[st.who] = append(s.sent[st.who], s.Send(st.who, words...))
		return nil
	case '=':
		waiting := s.sent[st.who]
		if len(waiting) == 0 {
			return errors.New("nothing was sent")
		}
		s.sent[st.who] = waiting[1:]
		return s.compare(st, s.wait(st, waiting[0]))
	case '~':
		for end := time.Now().Add(s.Options.Patience); ; time.Sleep(5 * time.Millisecond) {
			err := s.compare(st, s.wait(st, s.Send(st.who, words...)))
			if err == nil || time.Now().After(end) {
				return err
			}
		}
	}
	return s.compare(st, s.wait(st, s.Send(st.who, words...)))
}

// wait waits for an answer; that something is not offered may be what is expected.
func (s *script) wait(st *step, c *testee.Call) testee.Answer {
	for _, a := range st.answers {
		if a[0] == "unsupported" {
			return s.Wait(c)
		}
	}
	return s.Answer(c)
}

// compare compares an answer, and its rows if the script says some.
func (s *script) compare(st *step, a testee.Answer) (err error) {
	before := maps.Clone(s.vars)
	for _, patterns := range st.answers {
		if err = s.compareWith(st, patterns, a); err == nil {
			return nil
		}
		s.vars = maps.Clone(before)
	}
	return fmt.Errorf("%v: %w", a, err)
}

func (s *script) compareWith(st *step, patterns []string, a testee.Answer) error {
	if err := s.match(patterns, a.Fields()); err != nil {
		return err
	}
	if !st.hasRows {
		return nil
	}
	rows := st.rows
	rest := len(rows) > 0 && rows[len(rows)-1][0] == "*"
	if rest {
		rows = rows[:len(rows)-1]
	}
	if len(a.Rows) < len(rows) || len(a.Rows) > len(rows) && !rest {
		return fmt.Errorf("%d rows, not %d", len(a.Rows), len(rows))
	}
	for i := range rows {
		if err := s.match(rows[i], strings.Split(a.Rows[i], " ")); err != nil {
			return fmt.Errorf("row %d: %w", i+1, err)
		}
	}
	return nil
}

// signal does to a testee what no command can.
func (s *script) signal(words []string) error {
	i := 0
	if len(words) > 1 {
		var err error
		if i, err = strconv.Atoi(words[1]); err != nil {
			return err
		}
	}
	switch p := s.Testee(i); words[0] {
	case "kill":
		return p.Kill()
	case "gone": // by itself
		select {
		case <-p.Gone():
			return nil
		case <-time.After(s.Options.Patience):
			return errors.New("it lives on")
		}
	case "stop":
		return p.Stop()
	case "continue":
		return p.Continue()
	case "end":
		return p.End()
	case "restart":
		s.Restart(i)
		return nil
	}
	return fmt.Errorf("there is no %q", words[0])
}
