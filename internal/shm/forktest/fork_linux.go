// Package forktest forks test processes without exec, which Go itself never does but
// programs that embed it may.
package forktest

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// Child is a copy of this process: of its threads it has one, which runs what Fork was
// given.
type Child struct {
	Pid  int
	said *os.File
}

// Fork makes a copy of this process that runs f and exits. F tells the parent what it
// has found with say. A copy has one thread of the many that Go's runtime knows of, so f
// must not wait for goroutines, and the process should have GOMAXPROCS=1 and GOGC=off.
func Fork(f func(say func(format string, args ...any))) (*Child, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	signal.Ignore(unix.SIGPIPE)
	out := int(w.Fd())
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return nil, fmt.Errorf("fork: %w", errno)
	}
	if pid == 0 {
		status := uintptr(2) // f panics
		func() {
			defer func() { _ = recover() }()
			f(func(format string, args ...any) { _, _ = unix.Write(out, fmt.Appendf(nil, format+"\n", args...)) })
			status = 0
		}()
		for {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, status, 0, 0)
		}
	}
	return &Child{int(pid), r}, w.Close()
}

// Line returns the first line that the child says, leaving it to itself.
func (c *Child) Line(patience time.Duration) (string, error) {
	var line []byte
	var b [1]byte
	_ = c.said.SetReadDeadline(time.Now().Add(patience))
	for {
		n, err := c.said.Read(b[:])
		switch {
		case err != nil:
			return "", fmt.Errorf("child said %q: %w", line, err)
		case n > 0 && b[0] == '\n':
			return string(line), nil
		}
		line = append(line, b[:n]...)
	}
}

// Wait returns what the child says until it exits, and an error if it has not within
// patience, when it is killed, or exits otherwise than by itself.
func (c *Child) Wait(patience time.Duration) (said string, err error) {
	defer c.said.Close()
	watchdog := time.AfterFunc(patience, func() { _ = unix.Kill(c.Pid, unix.SIGKILL) })
	var all bytes.Buffer
	_, _ = all.ReadFrom(c.said)
	var status unix.WaitStatus
	for err = unix.EINTR; err == unix.EINTR; {
		_, err = unix.Wait4(c.Pid, &status, 0, nil)
	}
	watchdog.Stop()
	if err == nil && status != 0 {
		err = fmt.Errorf("child ended with status %#x", int(status))
	}
	return all.String(), err
}

// Linger sleeps until the process is killed, for some minutes at most. It is for f.
func Linger() {
	for range 3000 {
		ts := unix.NsecToTimespec(int64(100 * time.Millisecond))
		_ = unix.Nanosleep(&ts, nil)
	}
}
