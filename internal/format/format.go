// Package format checks what stands in the headers of shared files, and says
// exactly what is wrong with a file that is refused.
package format

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// ErrFormat is wrapped by every Error.
var ErrFormat = errors.New("not a usable file")

// Why a file is refused. They come wrapped in an Error.
var (
	ErrMagic       = errors.New("wrong magic number")
	ErrEndian      = errors.New("wrong byte order")
	ErrVersion     = errors.New("layout version is too new")
	ErrFeature     = errors.New("unknown incompatible feature")
	ErrFingerprint = errors.New("layout differs")
	ErrChecksum    = errors.New("header checksum is wrong")
	ErrGeometry    = errors.New("impossible geometry")
	ErrTruncated   = errors.New("file is truncated")
	ErrOversized   = errors.New("file is too long")
	ErrForeign     = errors.New("file is of another domain")
	ErrNotReady    = errors.New("file was never completed")
	ErrStaleBoot   = errors.New("made before the last boot")
)

// remedies say what to do about each.
var remedies = map[error]string{
	ErrMagic:       "something else made it: choose another name or directory",
	ErrEndian:      "a host of the other kind made it: destroy it, or choose another directory",
	ErrVersion:     "use the newer version of this program, or destroy it",
	ErrFeature:     "use the newer version of this program, or destroy it",
	ErrFingerprint: "use the version that made it for all processes, or destroy it",
	ErrNotReady:    "wait for who makes it, or destroy it",
}

// remedy is that of files that are damaged or left over: nobody can use them.
const remedy = "destroy it; the next to open makes it anew"

// ErrOptions says that no segment can be made from the options given.
var ErrOptions = errors.New("impossible options")

// Error names the file and the field that made it refused, with the value found
// and the value expected. Nothing was changed.
type Error struct {
	File, Field string
	Got, Want   uint64
	Err         error // one of the sentinels above
}

// Error names file, field and both values, and what to do.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: %v: %s is %#x, want %#x; %s", e.File, e.Err, e.Field, e.Got, e.Want, cmp.Or(remedies[e.Err], remedy))
}

// Unwrap returns the sentinel and ErrFormat.
func (e *Error) Unwrap() []error { return []error{e.Err, ErrFormat} }

// Rule is a condition on a field.
type Rule struct {
	OK        bool
	Field     string
	Got, Want uint64
	Err       error
}

// Equal demands that got is want.
func Equal(field string, got, want uint64, err error) Rule {
	return Rule{got == want, field, got, want, err}
}

// Within demands that got is from least to most.
func Within(field string, got, least, most uint64, err error) Rule {
	return Rule{got >= least && got <= most, field, got, min(max(got, least), most), err}
}

// Size demands that a file has the size that its header implies.
func Size(got, want uint64) Rule {
	if got < want {
		return Rule{false, "file size", got, want, ErrTruncated}
	}
	return Rule{got == want, "file size", got, want, ErrOversized}
}

// Check returns the first rule that does not hold as an Error.
func Check(file string, rules ...Rule) error {
	for _, r := range rules {
		if !r.OK {
			return &Error{file, r.Field, r.Got, r.Want, r.Err}
		}
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

// Freeze copies the header page of a file of fileSize bytes, so that it cannot
// change between check and use, and checks the common fields and the checksum,
// which stands at offset covered. Who is only reading may read what a later major
// version writes, if that says so: WriteVersion is for those who take part.
func Freeze(file string, live shm.Window, magic, covered, fileSize uint64, reading bool) (shm.Window, error) {
	if size := min(live.Len(), fileSize); size < layout.PageSize {
		return live, &Error{file, "file size", size, layout.PageSize, ErrTruncated}
	}
	w := shm.Heap(layout.PageSize).Window()
	var page [layout.PageSize]byte // on the stack
	w.Write(0, live.Append(page[:0], 0, layout.PageSize))
	h := shm.At[prefix](w, 0)
	read, write, unknown := uint64(h.ReadVersion.Load()), uint64(h.WriteVersion.Load()), h.Incompatible.Load()&^layout.KnownIncompatible
	if reading {
		write = 0
	}
	return w, Check(file,
		Equal("Magic", h.Magic.Load(), magic, ErrMagic),
		Equal("Endian", h.Endian.Load(), layout.EndianMark, ErrEndian),
		Within("ReadVersion", read, 0, layout.Major, ErrVersion),
		Within("WriteVersion", write, 0, layout.Major, ErrVersion),
		Equal("Incompatible", unknown, 0, ErrFeature),
		Equal("Fingerprint", h.Fingerprint.Load(), layout.Fingerprint, ErrFingerprint),
		Equal("Checksum", shm.At[layout.Uint64](w, covered).Load(), Checksum(w, covered), ErrChecksum),
	)
}

// Checksum is the XXH3-64 of the first n bytes.
func Checksum(w shm.Window, n uint64) uint64 {
	return xxh3.Hash(w.Append(make([]byte, 0, layout.PageSize), 0, n))
}
