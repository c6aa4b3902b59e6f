package main

import (
	"fmt"
	"strings"
	"testing"
)

// first is minor 0 of a layout with reserved bytes behind F and behind G.
func first() Spec {
	return Spec{
		Name:      "x",
		Constants: []Group{{Group: "Numbers", Constants: []Constant{{Name: "One", Value: "1"}}}},
		Structs:   []Struct{{Name: "S", Size: 32, Fields: []Field{{Name: "F", Type: "u32"}, {Name: "G", Type: "u64", Offset: 8}}}},
	}
}

// second is minor 1 of it, with more fields and constants.
func second(constants []Constant, fields ...Field) Spec {
	s := first()
	s.Minor, s.Fingerprint = 1, fmt.Sprintf("%#016x", fingerprint(first()))
	s.Constants[0].Constants = append(s.Constants[0].Constants, constants...)
	s.Structs[0].Fields = fields
	return s
}

func TestMinor_AddsInReservedBytes_SameFingerprint(t *testing.T) {
	s := second([]Constant{{Name: "Two", Value: "2", Since: 1}},
		Field{Name: "F", Type: "u32"}, Field{Name: "New", Type: "u32", Offset: 4, Since: 1, Doc: "added"},
		Field{Name: "G", Type: "u64", Offset: 8}, Field{Name: "Late", Type: "u64", Offset: 24, Since: 1})
	if err := check(described(s)); err != nil {
		t.Error(err)
	}
	if fingerprint(s) != fingerprint(first()) {
		t.Error("minor versions could not share")
	}
	if text := goSource(s) + structTable(s.Structs[0]); strings.Count(text, "added (since minor 1)") != 2 {
		t.Errorf("what was added is not marked:\n%s", text)
	}
}

func TestMinor_MoreThanAnAddition_Refused(t *testing.T) {
	f, g := Field{Name: "F", Type: "u32"}, Field{Name: "G", Type: "u64", Offset: 8}
	const changed = "a minor version changes nothing"
	for name, c := range map[string]struct {
		spec Spec
		want string
	}{
		"over another":        {second(nil, f, Field{Name: "New", Type: "u32", Since: 1}, g), "S.New: offset 0 lies"},
		"into another":        {second(nil, f, Field{Name: "New", Type: "u32", Offset: 4, Count: 2, Since: 1}, g), "S.G: offset 8 lies"},
		"beyond the end":      {second(nil, f, g, Field{Name: "New", Type: "u64", Offset: 32, Since: 1}), "end at 40"},
		"of a later minor":    {second(nil, f, g, Field{Name: "New", Type: "u64", Offset: 16, Since: 2}), "S.New: since minor 2"},
		"constant of a later": {second([]Constant{{Name: "Two", Value: "2", Since: 2}}, f, g), "Two: since minor 2"},
		"another moved":       {second(nil, f, Field{Name: "New", Type: "u64", Offset: 8, Since: 1}, Field{Name: "G", Type: "u64", Offset: 16}), changed},
		"another renamed":     {second(nil, f, Field{Name: "H", Type: "u64", Offset: 8}), changed},
		"another taken away":  {second(nil, f), changed},
		"another called new":  {second(nil, f, Field{Name: "G", Type: "u64", Offset: 8, Since: 1}), changed},
		"without since":       {second(nil, f, g, Field{Name: "New", Type: "u64", Offset: 16}), changed},
		"constant without":    {second([]Constant{{Name: "Two", Value: "2"}}, f, g), changed},
	} {
		if err := check(described(c.spec)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	s := second(nil, f, g)
	s.Fingerprint = ""
	if err := check(described(s)); err == nil {
		t.Error("a minor version that does not say whose it is")
	}
}
