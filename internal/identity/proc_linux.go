package identity

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// parseStartTicks finds field 22. Field 2 is the command in parentheses and may
// hold spaces, newlines and parentheses itself; no later field has one.
func parseStartTicks(stat []byte) (uint64, error) {
	const startField, firstAfterCommand = 22, 3
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= startField-firstAfterCommand {
		return 0, fmt.Errorf("no field %d in %q", startField, stat)
	}
	return strconv.ParseUint(string(fields[startField-firstAfterCommand]), 10, 64)
}

// parseCaught reads the set of caught signals, bit n-1 for signal n, from a
// status file. The kernel escapes newlines in the Name line.
func parseCaught(status []byte) (uint64, error) {
	for line := range bytes.Lines(status) {
		if text, ok := bytes.CutPrefix(line, []byte("SigCgt:")); ok {
			return strconv.ParseUint(string(bytes.TrimSpace(text)), 16, 64)
		}
	}
	return 0, fmt.Errorf("no SigCgt line in %q", status)
}

// pidfdOpen opens a pidfd, close-on-exec.
func pidfdOpen(pid int) (fd int, err error) {
	return retry(func() (int, error) { return unix.PidfdOpen(pid, 0) })
}

// pidfdInode returns the inode of a pidfd, which no other process of this boot
// ever had or will have, or 0 where all pidfds share one.
func pidfdInode(fd int) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return 0, fmt.Errorf("pidfd: statfs: %w", err)
	}
	if uint32(fs.Type) != unix.PID_FS_MAGIC {
		return 0, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("pidfd: stat: %w", err)
	}
	return st.Ino, nil
}

// readAll reads a file of /proc, which is os.ReadFile without the calls that find out
// how large a file is and whether it can be waited for.
func readAll(name string) ([]byte, error) {
	fd, err := retry(func() (int, error) { return unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 4096)
	for {
		n, err := retry(func() (int, error) { return unix.Read(fd, text[len(text):cap(text)]) })
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: name, Err: err}
		}
		if n == 0 {
			return text, nil
		}
		if text = text[:len(text)+n]; len(text) == cap(text) {
			text = slices.Grow(text, len(text))
		}
	}
}

// retry repeats a system call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}
