package script

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// vars are what $names stand for.
type vars map[string]string

var (
	quoted  = regexp.MustCompile(`'([^']*)'(\*[0-9]+)?`)
	counter = regexp.MustCompile(`\{(-?[0-9]+)\}`)
	name    = regexp.MustCompile(`\$[a-z][a-z0-9]*`)
	sum     = regexp.MustCompile(`^([0-9]+)([+-])([0-9]+)$`)
)

// literal replaces texts and counters by their bytes.
func literal(line string) string {
	line = quoted.ReplaceAllStringFunc(line, func(s string) string {
		m := quoted.FindStringSubmatch(s)
		n := 1
		if m[2] != "" {
			n, _ = strconv.Atoi(m[2][1:])
		}
		return testee.Hex(strings.Repeat(m[1], n))
	})
	return counter.ReplaceAllStringFunc(line, func(s string) string {
		n, _ := strconv.ParseInt(s[1:len(s)-1], 10, 64)
		return testee.Hex(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	})
}

// value replaces the names in a word, and adds up. It is an error if one was not met.
func (v vars) value(word string) (string, error) {
	var err error
	word = name.ReplaceAllStringFunc(word, func(s string) string {
		is, met := v[s[1:]]
		if !met {
			err = fmt.Errorf("%s was not met before", s)
		}
		return is
	})
	prefix, expr := "", word
	if before, after, option := strings.Cut(word, "="); option {
		prefix, expr = before+"=", after
	}
	if m := sum.FindStringSubmatch(expr); m != nil {
		a, _ := strconv.ParseInt(m[1], 10, 64)
		b, _ := strconv.ParseInt(m[3], 10, 64)
		if m[2] == "-" {
			b = -b
		}
		word = prefix + strconv.FormatInt(a+b, 10)
	}
	return word, err
}

// match compares words with patterns, and takes down what is met for the first time.
func (v vars) match(patterns, words []string) error {
	for i, p := range patterns {
		if p == "*" {
			return nil
		}
		if i == len(words) {
			return fmt.Errorf("%q is missing", p)
		}
		if err := v.matchWord(p, words[i]); err != nil {
			return err
		}
	}
	if len(words) > len(patterns) {
		return fmt.Errorf("%q is too much", words[len(patterns)])
	}
	return nil
}

func (v vars) matchWord(pattern, word string) error {
	if pattern == "_" {
		return nil
	}
	if name.FindString(pattern) == pattern && v[pattern[1:]] == "" {
		if word == "" {
			return fmt.Errorf("an empty word for %s", pattern)
		}
		v[pattern[1:]] = word
		return nil
	}
	if low, high, is := strings.Cut(pattern, ".."); is {
		return v.between(low, high, word)
	}
	for _, p := range strings.Split(pattern, "|") {
		want, err := v.value(p)
		if err != nil {
			return err
		}
		if want == word {
			return nil
		}
		pattern = want
	}
	return fmt.Errorf("%q, not %q", word, pattern)
}

func (v vars) between(low, high, word string) error {
	var bounds [2]int64
	for i, s := range []string{low, high} {
		s, err := v.value(s)
		if err != nil {
			return err
		}
		if bounds[i], err = strconv.ParseInt(s, 10, 64); err != nil {
			return err
		}
	}
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		return err
	}
	if n < bounds[0] || n > bounds[1] {
		return fmt.Errorf("%d is not between %d and %d", n, bounds[0], bounds[1])
	}
	return nil
}
