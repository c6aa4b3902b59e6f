package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// page prints a segment. What is zero is left out.
type page struct {
	out   strings.Builder
	bytes []byte
}

// title begins a part.
func (p *page) title(format string, args ...any) {
	fmt.Fprintf(&p.out, "\n%s\n", fmt.Sprintf(format, args...))
}

// line prints bytes, and what they are, unless they are all zero.
func (p *page) line(at, n uint64, what string) {
	b := p.bytes[at : at+n]
	if len(bytes.Trim(b, "\x00")) > 0 {
		fmt.Fprintf(&p.out, "%6d  %-24s %s\n", at, fmt.Sprintf("% x", b), what)
	}
}

// fields prints a struct.
func (p *page) fields(name string, at uint64) {
	p.title("%s at %d", name, at)
	for _, f := range layout.Structs[name].Fields {
		for i := range f.Count {
			what := f.Name
			if f.Count > 1 {
				what = fmt.Sprintf("%s[%d]", f.Name, i)
			}
			word := at + f.Offset + i*f.Width
			p.line(word, f.Width, fmt.Sprintf("%-15s %s", what, p.value(word, f.Width)))
		}
	}
}

// value is a word as a number.
func (p *page) value(at, width uint64) string {
	if width == 4 {
		return short(uint64(binary.LittleEndian.Uint32(p.bytes[at:])))
	}
	return short(binary.LittleEndian.Uint64(p.bytes[at:]))
}

// short is a number as people read it: in decimal as long as that is short.
func short(n uint64) string {
	if n < 1<<20 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%#x", n)
}

// data prints n bytes of a record, 8 in a line.
func (p *page) data(at, n uint64, what string) {
	for ; n > 0; at, n = at+min(n, 8), n-min(n, 8) {
		p.line(at, min(n, 8), fmt.Sprintf("%-15s %q", what, p.bytes[at:at+min(n, 8)]))
	}
}

// text is all of it, as a block of Markdown.
func (p *page) text() string {
	return "\n```\n" + strings.TrimPrefix(p.out.String(), "\n") + "```\n\n"
}
