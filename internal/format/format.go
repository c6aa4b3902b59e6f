// Package format checks the fields that the headers of all shared files begin
// with, and says exactly what is wrong with a file that is refused.
package format

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/zeebo/xxh3"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Why a file is refused. They come wrapped in an Error.
var (
	ErrMagic       = errors.New("not such a file")
	ErrVersion     = errors.New("layout version is not this library's")
	ErrEndian      = errors.New("made on a machine of other byte order")
	ErrFeature     = errors.New("uses features unknown to this library")
	ErrFingerprint = errors.New("layout differs from this library's")
	ErrChecksum    = errors.New("header does not match its checksum")
	ErrGeometry    = errors.New("absurd geometry")
	ErrSize        = errors.New("file is shorter or longer than its header says")
	ErrForeign     = errors.New("belongs to another domain")
	ErrNotReady    = errors.New("was never completed")
)

// Error names the file and the field that made it refused, with the value found
// and the value expected. Nothing was changed.
type Error struct {
	File, Field string
	Got, Want   uint64
	Err         error // one of the sentinels above
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s is %#x, expected %#x: %v", e.File, e.Field, e.Got, e.Want, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Equal returns an Error unless got is want.
func Equal(file, field string, got, want uint64, sentinel error) error {
	if got != want {
		return &Error{file, field, got, want, sentinel}
	}
	return nil
}

// prefix is what ControlHeader and SlabHeader have in common.
type prefix = layout.SlabHeader

// Stamp writes the common fields of a header.
func Stamp(w shm.Window, magic, fileSize uint64) {
	h := shm.At[prefix](w, 0)
	h.Magic.Store(magic)
	h.ReadVersion.Store(layout.Major)
	h.WriteVersion.Store(layout.Major)
	h.Endian.Store(layout.EndianMark)
	h.Compatible.Store(layout.KnownCompatible)
	h.Incompatible.Store(layout.KnownIncompatible)
	h.Fingerprint.Store(layout.Fingerprint)
	h.FileSize.Store(fileSize)
}

// Check compares the common fields of a header with what this library knows,
// and its checksum, which stands at offset covered. FileSize is what the file
// system says.
func Check(file string, w shm.Window, magic, covered, fileSize uint64) error {
	if w.Len() < layout.PageSize {
		return &Error{file, "file size", w.Len(), layout.PageSize, ErrSize}
	}
	h := shm.At[prefix](w, 0)
	for _, c := range []struct {
		field     string
		got, want uint64
		err       error
	}{
		{"Magic", h.Magic.Load(), magic, ErrMagic},
		{"Endian", h.Endian.Load(), layout.EndianMark, ErrEndian},
		{"ReadVersion", uint64(h.ReadVersion.Load()), layout.Major, ErrVersion},
		{"WriteVersion", uint64(h.WriteVersion.Load()), layout.Major, ErrVersion},
		{"Incompatible", h.Incompatible.Load() &^ layout.KnownIncompatible, 0, ErrFeature},
		{"Fingerprint", h.Fingerprint.Load(), layout.Fingerprint, ErrFingerprint},
		{"Checksum", shm.At[atomic.Uint64](w, covered).Load(), Checksum(w, covered), ErrChecksum},
		{"FileSize", h.FileSize.Load(), fileSize, ErrSize},
	} {
		if err := Equal(file, c.field, c.got, c.want, c.err); err != nil {
			return err
		}
	}
	return nil
}

// Checksum is the XXH3-64 of the first n bytes.
func Checksum(w shm.Window, n uint64) uint64 { return xxh3.Hash(w.Append(nil, 0, n)) }
