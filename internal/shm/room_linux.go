package shm

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/cgroup"
	"github.com/flagstone-shm/flagstone/internal/step"
)

// Room returns ErrNoSpace if the file system that f is on has not size bytes free, and
// ErrNoSpace with ErrNoMemory if its pages are memory and this process's control groups
// leave less: the kernel would not refuse, but kill. Both say what is needed, what there
// is, and what to do.
func Room(f *os.File, size uint64) error {
	var fs unix.Statfs_t
	if err := statfs(f, &fs); err != nil {
		return err
	}
	if free := fs.Bavail * uint64(fs.Bsize); fs.Blocks != 0 && free < size { // 0 is a tmpfs without limit
		return noSpace(f, size, free, unix.ENOSPC)
	}
	if memory := fileSystems[int64(uint32(fs.Type))].memory; !memory {
		return nil
	}
	if group, limited := groupMemory(); limited && group.Free < size {
		return fmt.Errorf("%s: %w: %w: %d bytes needed, %d free of the %d in %s; raise that limit or ask for less",
			f.Name(), ErrNoSpace, ErrNoMemory, size, group.Free, group.Limit, group.File)
	}
	return nil
}

// groupMemory is replaced by the test of what is said about it.
var groupMemory = func() (cgroup.Room, bool) { return cgroup.Memory(os.DirFS("/")) }

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
	return allocate(f, size)
}

// allocate is Reserve without asking.
func allocate(f *os.File, size uint64) error {
	step.Here()
	_, err := retry(func() (int, error) { return 0, unix.Fallocate(int(f.Fd()), 0, 0, int64(size)) })
	if err == unix.EOPNOTSUPP { // ramfs, ext3
		err = writeZeros(f, size)
	}
	switch err {
	case nil:
		return nil
	case unix.ENOSPC, unix.EDQUOT: // since Room has looked
		var fs unix.Statfs_t
		_ = statfs(f, &fs) // only for the message
		return noSpace(f, size, fs.Bavail*uint64(fs.Bsize), err)
	case unix.EFBIG:
		var limit unix.Rlimit
		_ = unix.Getrlimit(unix.RLIMIT_FSIZE, &limit) // only for the message
		return fmt.Errorf("%s: %w: a file of %d bytes needed, %d allowed by RLIMIT_FSIZE; raise that (ulimit -f), use a file system for larger files or ask for less: %w",
			f.Name(), ErrNoSpace, size, limit.Cur, err)
	}
	return fmt.Errorf("%s: reserve %d bytes: %w", f.Name(), size, err)
}

// writeZeros is what fallocate does, on file systems without.
func writeZeros(f *os.File, size uint64) error {
	zeros := make([]byte, min(size, 1<<20))
	for at := uint64(0); at < size; {
		part := zeros[:min(size-at, uint64(len(zeros)))]
		step.Here()
		n, err := retry(func() (int, error) { return unix.Pwrite(int(f.Fd()), part, int64(at)) })
		if err != nil {
			return err
		}
		at += uint64(n)
	}
	return nil
}

func statfs(f *os.File, fs *unix.Statfs_t) error {
	if _, err := retry(func() (int, error) { return 0, unix.Fstatfs(int(f.Fd()), fs) }); err != nil {
		return &os.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	return nil
}
