package testee

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Kind says what an answer is.
type Kind int

// The kinds of answers.
const (
	OK          Kind = iota + 1 // done
	No                          // no such record, or the condition did not hold
	Err                         // failed, with a name
	Unsupported                 // not offered
)

// Answer is a testee's answer to one command.
type Answer struct {
	Kind  Kind
	Words []string // what follows ok, without the number of rows
	Name  string   // of an error
	Text  string   // of an error, for people
	Rows  []string // as they came
}

// withRows are the commands whose answers have as many rows as they say.
var withRows = map[string]bool{
	"list": true, "batch": true, "scan": true, "peers": true, "entries": true, "stat": true, "dump": true, "check": true,
}

// MaxRows is how many rows an answer may have.
const MaxRows = 1 << 24

// ErrNonsense is wrapped by errors about answers that are none.
var ErrNonsense = errors.New("not an answer")

// parse reads the first line of an answer to the command, and says how many rows
// follow it.
func parse(command, line string) (a Answer, rows int, err error) {
	words := strings.Split(line, " ")
	switch words[0] {
	case "ok":
		a.Kind, a.Words = OK, words[1:]
		if withRows[command] {
			if len(words) != 2 {
				return a, 0, nonsense(command, line, "the number of rows is missing")
			}
			rows, err = strconv.Atoi(words[1])
			if err != nil || rows < 0 || rows > MaxRows {
				return a, 0, nonsense(command, line, "no number of rows")
			}
			a.Words = nil
		}
	case "no":
		a.Kind = No
	case "err":
		if len(words) < 2 || words[1] == "" {
			return a, 0, nonsense(command, line, "an error without a name")
		}
		a.Kind, a.Name, a.Text = Err, words[1], strings.Join(words[2:], " ")
	case "unsupported":
		a.Kind = Unsupported
	default:
		return a, 0, nonsense(command, line, "it begins with none of ok, no, err and unsupported")
	}
	if (a.Kind == No || a.Kind == Unsupported) && len(words) > 1 {
		return a, 0, nonsense(command, line, "words follow it")
	}
	return a, rows, nil
}

func nonsense(command, line, why string) error {
	return fmt.Errorf("%w to %s: %q: %s", ErrNonsense, command, Short(line), why)
}

// Fields are the words of the answer's first line, without the text of an error.
func (a Answer) Fields() []string {
	switch a.Kind {
	case OK:
		if a.Words == nil {
			return []string{"ok", strconv.Itoa(len(a.Rows))}
		}
		return append([]string{"ok"}, a.Words...)
	case No:
		return []string{"no"}
	case Err:
		return []string{"err", a.Name}
	case Unsupported:
		return []string{"unsupported"}
	}
	return nil
}

// String is the answer as it came, rows and all, shortened.
func (a Answer) String() string {
	s := strings.TrimRight(strings.Join(a.Fields(), " ")+" "+a.Text, " ")
	if len(a.Rows) > 0 {
		s += "\n  " + strings.Join(a.Rows[:min(len(a.Rows), 40)], "\n  ")
	}
	return Short(s)
}

// Short cuts text that nobody reads to its end.
func Short(s string) string {
	const most = 4000
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s... (%d bytes)", s[:most], len(s))
}

// Hex returns bytes as the line protocol writes them.
func Hex[B []byte | string](b B) string {
	if len(b) == 0 {
		return "-"
	}
	return hex.EncodeToString([]byte(b))
}

// Bytes reads bytes as the line protocol writes them.
func Bytes(word string) ([]byte, error) {
	if word == "-" {
		return nil, nil
	}
	b, err := hex.DecodeString(word)
	if err != nil || len(b) == 0 || strings.ToLower(word) != word {
		return nil, fmt.Errorf("%w: %q are no bytes", ErrNonsense, Short(word))
	}
	return b, nil
}

// Number reads a decimal number.
func Number(word string) (uint64, error) {
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != word {
		return 0, fmt.Errorf("%w: %q is no number", ErrNonsense, Short(word))
	}
	return n, nil
}
