package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"
	"unicode/utf8"
)

// show prints v as JSON, or what human writes, tabs separating columns.
func (a *app) show(v any, human func(w io.Writer)) error {
	if a.json {
		e := json.NewEncoder(a.out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	human(w)
	return w.Flush()
}

// line prints v as one line of JSON, or the human line.
func (a *app) line(v any, human string) error {
	if a.json {
		e := json.NewEncoder(a.out)
		e.SetEscapeHTML(false)
		return e.Encode(v)
	}
	_, err := fmt.Fprintln(a.out, human)
	return err
}

// blob is bytes in JSON: always base64, and the text if they are UTF-8.
type blob struct {
	Base64 []byte  `json:"base64"`
	Text   *string `json:"text,omitempty"`
}

func newBlob(b []byte) *blob {
	out := &blob{Base64: append([]byte{}, b...)}
	if utf8.Valid(b) {
		s := string(b)
		out.Text = &s
	}
	return out
}

// hex is a 64-bit number that JSON readers must not round: a string, as --hash
// takes it.
type hex uint64

func (h hex) String() string               { return fmt.Sprintf("0x%016x", uint64(h)) }
func (h hex) MarshalText() ([]byte, error) { return []byte(h.String()), nil }
func (h *hex) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 0, 64)
	*h = hex(n)
	return err
}

// plain returns a string of others for a terminal: quoted unless harmless.
func plain(s string) string {
	if quoted := strconv.Quote(s); quoted != `"`+s+`"` || s == "" {
		return quoted
	}
	return s
}

// millis is a duration in JSON: milliseconds.
func millis(d time.Duration) int64 { return d.Milliseconds() }

// ratio returns part of whole, 0 of nothing.
func ratio(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

func percent(part, whole uint64) string { return fmt.Sprintf("%.1f%%", 100*ratio(part, whole)) }

// clock prints a moment for tables.
func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
