package vectors

import (
	"fmt"
	"strings"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// Suite is the suite of the images in Options.Vectors.
func Suite() suite.Suite {
	return suite.Suite{Name: "vectors", About: "images of domains, and what is to be answered about them", Alone: true, Cases: cases}
}

func cases(o suite.Options) (all []suite.Case, err error) {
	vectors, err := Read(o.Vectors)
	if err != nil {
		return nil, err
	}
	for _, v := range vectors {
		for _, s := range v.Scripts {
			name := v.Name
			if len(v.Scripts) > 1 {
				name += "-" + s.Level.String()
			}
			all = append(all, suite.Case{Name: name, Level: s.Level, Clauses: v.Clauses, Run: func(t *suite.T) { play(t, v, s) }})
		}
	}
	return all, nil
}

// domain is the name of the domain that an image is placed as.
const domain = "vector"

// play places the image and compares every answer.
func play(t *suite.T, v *Vector, s Script) {
	if err := v.Place(t.Dir(), domain); err != nil {
		t.Fatalf("%v", err)
	}
	for _, step := range s.Steps {
		words := strings.Fields(strings.NewReplacer(" DIR", " "+t.Dir(), " NAME", " "+domain).Replace(step.Command))
		got := Lines(words[0], t.Answer(t.Testee(0).Send(words...)))
		if why := Differ(step.Want, got); why != "" {
			t.Errorf("%s: %s\n%s", step.Command, why, strings.Join(got, "\n"))
			if words[0] == "open" {
				return // whatever follows says the same
			}
		}
	}
	if err := t.Testee(0).End(); err != nil {
		t.Errorf("%v", err)
	}
}

// Differ says in what an answer differs from the one that is wanted, or "".
func Differ(want, got []string) string {
	if len(want) == 0 {
		return "the vector has no answer to it"
	}
	if want[0] == "ok +" {
		if len(got) < 2 {
			return "rows are wanted"
		}
		return ""
	}
	for _, one := range strings.Split(want[0], " | ") {
		if alike(one, got[0]) {
			return rows(want[1:], got[1:])
		}
	}
	return fmt.Sprintf("%q is wanted, %q came", want[0], got[0])
}

func rows(want, got []string) string {
	if len(want) != len(got) {
		return fmt.Sprintf("%d rows are wanted, %d came", len(want), len(got))
	}
	for i := range want {
		if !alike(want[i], got[i]) {
			return fmt.Sprintf("row %d: %q is wanted, %q came", i+1, want[i], got[i])
		}
	}
	return ""
}

// alike compares word by word; "*" is any word.
func alike(want, got string) bool {
	w, g := strings.Fields(want), strings.Fields(got)
	if len(w) != len(g) {
		return false
	}
	for i := range w {
		if w[i] != "*" && w[i] != g[i] {
			return false
		}
	}
	return true
}

// rowed are the commands whose answers have rows.
var rowed = map[string]bool{"list": true, "batch": true, "scan": true, "peers": true, "entries": true, "stat": true, "dump": true, "check": true}

// Lines returns an answer as it is compared: of an error the name only.
func Lines(command string, a testee.Answer) []string {
	switch a.Kind {
	case testee.OK:
		words := append([]string{"ok"}, a.Words...)
		if rowed[command] {
			words = append(words, fmt.Sprint(len(a.Rows)))
		}
		return append([]string{strings.Join(words, " ")}, a.Rows...)
	case testee.No:
		return []string{"no"}
	case testee.Err:
		return []string{"err " + a.Name}
	}
	return []string{"unsupported"}
}
