// Package vectors is the suite that places images of domains, kept in spec/vectors, and
// compares what a testee says of them with what is written beside them. The format is
// described in spec/vectors/README.md.
package vectors

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// Suffix ends the names of vectors' files.
const Suffix = ".vector"

// Vector is an image of a domain, and what is to be answered about it.
type Vector struct {
	Name    string
	About   []string // lines of text
	Clauses []string
	Files   []File
	Scripts []Script
}

// File is a file of the domain's version directory.
type File struct {
	Name  string
	Bytes []byte
}

// Script is a dialogue with a testee of a level, on a fresh copy of the image.
type Script struct {
	Level suite.Level
	Steps []Step
}

// Step is a command and its answer.
type Step struct {
	Command string
	Want    []string // the first line and the rows
}

// Read reads all vectors of a directory, in the order of their names.
func Read(dir string) (all []*Vector, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+Suffix))
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("no vectors in %s", dir)
	}
	if err != nil {
		return nil, err
	}
	for _, path := range paths { // Glob sorts them
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		v, err := Parse(strings.TrimSuffix(filepath.Base(path), Suffix), string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, v)
	}
	return all, nil
}

// Parse reads the text of a vector.
func Parse(name, text string) (*Vector, error) {
	v := &Vector{Name: name}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		if err := v.line(lines.Text()); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if len(v.Files) == 0 || len(v.Scripts) == 0 {
		return nil, fmt.Errorf("%d files and %d scripts", len(v.Files), len(v.Scripts))
	}
	return v, lines.Err()
}

func (v *Vector) line(line string) error {
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch word {
	case "":
	case "#":
		if len(v.Files) == 0 {
			v.About = append(v.About, rest)
		}
	case "clauses":
		v.Clauses = strings.Split(rest, "; ")
	case "file":
		return v.file(strings.Fields(rest))
	case "script":
		level, err := suite.ParseLevel(rest)
		v.Scripts = append(v.Scripts, Script{Level: level})
		return err
	case ">", "<":
		return v.step(word, rest)
	default:
		return v.bytes(line)
	}
	return nil
}

func (v *Vector) file(words []string) error {
	if len(words) != 2 || strings.ContainsAny(words[0], "/.") {
		return fmt.Errorf("file: need a name and a size, not %q", words)
	}
	size, err := strconv.ParseUint(words[1], 10, 24)
	v.Files = append(v.Files, File{Name: words[0], Bytes: make([]byte, size)})
	return err
}

// bytes reads a line of an image: an offset in hexadecimal, bytes, and a comment.
func (v *Vector) bytes(line string) error {
	data, _, _ := strings.Cut(line, "#")
	words := strings.Fields(data)
	if len(v.Files) == 0 || len(words) < 2 {
		return fmt.Errorf("%q is no line of a vector", line)
	}
	to := v.Files[len(v.Files)-1].Bytes
	at, err := strconv.ParseUint(words[0], 16, 32)
	if err != nil {
		return err
	}
	b, err := hex.DecodeString(strings.Join(words[1:], ""))
	if err != nil || at+uint64(len(b)) > uint64(len(to)) {
		return fmt.Errorf("%d bytes at %#x of %d: %w", len(b), at, len(to), err)
	}
	copy(to[at:], b)
	return nil
}

func (v *Vector) step(word, rest string) error {
	if len(v.Scripts) == 0 {
		return fmt.Errorf("%q stands before any script", word+" "+rest)
	}
	steps := &v.Scripts[len(v.Scripts)-1].Steps
	switch {
	case word == ">":
		*steps = append(*steps, Step{Command: rest})
	case len(*steps) == 0:
		return fmt.Errorf("answer %q stands before any command", rest)
	default:
		last := &(*steps)[len(*steps)-1]
		last.Want = append(last.Want, rest)
	}
	return nil
}
