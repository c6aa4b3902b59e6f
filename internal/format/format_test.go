package format

import (
	"errors"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

func TestCheck_FirstBrokenRule_NamedWithBothValues(t *testing.T) {
	good := []Rule{Equal("A", 1, 1, ErrMagic), Within("B", 5, 5, 5, ErrGeometry), Size(8, 8)}
	if err := Check("file", good...); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		rule      Rule
		field     string
		got, want uint64
		err       error
	}{
		{Equal("F", 2, 3, ErrVersion), "F", 2, 3, ErrVersion},
		{Within("F", 2, 3, 9, ErrGeometry), "F", 2, 3, ErrGeometry},
		{Within("F", 10, 3, 9, ErrGeometry), "F", 10, 9, ErrGeometry},
		{Size(4096, 8192), "file size", 4096, 8192, ErrTruncated},
		{Size(8192, 4096), "file size", 8192, 4096, ErrOversized},
	} {
		err := Check("the file", append(good, c.rule, Equal("later", 0, 1, ErrMagic))...)
		var e *Error
		if !errors.As(err, &e) || *e != (Error{"the file", c.field, c.got, c.want, c.err}) ||
			!errors.Is(err, c.err) || !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "the file") {
			t.Errorf("%+v: %v", c.rule, err)
		}
	}
}

func TestFreeze_LaterChanges_DoNotShow(t *testing.T) {
	live := shm.Heap(2 * layout.PageSize).Window()
	Stamp(live, layout.SlabMagic, 2*layout.PageSize)
	h := shm.At[layout.SlabHeader](live, 0)
	h.Shards.Store(4)
	h.Checksum.Store(Checksum(live, layout.SlabHeaderChecksummed))
	frozen, err := Freeze("file", live, layout.SlabMagic, layout.SlabHeaderChecksummed, 2*layout.PageSize, false)
	if err != nil {
		t.Fatal(err)
	}
	h.Shards.Store(5)
	if got := shm.At[layout.SlabHeader](frozen, 0).Shards.Load(); got != 4 || frozen.Len() != layout.PageSize {
		t.Fatalf("%d shards in %d bytes", got, frozen.Len())
	}
	if _, err := Freeze("file", live, layout.SlabMagic, layout.SlabHeaderChecksummed, 2*layout.PageSize, false); !errors.Is(err, ErrChecksum) {
		t.Fatal(err)
	}
	if _, err := Freeze("file", live, layout.SlabMagic, layout.SlabHeaderChecksummed, 100, false); !errors.Is(err, ErrTruncated) {
		t.Fatal(err)
	}
	if _, err := Freeze("file", shm.Window{}, layout.SlabMagic, layout.SlabHeaderChecksummed, 1<<40, false); !errors.Is(err, ErrTruncated) {
		t.Fatal(err)
	}
}

func TestFreeze_LaterWriters_ReadersOnly(t *testing.T) {
	live := shm.Heap(layout.PageSize).Window()
	Stamp(live, layout.SlabMagic, layout.PageSize)
	h := shm.At[layout.SlabHeader](live, 0)
	h.WriteVersion.Store(layout.Major + 1)
	h.Checksum.Store(Checksum(live, layout.SlabHeaderChecksummed))
	for _, reading := range []bool{false, true} {
		_, err := Freeze("file", live, layout.SlabMagic, layout.SlabHeaderChecksummed, layout.PageSize, reading)
		if reading == errors.Is(err, ErrVersion) || reading != (err == nil) {
			t.Errorf("reading %v: %v", reading, err)
		}
	}
	h.ReadVersion.Store(layout.Major + 1)
	if _, err := Freeze("file", live, layout.SlabMagic, layout.SlabHeaderChecksummed, layout.PageSize, true); !errors.Is(err, ErrVersion) {
		t.Error(err)
	}
}
