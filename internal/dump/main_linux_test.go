package main

import (
	"os"
	"strings"
	"testing"
)

const protocol = "../../spec/PROTOCOL.md"

func TestFill_CommittedDocument_UpToDate(t *testing.T) {
	committed, err := os.ReadFile(protocol)
	if err != nil {
		t.Fatal(err)
	}
	made, err := fill(string(committed))
	if err != nil {
		t.Fatal(err)
	}
	if made != string(committed) {
		t.Error("the appendices differ from what the memory is: go generate ./internal/dump")
	}
}

func TestFill_PartMissingTwiceOrOpen_Refused(t *testing.T) {
	part := func(name string) string { return "<!-- dump:" + name + " -->\nold<!-- /dump -->\n" }
	all := part("hashes") + part("control") + part("slab")
	text, err := fill(all)
	if err != nil || strings.Contains(text, "old") {
		t.Fatalf("%v: %s", err, text)
	}
	for name, document := range map[string]string{
		"missing": part("hashes") + part("control"),
		"twice":   all + part("slab"),
		"open":    strings.TrimSuffix(all, "<!-- /dump -->\n"),
	} {
		if _, err := fill(document); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// XXH3-64 as its authors publish it: of no bytes, and of what the golden slab holds.
func TestHashes_KnownValues(t *testing.T) {
	text, err := hashes()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| no bytes | 0x0 | `0x2d06800538d394c2` |", "| no bytes | 0x2a | `0xb029411ff43d84d2` |", "| `key` | 0x2a | `0x67197794b225585e` |"} {
		if !strings.Contains(text, want) {
			t.Errorf("no row %s in:%s", want, text)
		}
	}
}
