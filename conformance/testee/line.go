package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/flagstone-shm/flagstone"
)

// line is a command as it was read. The first thing wrong with its words stays in err,
// so that a command reads all of them and looks once.
type line struct {
	words   []string
	options map[string]string
	err     error
}

// parse splits a line into a command's name, its words and its options.
func parse(text string) (name string, l *line) {
	l = &line{options: map[string]string{}}
	for i, w := range strings.Fields(text) {
		key, value, option := strings.Cut(w, "=")
		switch {
		case i == 0:
			name = w
		case option:
			l.options[key] = value
		default:
			l.words = append(l.words, w)
		}
	}
	return name, l
}

func (l *line) wrong(format string, args ...any) {
	if l.err == nil {
		l.err = fmt.Errorf("%w: "+format, append([]any{flagstone.ErrOptions}, args...)...)
	}
}

// number returns a decimal number.
func (l *line) number(w string) uint64 {
	n, err := strconv.ParseUint(w, 10, 64)
	if err != nil {
		l.wrong("number %q", w)
	}
	return n
}

// count is number for what Go calls an int.
func (l *line) count(w string) int { return int(min(l.number(w), math.MaxInt)) }

// signed returns a decimal number that may have a sign.
func (l *line) signed(w string) int64 {
	n, err := strconv.ParseInt(w, 10, 64)
	if err != nil {
		l.wrong("signed number %q", w)
	}
	return n
}

// bytes returns what the word stands for; "-" are none.
func (l *line) bytes(w string) []byte {
	if w == "-" {
		return nil
	}
	b, err := hex.DecodeString(w)
	if err != nil || len(b) == 0 || strings.ToLower(w) != w {
		l.wrong("bytes %q", w)
	}
	return b
}

// option returns the option's number, or def if it was not given.
func (l *line) option(name string, def uint64) uint64 {
	if w, ok := l.options[name]; ok {
		return l.number(w)
	}
	return def
}

// size is option for what Go calls an int, 0 by default.
func (l *line) size(name string) int { return int(min(l.option(name, 0), math.MaxInt)) }

// choice returns the value that the option's word stands for, or def.
func choice[T any](l *line, name string, def T, of map[string]T) T {
	w, ok := l.options[name]
	if !ok {
		return def
	}
	v, ok := of[w]
	if !ok {
		l.wrong("%s=%s", name, w)
	}
	return v
}

// answer is what a command is answered with.
type answer struct {
	words []string
	rows  []string
}

// What ends a command without being an error.
var (
	errNo          = errors.New("no")
	errUnsupported = errors.New("unsupported")
)

func (a answer) write(w *bufio.Writer) {
	for _, row := range append([]string{strings.Join(a.words, " ")}, a.rows...) {
		_, _ = w.WriteString(row) // Flush tells
		_ = w.WriteByte('\n')
	}
}

// ok returns an answer of these words.
func ok(words ...any) (answer, error) {
	a := answer{words: []string{"ok"}}
	for _, w := range words {
		a.words = append(a.words, fmt.Sprint(w))
	}
	return a, nil
}

// many returns an answer of rows.
func many(rows []string) (answer, error) {
	a, err := ok(len(rows))
	a.rows = rows
	return a, err
}

// text returns how bytes are written.
func text(b []byte) string {
	if len(b) == 0 {
		return "-"
	}
	return hex.EncodeToString(b)
}

// bit returns how a yes or no is written.
func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// hex16 returns how ids, hashes and fingerprints are written.
func hex16(n uint64) string { return fmt.Sprintf("%016x", n) }
