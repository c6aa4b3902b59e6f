package trace

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// read returns all keys of a trace and the error that ended it, nil for io.EOF.
func read(t *testing.T, r io.Reader, f Format) (keys []string, found Format, err error) {
	t.Helper()
	tr, found, err := NewReader(r, f)
	if err != nil {
		return nil, found, err
	}
	for {
		key, err := tr.Next()
		if err == io.EOF {
			return keys, found, nil
		}
		if err != nil {
			return keys, found, err
		}
		keys = append(keys, string(key))
	}
}

func words(keys ...uint64) (b []byte) {
	for _, k := range keys {
		b = binary.LittleEndian.AppendUint64(b, k)
	}
	return b
}

func TestReader_Words_DetectedAndRead(t *testing.T) {
	in := words(1, 2, 1<<63, 0)
	for name, r := range map[string]io.Reader{
		"whole":  bytes.NewReader(in),
		"bytes":  iotest.OneByteReader(bytes.NewReader(in)),
		"halves": iotest.HalfReader(bytes.NewReader(in)),
	} {
		keys, f, err := read(t, r, "")
		if err != nil || f != U64 || strings.Join(keys, "") != string(in) || len(keys) != 4 {
			t.Errorf("%s: %q %s %v", name, keys, f, err)
		}
	}
}

func TestReader_WordsTruncated_TypedErrorAfterTheWholeOnes(t *testing.T) {
	keys, _, err := read(t, bytes.NewReader(words(1, 2, 3)[:21]), U64)
	var ke *KeyError
	if !errors.As(err, &ke) || !errors.Is(err, ErrTruncated) || *ke != (KeyError{2, 5, 8, ErrTruncated}) || len(keys) != 2 {
		t.Fatalf("%q %v", keys, err)
	}
}

func TestReader_Lines_EndsAndEmptyOnesDropped(t *testing.T) {
	for in, want := range map[string][]string{
		"":                   nil,
		"\n\r\n\n":           nil,
		"a":                  {"a"},
		"a\nb\r\n\n c\t\nd":  {"a", "b", " c\t", "d"},
		"a\r":                {"a\r"},
		"\xff\u00e9\n/x?y\n": {"\xff\u00e9", "/x?y"},
	} {
		keys, f, err := read(t, iotest.HalfReader(strings.NewReader(in)), "")
		if err != nil || f != Lines || !slices.Equal(keys, want) {
			t.Errorf("%q: %q %s %v, want %q", in, keys, f, err, want)
		}
	}
}

func TestReader_LineOfMaxKey_ReadAndOneMoreRefused(t *testing.T) {
	long := strings.Repeat("k", MaxKey)
	for _, end := range []string{"", "\n", "\r\n", "\nx"} {
		if keys, _, err := read(t, strings.NewReader(long+end), Lines); err != nil || keys[0] != long {
			t.Errorf("end %q: %d keys, %v", end, len(keys), err)
		}
		for _, more := range []string{"k", "kk", "kkk", long} {
			_, _, err := read(t, strings.NewReader("first\n"+long+more+end), Lines)
			var ke *KeyError
			if !errors.As(err, &ke) || !errors.Is(err, ErrKeyTooLong) || ke.Request != 1 {
				t.Errorf("end %q, %d more: %v", end, len(more), err)
			}
		}
	}
}

func TestReader_SourceFails_ErrorPassedOn(t *testing.T) {
	broken := errors.New("broken")
	for _, f := range []Format{U64, Lines, ""} {
		r := io.MultiReader(bytes.NewReader(words(1)), iotest.ErrReader(broken))
		if _, _, err := read(t, r, f); !errors.Is(err, broken) {
			t.Errorf("%q: %v", f, err)
		}
	}
}

func TestGunzip_WholeCutAndPlain(t *testing.T) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(words(7, 8)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	all := func(b []byte) (n int, err error) {
		tr, _, err := Gunzip(bytes.NewReader(b), "")
		for ; err == nil; n++ {
			_, err = tr.Next()
		}
		return n - 1, err
	}
	if n, err := all(z.Bytes()); n != 2 || err != io.EOF {
		t.Error(n, err)
	}
	if _, err := all(z.Bytes()[:z.Len()-4]); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("cut:", err)
	}
	if _, err := all(words(1, 2, 3)); !errors.Is(err, gzip.ErrHeader) {
		t.Error("plain:", err)
	}
}

func TestNewReader_UnknownFormat_Error(t *testing.T) {
	if _, _, err := NewReader(strings.NewReader(""), "csv"); !errors.Is(err, ErrFormat) {
		t.Fatal(err)
	}
}
