package identity

import (
	"fmt"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/step"
)

// Process is an open pidfd of a process whose identity was verified. Its methods
// may be called concurrently, except Close.
type Process struct {
	fd    int
	pid   int
	exact bool // its identity was proved by the pidfd's inode
}

// Open opens the very process that id names, or fails: ErrElsewhere if that
// cannot be judged from here, ErrGone if it runs no more, another error if the
// kernel refuses pidfds or /proc hides the process. It costs some 50 us.
//
// An id of garbage gives an error too: the pid's process has to agree with it.
func (id Identity) Open() (*Process, error) {
	here, err := Here()
	if err != nil {
		return nil, err
	}
	p, err := here.Pin(id)
	if err != nil {
		return nil, err
	}
	if err := p.started(id); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Here returns this process's place, or ErrElsewhere if /proc shows another one.
func Here() (here Place, err error) {
	if here.boot, err = BootID(); err != nil {
		return here, err
	}
	if here.namespace, err = pidNamespace(); err != nil {
		return here, err
	}
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return here, fmt.Errorf("%w: %w", ErrElsewhere, err)
	}
	if self != strconv.Itoa(os.Getpid()) {
		return here, fmt.Errorf("%w: /proc calls us %s, we are %d", ErrElsewhere, self, os.Getpid())
	}
	return here, nil
}

// has returns nil if id's pid means the same process to it and to us.
func (here Place) has(id Identity) error {
	if id.Boot != here.boot {
		return fmt.Errorf("pid %d: %w: boot %x, this is %x", id.Pid, ErrElsewhere, id.Boot, here.boot)
	}
	if id.PidNamespace != here.namespace {
		return fmt.Errorf("pid %d: %w: pid namespace %d, ours is %d", id.Pid, ErrElsewhere, id.PidNamespace, here.namespace)
	}
	return nil
}

// Pin is Open with the least that proves the process to be id's: the inode of its
// pidfd or, where there is none of its own, the start time.
func (here Place) Pin(id Identity) (*Process, error) {
	if err := here.has(id); err != nil {
		return nil, err
	}
	fd, err := pidfdOpen(int(id.Pid))
	switch {
	case err == unix.ESRCH, err == unix.ENOENT, err == unix.EINVAL: // the last two: a thread has the number, or none can
		return nil, fmt.Errorf("pid %d: %w: %w", id.Pid, ErrGone, err)
	case err != nil:
		return nil, fmt.Errorf("pid %d: pidfd_open: %w", id.Pid, err)
	}
	p := &Process{fd: fd, pid: int(id.Pid)}
	if err := p.verify(id); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// verify compares the process behind the pidfd with id.
func (p *Process) verify(id Identity) error {
	inode, err := pidfdInode(p.fd)
	if err != nil {
		return err
	}
	p.exact = id.PidfdInode != 0 && inode != 0
	switch {
	case !p.exact:
		return p.started(id)
	case inode != id.PidfdInode:
		return fmt.Errorf("pid %d: %w: pidfd inode %d, it had %d", p.pid, ErrGone, inode, id.PidfdInode)
	}
	return nil
}

// started compares the process's start time with id's.
func (p *Process) started(id Identity) error {
	stat, err := p.read("stat")
	if err != nil {
		return err
	}
	ticks, err := parseStartTicks(stat)
	if err != nil {
		return fmt.Errorf("pid %d: start time: %w", p.pid, err)
	}
	switch {
	case ticks == id.StartTicks:
		return nil
	case p.exact: // the same process by its inode: it counts time from elsewhere
		return fmt.Errorf("pid %d: %w: started at tick %d, says %d", p.pid, ErrElsewhere, ticks, id.StartTicks)
	}
	return fmt.Errorf("pid %d: %w: its successor started at tick %d, it at %d", p.pid, ErrGone, ticks, id.StartTicks)
}

// running returns ErrGone once the process has exited, reaped or not.
func (p *Process) running() error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 0)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("pid %d: poll: %w", p.pid, err)
		case n != 0:
			return fmt.Errorf("pid %d: %w: it has exited", p.pid, ErrGone)
		default:
			return nil
		}
	}
}

