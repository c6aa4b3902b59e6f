package replay

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/trace"
)

// Input is one trace in one or more files, read one after the other.
type Input struct {
	Files  []string
	Format trace.Format // of all files; empty: as the first one looks
	Limit  uint64       // most requests; 0: all
}

// stream reads an Input.
type stream struct {
	Input
	file *os.File
	keys *trace.Reader
	left []string
	read uint64
}

// open starts to read. Close has to follow.
func (in Input) open() *stream { return &stream{Input: in, left: in.Files} }

// next returns the next key, valid until the next call, or io.EOF.
func (s *stream) next() ([]byte, error) {
	for s.Limit == 0 || s.read < s.Limit {
		if s.keys == nil {
			if len(s.left) == 0 {
				return nil, io.EOF
			}
			if err := s.enter(s.left[0]); err != nil {
				return nil, err
			}
			s.left = s.left[1:]
		}
		key, err := s.keys.Next()
		switch {
		case err == nil:
			s.read++
			return key, nil
		case !errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%s: %w", s.file.Name(), err)
		}
		s.close()
		s.keys = nil
	}
	return nil, io.EOF
}

// enter opens a file. The name says whether it is compressed: a trace of 64-bit
// words may begin as a gzip file does.
func (s *stream) enter(name string) (err error) {
	if s.file, err = os.Open(name); err != nil {
		return err
	}
	read := trace.NewReader
	if strings.HasSuffix(name, ".gz") {
		read = trace.Gunzip
	}
	if s.keys, s.Format, err = read(s.file, s.Format); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (s *stream) close() { _ = s.file.Close() } // nothing was written to it
