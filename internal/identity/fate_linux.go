package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Fate tells whether the process that id names is still there. Gone is proof, unlike
// ErrGone, which only forbids a signal: in the id's own boot and pid namespace nobody
// has its pid, or another process, or it has exited; zombies can touch nothing any more.
// The error says why the fate is Unknown. It costs some 15 us.
func (id Identity) Fate() (Fate, error) {
	const mostPid = 1 << 22 // of Linux
	if id.Pid == 0 || id.Pid > mostPid {
		return Unknown, fmt.Errorf("no process can have pid %d", id.Pid)
	}
	here, err := Here()
	if err == nil {
		err = here.has(id)
	}
	if err != nil {
		return Unknown, err
	}
	fd, err := pidfdOpen(int(id.Pid))
	switch {
	case err == unix.ESRCH, err == unix.ENOENT, err == unix.EINVAL: // the last two: a thread has the number
		return Gone, nil
	case err != nil:
		return Unknown, fmt.Errorf("pid %d: pidfd_open: %w", id.Pid, err)
	}
	p := &Process{fd: fd, pid: int(id.Pid)}
	defer p.Close()
	return p.fate(id)
}

// fate compares the process that has the pid of id now with id.
func (p *Process) fate(id Identity) (Fate, error) {
	inode, err := pidfdInode(p.fd)
	if err != nil {
		return Unknown, err
	}
	exact := inode != 0 && id.PidfdInode != 0
	if exact && inode != id.PidfdInode {
		return Gone, nil
	}
	stat, err := p.read("stat")
	switch {
	case errors.Is(err, ErrGone): // it, or one that had the pid after it
		return Gone, nil
	case err != nil && exact: // hidden, but there
		return Running, nil
	case err != nil:
		return Unknown, err
	}
	if !exact {
		ticks, err := parseStartTicks(stat)
		if err != nil {
			return Unknown, fmt.Errorf("pid %d: start time: %w", p.pid, err)
		}
		if ticks != id.StartTicks {
			if err := p.sameTime(); err != nil {
				return Unknown, err
			}
			return Gone, nil
		}
	}
	if rest := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]); len(rest) > 0 && (rest[0][0] == 'T' || rest[0][0] == 't') {
		return Stopped, nil
	}
	return Running, nil
}

// sameTime returns nil if the process counts time from boot as this one does.
func (p *Process) sameTime() error {
	ours, err := os.Readlink("/proc/self/ns/time")
	if errors.Is(err, fs.ErrNotExist) { // before Linux 5.6 everybody does
		return nil
	}
	if err != nil {
		return fmt.Errorf("time namespace: %w", err)
	}
	theirs, err := os.Readlink("/proc/" + strconv.Itoa(p.pid) + "/ns/time")
	if err != nil {
		return fmt.Errorf("pid %d: time namespace: %w", p.pid, err)
	}
	if ours != theirs {
		return fmt.Errorf("pid %d: %w: %s, ours is %s", p.pid, ErrElsewhere, theirs, ours)
	}
	return nil
}

// Openers returns the processes that have the file open, of those that this one may
// look into, itself included. It looks at every descriptor of the machine: for people,
// not for programs.
func Openers(f *os.File) (pids []int, err error) {
	var mine unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &mine); err != nil {
		return nil, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return nil, err
	}
	name := filepath.Base(f.Name())
	for _, fd := range fds {
		// By name first: of other files not even the size is asked for, which may be far away.
		path, err := os.Readlink(fd)
		if err != nil || filepath.Base(strings.TrimSuffix(path, " (deleted)")) != name {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(fd, &st) != nil || st.Ino != mine.Ino || st.Dev != mine.Dev {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(fd, "/")[2])
		if err == nil && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}
