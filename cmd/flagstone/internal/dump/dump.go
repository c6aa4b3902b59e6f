// Package dump shows the files of a cache field by field. It takes no part in the
// domain: it only reads, through a descriptor and not a mapping, so that a file
// that is truncated meanwhile is short and not a fault. No number in a file is
// trusted: what lies where follows from a header that was checked as openers do,
// and nothing is read beyond the end.
package dump

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/flagstone-shm/flagstone/internal/format"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Options say what to show.
type Options struct {
	Hex bool // the bytes too

	// Of `control`, and of a slab. Without any choice: headers, what is not empty of
	// the tables, and the heads of the shards. With one: only what was chosen; of
	// buckets and cells those in the shards chosen.
	Mutexes, Entries, Regions        Range
	Shards, Buckets, Overflow, Cells Range
}

// Section is a struct as it stands in the file.
type Section struct {
	Name   string // which one it is
	Struct string
	Offset uint64 // in the file
	Fields []Field
}

// Field is a word of a struct, or bytes behind it.
type Field struct {
	Offset uint64 // in the struct
	Name   string
	Value  *uint64 // nil if it is no word
	Means  string
	Doc    string // at the first struct of a kind
	Bytes  []byte // with Options.Hex
}

// Run shows the file to emit, section by section. Of a file whose header is
// refused it shows what can be found nevertheless, and returns why.
func Run(path string, o Options, emit func(Section) error) error {
	f, err := open(path)
	if err != nil {
		return err
	}
	defer f.close()
	w := &walk{file: f, Options: o, emit: emit, told: map[string]bool{}}
	if filepath.Base(path) == controlFile {
		return w.control()
	}
	return w.slab()
}

// walk is one Run.
type walk struct {
	Options
	file *source
	emit func(Section) error
	told map[string]bool // structs whose fields were explained
}

// chosen reports whether any of the ranges was given.
func chosen(ranges ...Range) bool {
	for _, r := range ranges {
		if r.given {
			return true
		}
	}
	return false
}

// header shows the header page, unless other things were chosen, and returns a copy
// that cannot change between check and use.
func (w *walk) header(of string, show bool) (shm.Window, error) {
	raw, err := w.file.read(0, layout.PageSize)
	page := shm.Heap(layout.PageSize).Window()
	if err == nil {
		page.Write(0, raw)
	}
	if err != nil || !show {
		return page, err
	}
	return page, w.show("header", of, 0, raw, nil)
}

// hopeless reports whether a header was refused for what makes it useless to look
// further: all but a file that is too short for what a whole header says.
func (w *walk) hopeless(refused error) bool {
	return refused != nil && (w.file.size < layout.PageSize || !errors.Is(refused, format.ErrTruncated))
}

// structs are equal structs in a row.
type structs struct {
	what         string
	choice       Range
	first, count uint64
	from, stride uint64 // in the file, in bytes
	of           func(raw []byte) (name string)
	inUse        func(raw []byte) bool
	more         func(raw []byte) []Field // what stands behind the struct
}

// table shows the structs chosen, else those in use, up to the end of the file.
func (w *walk) table(s structs) error {
	return s.choice.each(s.what, s.first, min(s.count, w.file.room(s.from, s.stride)), func(i uint64, asked bool) error {
		at := s.from + (i-s.first)*s.stride
		raw, err := w.file.read(at, s.stride)
		if err != nil || !asked && !s.inUse(raw) {
			return err
		}
		return w.show(fmt.Sprintf("%s %d", s.what, i), s.of(raw), at, raw, s.more)
	})
}

// show emits a struct and what stands behind it.
func (w *walk) show(name, of string, offset uint64, raw []byte, more func([]byte) []Field) error {
	s := Section{Name: name, Struct: of, Offset: offset, Fields: w.fields(layout.Structs[of], raw)}
	if more != nil {
		s.Fields = append(s.Fields, more(raw)...)
	}
	for i := range s.Fields {
		if !w.Hex {
			s.Fields[i].Bytes = nil
		}
	}
	return w.emit(s)
}

// always is for tables of one kind of struct.
func always(name string) func([]byte) string { return func([]byte) string { return name } }
