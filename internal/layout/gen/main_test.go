package main

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../../../"

func TestGenerate_CommittedFiles_UpToDate(t *testing.T) {
	dir := t.TempDir()
	protocol := filepath.Join(dir, "PROTOCOL.md")
	committed, err := os.ReadFile(root + "spec/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(protocol, committed, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(root+"spec/layout.json", protocol, dir, filepath.Join(dir, "layout.h")); err != nil {
		t.Fatal(err)
	}
	for made, want := range map[string]string{
		"layout.go": "../layout.go", "layout_unsafe.go": "../layout_unsafe.go", "fields.go": "../fields.go", "layout.h": root + "clients/c/src/layout.h", "PROTOCOL.md": root + "spec/PROTOCOL.md",
	} {
		a, err1 := os.ReadFile(filepath.Join(dir, made))
		b, err2 := os.ReadFile(want)
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs from what layout.json says: go generate ./internal/layout (%v, %v)", want, err1, err2)
		}
	}
}

func TestCheck_BadLayouts_Refused(t *testing.T) {
	u64 := func(name string, off uint64) Field { return Field{Name: name, Type: "u64", Offset: off} }
	for want, s := range map[string]Struct{
		"unknown type":        {Name: "S", Size: 8, Fields: []Field{{Name: "F", Type: "u16"}}},
		"not a multiple of 8": {Name: "S", Size: 16, Fields: []Field{u64("F", 4)}},
		"not a multiple of 4": {Name: "S", Size: 16, Fields: []Field{{Name: "F", Type: "u32", Offset: 2}}},
		"S.G: offset 0 lies":  {Name: "S", Size: 16, Fields: []Field{u64("F", 0), u64("G", 0)}},
		"S.G: offset 8 lies":  {Name: "S", Size: 32, Fields: []Field{{Name: "F", Type: "u64", Count: 2}, u64("G", 8)}},
		"S.H: offset 0 lies":  {Name: "S", Size: 32, Fields: []Field{u64("F", 0), u64("G", 8), u64("H", 0)}},
		"end at 16":           {Name: "S", Size: 8, Fields: []Field{u64("F", 8)}},
		"size 12":             {Name: "S", Size: 12, Fields: []Field{u64("F", 0)}},
	} {
		if err := check(described(Spec{Structs: []Struct{s}})); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	good := Struct{Name: "S", Size: 16, Fields: []Field{{Name: "F", Type: "u32"}, {Name: "G", Type: "u32", Offset: 4}, u64("H", 8)}}
	if err := check(described(Spec{Structs: []Struct{good}})); err != nil {
		t.Error(err)
	}
}

// described gives every field the words that a field has to have.
func described(s Spec) Spec {
	for _, st := range s.Structs {
		for i := range st.Fields {
			f := &st.Fields[i]
			f.Writer, f.Order, f.Initial, f.Doc = "any", "seq-cst store", "0", cmp.Or(f.Doc, "a word")
		}
	}
	return s
}

func TestCheck_FieldWithoutItsWords_Refused(t *testing.T) {
	for want, take := range map[string]func(*Field){
		"S.F: no writer":        func(f *Field) { f.Writer = "" },
		"S.F: no ordering":      func(f *Field) { f.Order = "" },
		"S.F: no initial value": func(f *Field) { f.Initial = "" },
		"S.F: no meaning":       func(f *Field) { f.Doc = "" },
	} {
		s := described(Spec{Structs: []Struct{{Name: "S", Size: 8, Fields: []Field{{Name: "F", Type: "u64"}}}}})
		take(&s.Structs[0].Fields[0])
		if err := check(s); err == nil || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestReplaceTables_UnknownTwiceUnclosedOrMissing_Refused(t *testing.T) {
	s := Spec{Structs: []Struct{{Name: "S", Size: 8, Fields: []Field{{Name: "F", Type: "u64"}}}}}
	const version, constants, table = "<!-- layout:version -->\n<!-- /layout -->", "<!-- layout:constants -->\n<!-- /layout -->", "<!-- layout:S -->\nold<!-- /layout -->"
	all := "before\n" + version + constants + table + "\nafter"
	text, err := replaceTables(all, s)
	if err != nil || strings.Contains(text, "old") || !strings.Contains(text, "| 0 | 8 | F |") ||
		!strings.HasPrefix(text, "before\n") || !strings.HasSuffix(text, "\nafter") {
		t.Fatalf("%v: %s", err, text)
	}
	if again, err := replaceTables(text, s); err != nil || again != text {
		t.Errorf("not idempotent: %v", err)
	}
	for name, doc := range map[string]string{
		"unknown":  all + "<!-- layout:T --><!-- /layout -->",
		"twice":    all + table,
		"unclosed": version + constants + "<!-- layout:S -->",
		"missing":  version + constants,
	} {
		if _, err := replaceTables(doc, s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestFingerprint_MovesWithThePlaceOfAField(t *testing.T) {
	a := Spec{Name: "x", Structs: []Struct{{Name: "S", Size: 16, Fields: []Field{{Name: "F", Type: "u64"}}}}}
	b := Spec{Name: "x", Structs: []Struct{{Name: "S", Size: 16, Fields: []Field{{Name: "F", Type: "u64", Offset: 8}}}}}
	c := Spec{Name: "x", Structs: []Struct{{Name: "S", Size: 16, Doc: "other words", Fields: []Field{{Name: "F", Type: "u64", Writer: "any"}}}}}
	if fingerprint(a) == fingerprint(b) || fingerprint(a) != fingerprint(c) {
		t.Error("a fingerprint covers places, not words")
	}
}
