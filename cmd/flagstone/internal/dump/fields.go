package dump

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// fields returns a struct's fields, as many as raw has: of arrays the elements that
// are not 0, and of the bytes in between those that are not 0.
func (w *walk) fields(s layout.Struct, raw []byte) (out []Field) {
	explain := !w.told[s.Name]
	w.told[s.Name] = true
	end := uint64(0)
	for _, f := range s.Fields {
		if f.Offset+f.Width*f.Count > uint64(len(raw)) {
			return append(out, Field{Offset: f.Offset, Name: f.Name, Means: "beyond the end of the file"})
		}
		out = append(out, reserved(raw, end, f.Offset)...)
		end = f.Offset + f.Width*f.Count
		next := len(out)
		if text, ok := wholes[f.Name]; ok && f.Count > 1 {
			out = append(out, Field{Offset: f.Offset, Name: f.Name, Means: text(raw[f.Offset:end]), Bytes: raw[f.Offset:end]})
		} else {
			out = append(out, elements(s, f, raw)...)
		}
		if explain {
			out[next].Doc = f.Doc
		}
	}
	return append(out, reserved(raw, end, min(s.Size, uint64(len(raw))))...)
}

// elements returns a field, one per element that is not 0; of an array of zeros
// one.
func elements(s layout.Struct, f layout.Field, raw []byte) (out []Field) {
	for i := range f.Count {
		at := f.Offset + i*f.Width
		v := number(raw[at : at+f.Width])
		name := f.Name
		if f.Count > 1 {
			name = fmt.Sprintf("%s[%d]", f.Name, i)
		}
		if v != 0 || f.Count == 1 {
			out = append(out, Field{Offset: at, Name: name, Value: &v, Means: meaning(s.Name, f.Name, i, v, raw), Bytes: raw[at : at+f.Width]})
		}
	}
	if out == nil {
		out = []Field{{Offset: f.Offset, Name: f.Name, Means: fmt.Sprintf("all %d are 0", f.Count)}}
	}
	return out
}

// reserved returns the bytes without a field, which ought to be zero, if they are not.
func reserved(raw []byte, from, to uint64) []Field {
	if from >= to || zero(raw[from:to]) {
		return nil
	}
	return []Field{{Offset: from, Name: "(reserved)", Means: fmt.Sprintf("%d bytes that are not all 0", to-from), Bytes: raw[from:to]}}
}

// rows returns bytes behind a struct in rows of 16, those of zeros left out.
func rows(raw []byte, from uint64) (out []Field) {
	for ; from < uint64(len(raw)); from += 16 {
		row := raw[from:min(from+16, uint64(len(raw)))]
		if !zero(row) {
			out = append(out, Field{Offset: from, Name: "(bytes)", Means: strconv.QuoteToASCII(string(row)), Bytes: row})
		}
	}
	return out
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// number reads a word; bytes that are missing, at the end of the file, are 0.
func number(b []byte) uint64 {
	var whole [8]byte
	copy(whole[:], b)
	return binary.LittleEndian.Uint64(whole[:])
}

// word is the first word of a struct.
func word(raw []byte) uint64 { return number(raw[:min(8, len(raw))]) }
