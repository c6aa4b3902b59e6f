package table

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// explained are the errors that say everything themselves.
var explained = []error{ErrNoSpace, ErrNoMemory, ErrNoDescriptor, ErrAccess, ErrFileSystem, ErrLocks, ErrUnsafeFile, ErrUnsafeDir, ErrNotFound, ErrMissing, ErrOptions}

// explain adds to a system call's refusal what it means: what is needed, what is
// there, and the remedy. Other errors stay as they are.
func explain(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	for _, e := range explained {
		if errors.Is(err, e) {
			return err
		}
	}
	switch errno {
	case unix.EMFILE:
		return fmt.Errorf("%w: %w: one more needed, %d allowed by RLIMIT_NOFILE and all in use; close some or raise the limit (ulimit -n)",
			err, ErrNoDescriptor, rlimit(unix.RLIMIT_NOFILE))
	case unix.ENFILE:
		return fmt.Errorf("%w: %w: one more needed, %s on this host (fs.file-max) and all in use; raise that (sysctl fs.file-max)",
			err, ErrNoDescriptor, setting("fs/file-max"))
	case unix.ENOMEM:
		return fmt.Errorf("%w: %w: RLIMIT_AS is %s, %s pages are mapped, %s mappings are allowed; raise what is too little (ulimit -v, sysctl vm.max_map_count) or ask for less",
			err, ErrNoMemory, orUnlimited(rlimit(unix.RLIMIT_AS)), pages(), setting("vm/max_map_count"))
	case unix.ENOSPC, unix.EDQUOT:
		return fmt.Errorf("%w: %w: one more file or directory needed, none left; remove some, or raise the number (for /dev/shm: mount -o remount,nr_inodes=...) or quota",
			err, ErrNoSpace)
	case unix.EROFS:
		return fmt.Errorf("%w: %w: writing needed, the file system is mounted for reading; mount it for writing, use another Dir, or open what is there ReadOnly",
			err, ErrAccess)
	case unix.EACCES, unix.EPERM:
		return fmt.Errorf("%w: %w: user %d with group %d has not the right needed; give it, open as another user, use another Dir, or open what is there ReadOnly",
			err, ErrAccess, os.Geteuid(), os.Getegid())
	case unix.ENAMETOOLONG:
		return fmt.Errorf("%w: %w: a shorter path is needed; shorten Dir or the name", err, ErrOptions)
	case unix.ENODEV:
		return fmt.Errorf("%w: %w: shared mappings are needed, here are none; use a tmpfs such as /dev/shm", err, ErrFileSystem)
	}
	return err
}

// rlimit returns a limit of this process.
func rlimit(which int) uint64 {
	var l unix.Rlimit
	_ = unix.Getrlimit(which, &l) // only for the message
	return l.Cur
}

func orUnlimited(n uint64) string {
	if n == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return fmt.Sprint(n)
}

// setting reads one of the kernel's. Without a descriptor there is no telling.
func setting(name string) string {
	text, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return "an unknown number"
	}
	return strings.TrimSpace(string(text))
}

// pages returns how many pages this process has mapped.
func pages() string {
	text, _ := os.ReadFile("/proc/self/statm")
	if n, _, found := strings.Cut(string(text), " "); found {
		return n
	}
	return "unknown"
}
