package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

var (
	sectionHead = regexp.MustCompile(`(?m)^## (\d+)\. (.*)$`)
	paragraph   = regexp.MustCompile(`(?m)^(?:### |\*\*|\*[A-Z])`)
	title       = regexp.MustCompile(`(?m)^### .*$|\*\*[^*]+\*\*|^(?:- )?\*[^*]+\*`)
	clause      = regexp.MustCompile(`^(\d+) (.*?)(?: (\d+))?$`)
)

// sections are the texts of PROTOCOL.md by section and title. A section's own title has
// all of its text; any other one the text up to the next paragraph that has one.
func sections(t *testing.T) map[string]map[string]string {
	t.Helper()
	raw, err := os.ReadFile("../spec/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(raw), "\n## Appendix")
	all := make(map[string]map[string]string)
	heads := sectionHead.FindAllStringSubmatchIndex(text, -1)
	for i, h := range heads {
		last := len(text)
		if i+1 < len(heads) {
			last = heads[i+1][0]
		}
		body := text[h[1]:last]
		titles := map[string]string{text[h[4]:h[5]]: body}
		for _, f := range title.FindAllStringIndex(body, -1) {
			rest := body[f[1]:]
			if next := paragraph.FindStringIndex(rest); next != nil {
				rest = rest[:next[0]]
			}
			titles[strings.Trim(body[f[0]:f[1]], "#-* .,:")] += rest
		}
		all[text[h[2]:h[3]]] = titles
	}
	return all
}

// A clause is SECTION NAME [STEP]: a section, the title of it or of something in it,
// letter by letter, and the number of a step there. So the report has one row a clause.
func TestClauses_OfEveryCase_StandInTheProtocol(t *testing.T) {
	protocol := sections(t)
	if len(protocol) != 23 {
		t.Fatalf("%d sections", len(protocol))
	}
	for _, s := range suites() {
		cases, err := s.Cases(suite.Options{Vectors: vectorsDir()})
		if err != nil || len(cases) == 0 {
			t.Fatalf("suite %s: %d cases, %v", s.Name, len(cases), err)
		}
		for _, c := range cases {
			for _, name := range c.Clauses {
				m := clause.FindStringSubmatch(name)
				if m == nil {
					t.Errorf("%s/%s: clause %q is not SECTION NAME [STEP]", s.Name, c.Name, name)
					continue
				}
				body, there := protocol[m[1]][m[2]]
				if !there {
					t.Errorf("%s/%s: clause %q: section %s has no title %q", s.Name, c.Name, name, m[1], m[2])
				} else if m[3] != "" && !regexp.MustCompile(`(?m)(?:^| )`+m[3]+`\. `).MatchString(body) {
					t.Errorf("%s/%s: clause %q: there is no step %s", s.Name, c.Name, name, m[3])
				}
			}
		}
	}
}