// read reads a file of /proc/PID. The pidfd was opened before and is looked at
// afterwards: while its process runs the pid is its own, so what /proc said of
// the pid was said of that process.
func (p *Process) read(name string) ([]byte, error) {
	text, err := readAll("/proc/" + strconv.Itoa(p.pid) + "/" + name)
	if gone := p.running(); gone != nil {
		return nil, gone
	}
	return text, err
}

// Catches reports whether the process has a handler for sig at this moment. An
// exec takes handlers away without a change of identity.
func (p *Process) Catches(sig unix.Signal) (bool, error) {
	if sig < 1 || sig > 64 {
		return false, fmt.Errorf("pid %d: signal %d: %w", p.pid, sig, unix.EINVAL)
	}
	status, err := p.read("status")
	if err != nil {
		return false, err
	}
	caught, err := parseCaught(status)
	if err != nil {
		return false, fmt.Errorf("pid %d: caught signals: %w", p.pid, err)
	}
	return caught>>(sig-1)&1 != 0, nil
}

// A Thread of a process is another than its first. It ends with any exec of the process,
// and with it the signals on their way to it: whoever the process becomes gets none.
type Thread struct {
	of  *Process
	fd  int // thread pidfd, or -1 where the kernel has none (before Linux 6.9)
	tid int
}

// pidfdThread is PIDFD_THREAD of Linux 6.9.
const pidfdThread = unix.O_EXCL

// Thread pins a thread of the process by its number, ErrGone if it has none such but its
// first. The caller closes it.
func (p *Process) Thread(tid uint32) (*Thread, error) {
	t := &Thread{p, -1, int(tid)}
	if tid == 0 || tid > math.MaxInt32 || t.tid == p.pid {
		return nil, fmt.Errorf("pid %d: thread %d: %w: not a thread of its own", p.pid, tid, ErrGone)
	}
	fd, err := retry(func() (int, error) { return unix.PidfdOpen(t.tid, pidfdThread) })
	switch err {
	case nil:
		t.fd = fd
	case unix.EINVAL: // an older kernel: the numbers of process and thread together have to do
	case unix.ESRCH, unix.ENOENT:
		return nil, fmt.Errorf("pid %d: thread %d: %w: %w", p.pid, tid, ErrGone, err)
	default:
		return nil, fmt.Errorf("pid %d: thread %d: pidfd_open: %w", p.pid, tid, err)
	}
	// Looked for after it was pinned, and before the look whether the process runs.
	if _, err := p.read("task/" + strconv.Itoa(t.tid) + "/comm"); err != nil {
		t.Close()
		return nil, fmt.Errorf("pid %d: thread %d: %w: %w", p.pid, tid, ErrGone, err)
	}
	return t, nil
}

// Signal sends sig to this thread and to no other, ErrGone if it has ended.
func (t *Thread) Signal(sig unix.Signal) (err error) {
	if t.fd >= 0 {
		step.Here()
		err = unix.PidfdSendSignal(t.fd, sig, nil, 0)
	} else {
		step.Here()
		err = unix.Tgkill(t.of.pid, t.tid, sig)
	}
	switch err {
	case nil:
		return nil
	case unix.ESRCH:
		return fmt.Errorf("pid %d: thread %d: signal %d: %w: %w", t.of.pid, t.tid, sig, ErrGone, err)
	}
	return fmt.Errorf("pid %d: thread %d: signal %d: %w", t.of.pid, t.tid, sig, err)
}

// Close lets the thread go.
func (t *Thread) Close() {
	if t.fd >= 0 {
		_ = unix.Close(t.fd)
	}
}

// Close closes the pidfd. The Process must not be used any more.
func (p *Process) Close() { unix.Close(p.fd) }
