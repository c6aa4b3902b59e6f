package dump

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/table"
)

const (
	controlFile = "control"
	slabPrefix  = "slab-"
	appPrefix   = "app-"
	primary     = "primary"
)

// ErrSegment says that there is no such segment to show.
var ErrSegment = errors.New("no such segment")

// Find returns the path of a domain's file: "control", a slab by its name, such as
// "primary", or a segment by its id in hexadecimal. PROTOCOL.md, "Files". The files
// need not be sound: where there is one slab, it is the primary.
func Find(dir, name, segment string) (string, error) {
	folder := filepath.Join(dir, name+".flagstone", fmt.Sprintf("v%d", layout.Major))
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %w", table.ErrNotFound, err)
	}
	if err != nil {
		return "", err
	}
	var slabs, all []string
	for _, e := range entries {
		all = append(all, e.Name())
		if strings.HasPrefix(e.Name(), slabPrefix) {
			slabs = append(slabs, e.Name())
		}
	}
	if segment == controlFile {
		return filepath.Join(folder, controlFile), nil
	}
	if segment == primary && len(slabs) == 1 {
		return filepath.Join(folder, slabs[0]), nil
	}
	known, unread := directory(filepath.Join(folder, controlFile))
	if id, ok := known[segment]; ok {
		segment = id
	} else if segment == primary {
		return "", errors.Join(fmt.Errorf("%w: %d slabs in %s: name one by its id: %s", ErrSegment, len(slabs), folder, strings.Join(slabs, " ")), unread)
	}
	id := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(segment, slabPrefix), appPrefix), "0x")
	n, err := strconv.ParseUint(id, 16, 64)
	if err != nil {
		return "", fmt.Errorf("%w: %q: need control, a slab's name or an id in hexadecimal", ErrSegment, segment)
	}
	for _, file := range all {
		switch file {
		case fmt.Sprintf("%s%016x", slabPrefix, n):
			return filepath.Join(folder, file), nil
		case fmt.Sprintf("%s%016x", appPrefix, n):
			return "", fmt.Errorf("%w: %s is an application's, its layout is not known; its bytes: od -A x -t x8z %s", ErrSegment, file, filepath.Join(folder, file))
		}
	}
	return "", fmt.Errorf("%w: %016x: there are %s", ErrSegment, n, strings.Join(all, " "))
}

// directory returns the ids of the published slabs by their names, as far as they can
// be read. Of two with one name it is the first one.
func directory(path string) (map[string]string, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.close()
	raw, err := f.read(0, layout.PageSize)
	if err != nil {
		return nil, err
	}
	page := shm.Heap(layout.PageSize).Window()
	page.Write(0, raw)
	g, err := table.ReadGeometry(page, f.size)
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	entry := layout.Structs["Entry"]
	for i := range min(uint64(g.Entries), f.room(g.EntryOffset, layout.SizeEntry)) {
		raw, err := f.read(g.EntryOffset+i*layout.SizeEntry, layout.SizeEntry)
		if err != nil {
			return known, err
		}
		state := table.State(word(raw) & layout.EntryStateMask)
		if !state.Published() || wordAt(entry, "Kind", raw) != layout.KindSlab {
			continue
		}
		if name := entryName(entry, raw); known[name] == "" {
			known[name] = fmt.Sprintf("%016x", wordAt(entry, "SegmentID", raw))
		}
	}
	return known, nil
}

// entryName returns the name in a directory entry.
func entryName(entry layout.Struct, raw []byte) string {
	for _, f := range entry.Fields {
		if f.Name == "Name" && f.Offset+layout.NameLength <= uint64(len(raw)) {
			return string(bytes.TrimRight(raw[f.Offset:f.Offset+layout.NameLength], "\x00"))
		}
	}
	return ""
}

// source is a file that is only read.
type source struct {
	f    *os.File
	size uint64
}

func open(path string) (*source, error) {
	st, err := os.Lstat(path) // opening a pipe would wait
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: %v: not a regular file", path, st.Mode())
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &source{f, uint64(st.Size())}, nil
}

func (s *source) close() { s.f.Close() }

// room returns how many structs of a size begin between from and the end.
func (s *source) room(from, size uint64) uint64 {
	if from >= s.size {
		return 0
	}
	return (s.size-from-1)/size + 1
}

// read returns n bytes from off on, fewer at the end of the file.
func (s *source) read(off, n uint64) ([]byte, error) {
	if off >= s.size {
		return nil, nil
	}
	b := make([]byte, min(n, s.size-off))
	got, err := s.f.ReadAt(b, int64(off))
	if err == io.EOF { // shorter by now
		err = nil
	}
	return b[:got], err
}
