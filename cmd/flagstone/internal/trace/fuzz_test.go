package trace

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// FuzzReader compares the reader with splitting the whole trace at once.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		"", "a", "a\n", "a\r\nb\n\n\nc", "\r\n\r\r\n", "12345678", "\x00\x01\x02\x03\x04\x05\x06\x07\x08", "\x1f\x8b\x08",
		strings.Repeat("k", MaxKey) + "\r\n", strings.Repeat("k", MaxKey+1), strings.Repeat("k", MaxKey+1) + "\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, trace []byte) {
		for _, format := range []Format{U64, Lines, ""} {
			r, chosen, err := NewReader(bytes.NewReader(trace), format)
			if err != nil || format != "" && chosen != format {
				t.Fatal(chosen, err)
			}
			want, wantErr := split(trace, chosen)
			compare(t, r, want, wantErr)
		}
		r, _, err := Gunzip(bytes.NewReader(trace), Lines) // hardly ever a gzip file, and then a small one
		for err == nil {
			_, err = r.Next()
		}
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(trace); err != nil || z.Close() != nil {
			t.Fatal(err)
		}
		if r, _, err = Gunzip(&packed, Lines); err != nil {
			t.Fatal(err)
		}
		want, wantErr := split(trace, Lines)
		compare(t, r, want, wantErr)
	})
}

func compare(t *testing.T, r *Reader, want [][]byte, wantErr error) {
	t.Helper()
	for n := 0; ; n++ {
		key, err := r.Next()
		switch {
		case err == nil && n < len(want) && bytes.Equal(key, want[n]):
			continue
		case err == nil || n != len(want) || !errors.Is(err, wantErr):
			t.Fatalf("request %d of %d: %.40q, %v, want the end to be %v", n, len(want), key, err, wantErr)
		}
		var bad *KeyError
		if err != io.EOF && (!errors.As(err, &bad) || bad.Request != uint64(n) || bad.Got == bad.Want) {
			t.Fatalf("%#v", err)
		}
		return
	}
}

// split returns the keys of a trace and how it ends.
func split(trace []byte, format Format) (keys [][]byte, end error) {
	if format == U64 {
		whole := len(trace) / 8 * 8
		for key := range slices.Chunk(trace[:whole], 8) {
			keys = append(keys, key)
		}
		if whole < len(trace) {
			return keys, ErrTruncated
		}
		return keys, io.EOF
	}
	for line := range bytes.Lines(trace) {
		if key, ok := bytes.CutSuffix(line, []byte("\n")); ok {
			line = bytes.TrimSuffix(key, []byte("\r"))
		}
		if len(line) > MaxKey {
			return keys, ErrKeyTooLong
		}
		if len(line) > 0 {
			keys = append(keys, line)
		}
	}
	return keys, io.EOF
}
