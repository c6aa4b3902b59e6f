package table

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// Locks here belong to the open file description of `control`: they go when its
// last descriptor and its mapping are gone or its process dies, and no other
// description of the same file matters. Classic POSIX locks would vanish with any of them.

// leaseByte is the byte whose lock is region i's lease.
func leaseByte(i int) int64 { return layout.LeaseByte + int64(i) }

// ofd runs one lock command on bytes of f, which stays open meanwhile.
func ofd(f *os.File, command int, kind int16, first, count int64) (unix.Flock_t, error) {
	l := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: first, Len: count}
	c, err := f.SyscallConn()
	if err != nil {
		return l, err
	}
	var errno error
	err = c.Control(func(fd uintptr) {
		for errno = unix.EINTR; errno == unix.EINTR; {
			errno = unix.FcntlFlock(fd, command, &l)
		}
	})
	if err == nil {
		err = errno
	}
	return l, err
}

// tryLock takes the lock of one byte if nobody else has it.
func tryLock(f *os.File, b int64) (ok bool, err error) {
	_, err = ofd(f, unix.F_OFD_SETLK, unix.F_WRLCK, b, 1)
	switch err {
	case nil:
		return true, nil
	case unix.EAGAIN, unix.EACCES:
		return false, nil
	}
	return false, fmt.Errorf("%s: lock byte %#x: %w", f.Name(), b, err)
}

func unlock(f *os.File, b int64) error {
	if _, err := ofd(f, unix.F_OFD_SETLK, unix.F_UNLCK, b, 1); err != nil {
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

const (
	firstBackoff   = 100 * time.Microsecond
	longestBackoff = 10 * time.Millisecond
)

// awaitLock takes the lock of one byte, ErrBusy if ctx ends first. There is no
// way to wait in the kernel that a context could end.
func awaitLock(ctx context.Context, f *os.File, b int64) error {
	for nap := firstBackoff; ; nap = min(2*nap, longestBackoff) {
		if ok, err := tryLock(f, b); ok || err != nil {
			return err
		}
		if err := pause(ctx, nap); err != nil {
			return fmt.Errorf("%s: lock byte %#x: %w: %w", f.Name(), b, ErrBusy, err)
		}
	}
}

// pause sleeps for about d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
