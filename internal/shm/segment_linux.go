package shm

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/step"
)

// Create makes the file name in the directory, which must not exist, reserves
// its blocks and maps it. It touches no page. On failure there is no file.
func Create(dir *os.File, name string, size uint64, perm os.FileMode) (*Segment, *os.File, error) {
	step.Here()
	f, err := openAt(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, perm)
	if err != nil {
		return nil, nil, err
	}
	s, err := reserveAndMap(f, size)
	if err != nil {
		f.Close()
		step.Here()
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
	flags := unix.O_RDWR
	if create {
		step.Here()
		flags |= unix.O_CREAT
	}
	return openAt(dir, name, flags, perm)
}

// OpenReadOnly opens name in the directory for reading. Links are not followed.
func OpenReadOnly(dir *os.File, name string) (*os.File, error) {
	return openAt(dir, name, unix.O_RDONLY, 0)
}

func openAt(dir *os.File, name string, flags int, perm os.FileMode) (*os.File, error) {
	path := dir.Name() + "/" + name
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
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

// Release gives the pages of the first size bytes of f back, though others map it:
// they read zeros from then on, and what they touch takes a page again. Where the
// file system cannot, nothing happens and the pages go with the last mapping.
func Release(f *os.File, size uint64) error {
	end := (size | 4095) + 1 // whole pages, and never none, which the kernel refuses
	step.Here()
	_, err := retry(func() (int, error) {
		return 0, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, int64(end))
	})
	if err != nil && err != unix.EOPNOTSUPP && err != unix.ENOSYS {
		return fmt.Errorf("%s: release %d bytes: %w", f.Name(), size, err)
	}
	return nil
}

// Map maps the first size bytes of f, which the caller has compared with the
// file's length. It touches no page.
func Map(f *os.File, size uint64) (*Segment, error) { return mapFile(f, size, mmap.RDWR) }

// MapReadOnly is Map for who only looks: a store faults, and is ErrFault.
func MapReadOnly(f *os.File, size uint64) (*Segment, error) { return mapFile(f, size, mmap.RDONLY) }

func mapFile(f *os.File, size uint64, protection int) (*Segment, error) {
	if size == 0 || size%8 != 0 || uint64(int(size)) != size || int(size) < 0 {
		return nil, fmt.Errorf("%s: cannot map %d bytes", f.Name(), size)
	}
	if err := NotForked(); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	m, err := mmap.MapRegion(f, int(size), protection, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: map %d bytes: %w", f.Name(), size, err)
	}
	if err := keepFromChildren(m); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), m.Unmap())
	}
	s := &Segment{name: f.Name(), base: unsafe.Pointer(&m[0]), size: size}
	// The mapping goes when nobody can reach the segment any more.
	runtime.AddCleanup(s, func(m mmap.MMap) {
		if !Forked() { // a child has no such mapping, and may have another thing there
			_ = m.Unmap()
		}
	}, m)
	return s, nil
}

// clear puts zeros in the place of the mapping.
func (s *Segment) clear() error {
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
