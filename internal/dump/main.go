// Command dump fills the appendices of spec/PROTOCOL.md that show real memory: the
// bytes of a control segment and of a slab with their fields beside them, and hashes of
// some keys. What is random, or this machine's, is replaced by fixed values.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

//go:generate go run . -protocol ../../spec/PROTOCOL.md

func main() {
	protocol := flag.String("protocol", "spec/PROTOCOL.md", "the document whose appendices are replaced")
	flag.Parse()
	if err := run(*protocol); err != nil {
		fmt.Fprintln(os.Stderr, "dump:", err)
		os.Exit(1)
	}
}

func run(protocol string) error {
	document, err := os.ReadFile(protocol)
	if err != nil {
		return err
	}
	text, err := fill(string(document))
	if err != nil {
		return fmt.Errorf("%s: %w", protocol, err)
	}
	return os.WriteFile(protocol, []byte(text), 0o644)
}

// parts makes what stands between <!-- dump:NAME --> and <!-- /dump -->.
var parts = []struct {
	name string
	text func() (string, error)
}{{"hashes", hashes}, {"control", control}, {"slab", slabText}}

// fill replaces all parts of the document, which must have each once.
func fill(document string) (string, error) {
	for _, p := range parts {
		begin := fmt.Sprintf("<!-- dump:%s -->\n", p.name)
		before, rest, found := strings.Cut(document, begin)
		_, after, closed := strings.Cut(rest, "<!-- /dump -->")
		if !found || !closed || strings.Contains(after, begin) {
			return "", fmt.Errorf("part %q: missing, twice or not closed", p.name)
		}
		text, err := p.text()
		if err != nil {
			return "", fmt.Errorf("%s: %w", p.name, err)
		}
		document = before + begin + text + "<!-- /dump -->" + after
	}
	return document, nil
}
