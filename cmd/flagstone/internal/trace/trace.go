// Package trace reads request traces: one key per request, as little-endian
// 64-bit words or as lines. It works on any bytes, with bounded memory.
package trace

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// Format is how keys stand in a trace.
type Format string

const (
	U64   Format = "u64"   // 8 bytes each, little-endian
	Lines Format = "lines" // one per line, which ends with \n or \r\n; empty lines are no requests
)

// MaxKey is the longest key in bytes.
const MaxKey = 65535

var (
	// ErrTruncated says that a trace of 64-bit words ends within one.
	ErrTruncated = errors.New("trace ends within a key")
	// ErrKeyTooLong says that a line is longer than MaxKey bytes.
	ErrKeyTooLong = errors.New("line is too long for a key")
	// ErrFormat says that a format is neither U64 nor Lines.
	ErrFormat = errors.New("unknown trace format")
)

// KeyError says which request of a trace has no key.
type KeyError struct {
	Request uint64 // requests before it
	Got     int    // bytes there were, or seen so far
	Want    int    // bytes there have to be, or at most
	Err     error  // ErrTruncated or ErrKeyTooLong
}

// Error names the request and both lengths.
func (e *KeyError) Error() string {
	return fmt.Sprintf("request %d: %v: %d bytes, want %d", e.Request, e.Err, e.Got, e.Want)
}

// Unwrap returns ErrTruncated or ErrKeyTooLong.
func (e *KeyError) Unwrap() error { return e.Err }

// Reader yields the keys of a trace.
type Reader struct {
	in       *bufio.Reader
	requests uint64
	next     func() ([]byte, error)
}

// NewReader reads the keys of a trace in the given format, or the detected one if
// it is empty.
func NewReader(r io.Reader, f Format) (*Reader, Format, error) {
	t := &Reader{in: bufio.NewReaderSize(r, MaxKey+2)} // a longest line and its end
	if f == "" {
		start, err := t.in.Peek(detected)
		if err != nil && err != io.EOF {
			return nil, f, err
		}
		f = Detect(start)
	}
	switch f {
	case U64:
		t.next = t.word
	case Lines:
		t.next = t.line
	default:
		return nil, f, fmt.Errorf("%w %q: need %s or %s", ErrFormat, f, U64, Lines)
	}
	return t, f, nil
}

// Gunzip is NewReader for compressed traces.
func Gunzip(r io.Reader, f Format) (*Reader, Format, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, f, fmt.Errorf("gzip: %w", err)
	}
	return NewReader(z, f)
}

// Next returns the next key, which is valid until the next call, and io.EOF after
// the last one. Other errors of the trace itself are a *KeyError.
func (t *Reader) Next() ([]byte, error) {
	key, err := t.next()
	if err == nil {
		t.requests++
	}
	return key, err
}

func (t *Reader) word() ([]byte, error) {
	key, err := t.in.Peek(8)
	switch {
	case err == io.EOF && len(key) > 0:
		return nil, &KeyError{t.requests, len(key), 8, ErrTruncated}
	case err != nil:
		return nil, err
	}
	_, err = t.in.Discard(8)
	return key, err
}

func (t *Reader) line() ([]byte, error) {
	for {
		line, err := t.in.ReadSlice('\n')
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return nil, err
		}
		ended := err
		line, found := cut(line, '\n')
		if found {
			line, _ = cut(line, '\r')
		}
		switch {
		case len(line) > MaxKey:
			return nil, &KeyError{t.requests, len(line), MaxKey, ErrKeyTooLong}
		case len(line) > 0:
			return line, nil
		case ended != nil:
			return nil, ended
		}
	}
}

// cut takes one end byte off a line.
func cut(line []byte, end byte) ([]byte, bool) {
	if n := len(line); n > 0 && line[n-1] == end {
		return line[:n-1], true
	}
	return line, false
}

// detected is how many bytes Detect is given.
const detected = 4096

// Detect guesses the format from the start of a trace: lines have no control
// characters, and of 64-bit words hardly any run is without.
func Detect(start []byte) Format {
	for _, c := range start {
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' || c == 0x7f {
			return U64
		}
	}
	return Lines
}
