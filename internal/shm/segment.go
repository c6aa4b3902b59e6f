package shm

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"
)

var (
	// ErrNoSpace says that the file system has no room for a segment. Nothing was made.
	ErrNoSpace = errors.New("no room for a shared segment")
	// ErrUnsafeFile says that a file is not what a segment has to be: a regular
	// file of this user, reached without a symbolic link.
	ErrUnsafeFile = errors.New("not a regular file of this user")
)

// Segment is a mapped file, or memory of the Go heap that stands in for one.
type Segment struct {
	name   string
	base   unsafe.Pointer
	size   uint64
	heap   []uint64
	closed atomic.Bool
}

// Heap returns a segment on the Go heap, for tests under the race detector.
// Size is rounded up to a page.
func Heap(size uint64) *Segment {
	size = (size + 4095) &^ 4095
	// One line more than needed, so that the base can be aligned to a line.
	heap := make([]uint64, size/8+8)
	base := unsafe.Pointer(&heap[0])
	base = unsafe.Add(base, -uintptr(base)&63)
	return &Segment{name: "heap", base: base, size: size, heap: heap}
}

// Create makes the file name in the directory, which must not exist, reserves
// its blocks and maps it. It touches no page. On failure there is no file.
func Create(dir *os.File, name string, size uint64, perm os.FileMode) (*Segment, *os.File, error) {
	f, err := openAt(dir, name, unix.O_CREAT|unix.O_EXCL, perm)
	if err != nil {
		return nil, nil, err
	}
	s, err := reserveAndMap(f, size)
	if err != nil {
		f.Close()
		return nil, nil, errors.Join(err, unix.Unlinkat(int(dir.Fd()), name, 0))
	}
	return s, f, nil
}

func reserveAndMap(f *os.File, size uint64) (*Segment, error) {
	if err := Reserve(f, size); err != nil {
		return nil, err
	}
	return Map(f, size)
}

// OpenFile opens name in the directory for reading and writing. With create set
// it is made, empty, if it is not there. Links are not followed.
func OpenFile(dir *os.File, name string, create bool, perm os.FileMode) (*os.File, error) {
	flags := 0
	if create {
		flags = unix.O_CREAT
	}
	return openAt(dir, name, flags, perm)
}

func openAt(dir *os.File, name string, flags int, perm os.FileMode) (*os.File, error) {
	path := dir.Name() + "/" + name
	flags |= unix.O_RDWR | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := retry(func() (int, error) { return unix.Openat(int(dir.Fd()), name, flags, uint32(perm)) })
	switch {
	case err == unix.ELOOP || err == unix.EISDIR || err == unix.ENXIO:
		return nil, fmt.Errorf("open %s: %w: %w", path, ErrUnsafeFile, err)
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		f.Close()
		return nil, fmt.Errorf("%s: mode %#o: %w", path, st.Mode, ErrUnsafeFile)
	}
	return f, nil
}

// Room returns ErrNoSpace, saying how much is needed and how much there is, if the
// file system that f is on has not size bytes free.
func Room(f *os.File, size uint64) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return &os.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	if free := fs.Bavail * uint64(fs.Bsize); fs.Blocks != 0 && free < size { // 0 is a tmpfs without limit
		return noSpace(f, size, free, unix.ENOSPC)
	}
	return nil
}

func noSpace(f *os.File, size, free uint64, err error) error {
	return fmt.Errorf("%s: %w: %d bytes needed, %d free; free some, enlarge the file system (for /dev/shm: mount -o remount,size=...) or ask for less: %w",
		f.Name(), ErrNoSpace, size, free, err)
}

// Reserve gives the empty file size bytes of zeros with blocks behind them, so that
// touching them cannot fault for want of room. It asks first: a file system may
// fill up before it finds that the whole does not fit.
func Reserve(f *os.File, size uint64) error {
	if err := Room(f, size); err != nil {
		return err
	}
	_, err := retry(func() (int, error) { return 0, unix.Fallocate(int(f.Fd()), 0, 0, int64(size)) })
	switch {
	case err == unix.ENOSPC || err == unix.EFBIG || err == unix.EDQUOT:
		var fs unix.Statfs_t
		_ = unix.Fstatfs(int(f.Fd()), &fs) // only for the message
		return noSpace(f, size, fs.Bavail*uint64(fs.Bsize), err)
	case err != nil:
		return fmt.Errorf("%s: reserve %d bytes: %w", f.Name(), size, err)
	}
	return nil
}

// Map maps the first size bytes of f, which the caller has compared with the
// file's length. It touches no page.
func Map(f *os.File, size uint64) (*Segment, error) {
	if size == 0 || size%8 != 0 || uint64(int(size)) != size || int(size) < 0 {
		return nil, fmt.Errorf("%s: cannot map %d bytes", f.Name(), size)
	}
	m, err := mmap.MapRegion(f, int(size), mmap.RDWR, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: map %d bytes: %w", f.Name(), size, err)
	}
	s := &Segment{name: f.Name(), base: unsafe.Pointer(&m[0]), size: size}
	// The mapping goes when nobody can reach the segment any more.
	runtime.AddCleanup(s, func(m mmap.MMap) { _ = m.Unmap() }, m)
	return s, nil
}

// Name returns the file's path as it was opened.
func (s *Segment) Name() string { return s.name }

// Window returns the whole segment.
func (s *Segment) Window() Window { return Window{s.base, s.size} }

// Bytes returns the whole segment as bytes, for applications that lay out their
// own. It must not be used after Close, and the segment must be kept reachable.
func (s *Segment) Bytes() []byte { return unsafe.Slice((*byte)(s.base), s.size) }

// Close gives the memory back at once without unmapping: zeros, read-only except in
// race builds, take its place, so that a reader that is still inside finds empty words instead of
// a fault. The address range goes when the segment is no longer reachable.
func (s *Segment) Close() error {
	if s.heap != nil || s.closed.Swap(true) {
		return nil
	}
	_, err := unix.MmapPtr(-1, 0, s.base, uintptr(s.size), closedProtection,
		unix.MAP_FIXED|unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("%s: replace the mapping: %w", s.name, err)
	}
	return nil
}

// retry repeats a system call that a signal interrupted; the Go runtime sends
// itself many.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}
