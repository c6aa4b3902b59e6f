package table

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/internal/step"
)

// ofd runs one lock command on bytes of f, which stays open meanwhile.
func ofd(f *os.File, command int, kind int16, first, count int64) (unix.Flock_t, error) {
	if shm.Forked() { // the description is the parent's too: what a child unlocks, the parent has lost
		return unix.Flock_t{}, ErrForked
	}
	l := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: first, Len: count}
	c, err := f.SyscallConn()
	if err != nil {
		return l, err
	}
	var errno error
	err = c.Control(func(fd uintptr) {
		for errno = unix.EINTR; errno == unix.EINTR; {
			errno = flock(fd, command, &l)
		}
	})
	if err == nil {
		err = errno
	}
	switch err {
	case unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP: // the request itself is in order
		err = fmt.Errorf("%w: Linux 3.15 is needed, here the kernel, a sandbox or the file system has none; run outside the sandbox, or in a tmpfs such as /dev/shm: %w", ErrLocks, err)
	case unix.ENOLCK:
		err = fmt.Errorf("%w: the system has no more room for one: %w", ErrLocks, err)
	}
	return l, err
}

// flock is replaced by the test of what is said about it.
var flock = unix.FcntlFlock

// tryLock takes the lock of one byte if nobody else has it.
func tryLock(f *os.File, b int64) (ok bool, err error) { return tryLocks(f, b, 1) }

// tryLocks takes the locks of all those bytes if nobody else has any of them.
func tryLocks(f *os.File, b, count int64) (ok bool, err error) {
	step.Here()
	_, err = ofd(f, unix.F_OFD_SETLK, unix.F_WRLCK, b, count)
	switch err {
	case nil:
		return true, nil
	case unix.EAGAIN, unix.EACCES:
		return false, nil
	}
	return false, fmt.Errorf("%s: lock byte %#x: %w", f.Name(), b, err)
}

func unlock(f *os.File, b int64) error { return unlocks(f, b, 1) }

func unlocks(f *os.File, b, count int64) error {
	step.Here()
	if _, err := ofd(f, unix.F_OFD_SETLK, unix.F_UNLCK, b, count); err != nil {
		return fmt.Errorf("%s: unlock byte %#x: %w", f.Name(), b, err)
	}
	return nil
}

// lockedByOthers reports whether another description holds any of the bytes. It
// must not be asked about bytes that f itself has locked: the kernel calls them free.
func lockedByOthers(f *os.File, first, count int64) (bool, error) {
	l, err := ofd(f, unix.F_OFD_GETLK, unix.F_WRLCK, first, count)
	if err != nil {
		return false, fmt.Errorf("%s: ask for the lock of byte %#x: %w", f.Name(), first, err)
	}
	return l.Type != unix.F_UNLCK, nil
}
