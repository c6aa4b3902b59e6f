package dump

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrRange says that a Range cannot be read or lies beyond what there is.
var ErrRange = errors.New("impossible range")

// Range chooses structs by their numbers: 7, 7..20, or all, which leaves out what is
// empty. It is a command line's flag.
type Range struct {
	given, all bool
	from, to   uint64
}

// Set parses a range.
func (r *Range) Set(text string) error {
	*r = Range{given: true, all: text == "all"}
	if r.all {
		return nil
	}
	from, to, two := strings.Cut(text, "..")
	if !two {
		to = from
	}
	var err1, err2 error
	r.from, err1 = strconv.ParseUint(from, 0, 64)
	r.to, err2 = strconv.ParseUint(to, 0, 64)
	if err1 != nil || err2 != nil || r.from > r.to {
		return fmt.Errorf("%w %q: need N, N..M or all", ErrRange, text)
	}
	return nil
}

// Type names the kind of value in help.
func (r *Range) Type() string { return "range" }

// String is empty, as the default is described in words.
func (r *Range) String() string { return "" }

// each calls do for the numbers chosen, of count from first on; asked says that a
// number was named.
func (r Range) each(what string, first, count uint64, do func(i uint64, asked bool) error) error {
	from, to := first, first+count // to is excluded
	asked := r.given && !r.all
	if asked {
		if r.to < from || r.from >= to {
			return fmt.Errorf("%w: no %s %d: there are %d, from %d on", ErrRange, what, r.from, count, first)
		}
		from, to = max(from, r.from), min(to-1, r.to)+1
	}
	for i := from; i < to; i++ {
		if err := do(i, asked); err != nil {
			return err
		}
	}
	return nil
}
