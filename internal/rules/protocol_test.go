package rules

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const protocol = "spec/PROTOCOL.md"

// generated are the tables and dumps of the protocol, which other tests compare with
// what they are made from.
var generated = regexp.MustCompile(`(?s)<!-- (layout|dump):.*?<!-- /(layout|dump) -->`)

func TestProtocol_EveryFieldAndConstant_InTheText(t *testing.T) {
	var layout struct {
		Constants []struct{ Constants []struct{ Name string } }
		Structs   []struct {
			Name   string
			Fields []struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(page(t, "spec/layout.json")), &layout); err != nil {
		t.Fatal(err)
	}
	words := map[string]bool{}
	for _, w := range regexp.MustCompile(`\w+`).FindAllString(generated.ReplaceAllString(page(t, protocol), ""), -1) {
		words[w] = true
	}
	names := 0
	look := func(name, what string) {
		if names++; !words[name] {
			t.Errorf("%s: %s is in no sentence: what it is for has to be said, or it is not needed", protocol, what)
		}
	}
	for _, g := range layout.Constants {
		for _, c := range g.Constants {
			look(c.Name, c.Name)
		}
	}
	for _, s := range layout.Structs {
		for _, f := range s.Fields {
			look(f.Name, s.Name+"."+f.Name)
		}
	}
	if names < 200 {
		t.Errorf("only %d names: is this the whole layout?", names)
	}
}

// A BREAK_ without a model's name is the last one's named in the section. All that the
// models have is named, too: what a rule is for is said where it is.
func TestProtocol_Models_NamedAsTheyAre(t *testing.T) {
	named := map[string]bool{}
	for _, section := range strings.Split(page(t, protocol)+page(t, "spec/RATIONALE.md"), "\n## ") {
		model := "no model"
		for _, m := range regexp.MustCompile(`(\w+)\.pml|BREAK_\w+`).FindAllStringSubmatch(section, -1) {
			if m[1] != "" {
				model = m[1]
			} else {
				named[model+" "+m[0]] = true
			}
		}
	}
	models, err := filepath.Glob("../../spec/model/*.pml")
	if err != nil || len(models) == 0 {
		t.Fatalf("no models: %v", err)
	}
	there := map[string]bool{}
	for _, file := range models {
		name := strings.TrimSuffix(filepath.Base(file), ".pml")
		for _, rule := range regexp.MustCompile(`BREAK_\w+`).FindAllString(page(t, "spec/model/"+name+".pml"), -1) {
			there[name+" "+rule] = true
		}
	}
	for n := range named {
		if !there[n] {
			t.Errorf("%s names %s, which is in no model", protocol, n)
		}
	}
	for n := range there {
		if !named[n] {
			t.Errorf("%s is not named by %s", n, protocol)
		}
	}
}

func TestProtocol_Contents_AreTheHeadings(t *testing.T) {
	followLinks(t, protocol)
	followLinks(t, "spec/RATIONALE.md")
	text := page(t, protocol)
	var want, have []string
	for _, m := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(text, -1) {
		want = append(want, m[1])
	}
	_, contents, _ := strings.Cut(text, "## Contents\n\n")
	contents, _, _ = strings.Cut(contents, "\n\n")
	for _, m := range regexp.MustCompile(`(?m)^- \[([^\]]*)\]`).FindAllStringSubmatch(contents, -1) {
		have = append(have, m[1])
	}
	if want = slices.DeleteFunc(want, func(h string) bool { return h == "Contents" }); !slices.Equal(have, want) {
		t.Errorf("contents %q, headings %q", have, want)
	}
}
