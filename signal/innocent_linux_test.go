//go:build linux

package signal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/identity"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Attempts to hit a process that never asked for the signal.
const (
	innocents     = 1000
	longInnocents = 10_000
)

// All of it happens in a pid namespace of its own, where the next pid can be chosen
// and process 1 is ours.
func TestRing_Innocents_NeverHit(t *testing.T) {
	attempts, seed := innocents, uint64(time.Now().UnixNano())
	if os.Getenv("FLAGSTONE_LONG") != "" {
		attempts = longInnocents
	}
	t.Logf("seed %d", seed)
	s := sharedSegment(t)
	cmd := exec.Command("/proc/self/exe", s.Name(), strconv.Itoa(attempts), strconv.FormatUint(seed, 10))
	cmd.Env = append(os.Environ(), roleVariable+"=innocents")
	users := 1
	if os.Getuid() == 0 {
		users = 65536
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		UidMappings:                []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: users}},
		GidMappings:                []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: users}},
		GidMappingsEnableSetgroups: users > 1,
		Pdeathsig:                  unix.SIGKILL,
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	switch err := cmd.Run(); {
	case errors.Is(err, unix.EPERM), strings.Contains(out.String(), "SKIP"):
		t.Skipf("namespaces are not available: %v %s", err, out.String())
	case err != nil:
		t.Fatalf("%v: %s", err, out.String())
	}
	t.Log(out.String())
}

// trial is what childInnocents has to try with.
type trial struct {
	s      *shm.Segment
	r      *layout.Region
	random *rand.Rand
	counts map[string]int // attempts, by what was tried and the answer
}

// childInnocents is process 1 of a pid namespace.
func childInnocents(s *shm.Segment) error {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fmt.Println("SKIP", err)
		return nil
	}
	attempts, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(os.Args[3], 10, 64)
	if err != nil {
		return err
	}
	t := &trial{s, region(s), rand.New(rand.NewPCG(seed, 0)), map[string]int{}}
	for _, kind := range []struct {
		name  string
		share int // of 20
		try   func(attempts int) error
	}{
		{"pid recycled", 8, t.recycled},
		{"owner execed", 4, t.execed},
		{"handler removed", 4, t.removed},
		{"forged", 4, t.forged},
	} {
		if err := kind.try(attempts * kind.share / 20); err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
	}
	total := 0
	for what, n := range t.counts {
		fmt.Printf("%6d  %s\n", n, what)
		total += n
	}
	fmt.Printf("%6d  attempts in all, nobody hit\n", total)
	return nil
}

// ring rings as if the region's owner slept, and wants no signal to be sent.
func (t *trial) ring(what string) error {
	t.r.Sleeping.Store(1)
	err := Ring(t.r, 1, live)
	if !errors.Is(err, ErrNotSent) {
		return fmt.Errorf("%s: a signal was sent: %w", what, err)
	}
	for _, why := range []error{identity.ErrGone, identity.ErrElsewhere, ErrNoHandler, ErrSignal, unix.EPERM} {
		if errors.Is(err, why) {
			t.counts[fmt.Sprintf("%s: %v", what, why)]++
			return nil
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// claimFor makes the region that of a process, asleep, to be woken by SIGUSR1. What the
// kernel says of it is public: so are forged regions.
func (t *trial) claimFor(pid int) error {
	id, err := identityOf(pid)
	if err != nil {
		return err
	}
	id.Store(t.r)
	t.r.State.Store((t.r.State.Load()>>layout.StateGenerationShift+1)<<layout.StateGenerationShift | layout.RegionClaimed)
	pretend(t.r, unix.SIGUSR1)
	if t.random.IntN(2) == 0 { // there is a thread of that number, but not one to be signalled
		t.r.WakeThread.Store(uint32(pid))
	}
	return nil
}

// identityOf is what the process would say of itself.
func identityOf(pid int) (identity.Identity, error) {
	id, err := identity.Self()
	if err != nil {
		return id, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return id, err
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if id.StartTicks, err = strconv.ParseUint(string(fields[19]), 10, 64); err != nil {
		return id, err
	}
	id.Pid = uint32(pid)
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return id, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return id, err
	}
	if id.PidfdInode != 0 { // else this kernel has none
		id.PidfdInode = st.Ino
	}
	return id, nil
}

// innocent is a process without a handler, which SIGUSR1 would kill.
func innocent(attr *syscall.SysProcAttr) (*exec.Cmd, error) {
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = attr
	return cmd, cmd.Start()
}

// unharmed ends an innocent and wants it to die of that alone: of pending signals the
// lower number is taken first.
func unharmed(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	_ = cmd.Wait()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != unix.SIGTERM {
		return fmt.Errorf("process %d was hit: %v", cmd.Process.Pid, cmd.ProcessState)
	}
	return nil
}

// recycled: the owner dies, and its pid comes again. Its region stands as it was, or
// knows no inode, as on older kernels, or not even the right start.
func (t *trial) recycled(attempts int) error {
	for n := 0; n < attempts; {
		owner, err := innocent(nil)
		if err != nil {
			return err
		}
		if err := t.claimFor(owner.Process.Pid); err != nil {
			return err
		}
		if n%3 > 0 {
			t.r.PidfdInode.Store(0)
		}
		if err := unharmed(owner); err != nil {
			return err
		}
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(owner.Process.Pid-1)), 0); err != nil {
			return err
		}
		heir, err := innocent(nil)
		if err != nil {
			return err
		}
		if heir.Process.Pid != owner.Process.Pid { // a thread of ours took the number, and keeps it: another one
			if err := unharmed(heir); err != nil {
				return fmt.Errorf("before anything was rung: %w", err)
			}
			continue
		}
		if n%3 > 1 { // the tick is the same by chance, or forged
			id, err := identityOf(heir.Process.Pid)
			if err != nil {
				return err
			}
			t.r.StartTicks.Store(id.StartTicks)
		}
		if err := t.ring("pid recycled, " + []string{"inode", "start", "start in the same tick"}[n%3]); err != nil {
			return err
		}
		if err := unharmed(heir); err != nil {
			return err
		}
		n++
	}
	return nil
}

// execed: the owner, a process of this library, calls exec. Each is rung many times,
// as if a child of it still had its lease.
func (t *trial) execed(attempts int) error {
	for rung := 0; rung < attempts; {
		c, err := spawn("exec", t.s)
		if err != nil {
			return err
		}
		if !eventually(func() bool { return isSleep(c.cmd.Process.Pid) }) {
			return errors.New("no exec")
		}
		for ; rung < attempts && t.random.IntN(50) > 0; rung++ {
			if err := t.ring("owner execed"); err != nil {
				return err
			}
		}
		if err := unharmed(c.cmd); err != nil {
			return err
		}
	}
	return nil
}

// removed: the owner's handler comes and goes. While it is there the signal arrives.
func (t *trial) removed(attempts int) error {
	c, err := spawn("fickle", t.s)
	if err != nil {
		return err
	}
	defer c.kill()
	if err := t.claimFor(c.cmd.Process.Pid); err != nil {
		return err
	}
	number, err := strconv.ParseUint(c.line(), 10, 32)
	if err != nil {
		return err
	}
	t.r.WakeThread.Store(uint32(number))
	say := func(word, want string) error {
		if word != "" {
			if _, err := fmt.Fprintln(c.in, word); err != nil {
				return err
			}
		}
		if line := c.line(); line != want {
			return fmt.Errorf("owner says %q, want %q", line, want)
		}
		return nil
	}
	for range max(attempts/10, 1) {
		if err := say("on", "on"); err != nil {
			return err
		}
		t.r.Sleeping.Store(1)
		if err := Ring(t.r, 1, live); err != nil {
			return fmt.Errorf("with a handler: %w", err)
		}
		if err := say("", "heard"); err != nil {
			return err
		}
		if err := say("off", "off"); err != nil {
			return err
		}
		for range 10 {
			if err := t.ring("handler removed"); err != nil {
				return err
			}
		}
	}
	return nil
}

// childFickle has a thread for SIGUSR1, whose number it says, and a handler when it is
// told to.
func childFickle(*shm.Segment) error {
	heard := make(chan os.Signal, 1)
	go func() {
		for range heard {
			fmt.Println("heard")
		}
	}()
	fmt.Println("ready")
	fmt.Println(ownThread())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if in.Text() == "on" {
			signal.Notify(heard, unix.SIGUSR1)
		} else {
			signal.Ignore(unix.SIGUSR1)
		}
		fmt.Println(in.Text())
	}
	return nil
}

// forged: the region names somebody else, with all that the kernel says of it or with
// what the forger has of its own. The forger, this process, is no innocent: Go has
// handlers for all signals.
func (t *trial) forged(attempts int) error {
	mine, err := innocent(nil)
	if err != nil {
		return err
	}
	victims := []*exec.Cmd{mine}
	if foreign, err := innocent(&syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}); err == nil {
		victims = append(victims, foreign)
	} else {
		fmt.Println("no process of another user:", err)
	}
	forger, err := identity.Self()
	if err != nil {
		return err
	}
	for n := range attempts {
		victim := victims[n%len(victims)].Process.Pid
		if err := t.claimFor(victim); err != nil {
			return err
		}
		what := "forged: everything"
		switch n % 5 {
		case 1:
			what = "forged: the pid only"
			forger.Pid = uint32(victim)
			forger.Store(t.r)
		case 2:
			what = "forged: all but the inode"
			t.r.PidfdInode.Store(0)
		case 3:
			what = "forged: everything, and any signal"
			t.r.WakeSignal.Store(t.random.Uint32() >> t.random.IntN(32))
		case 4:
			what = "forged: pids that are none"
			t.r.Pid.Store([]uint32{0, 1 << 31, 1<<32 - 1, 1<<22 + 1, 1}[t.random.IntN(5)])
		}
		if err := t.ring(what); err != nil {
			return fmt.Errorf("pid %d: %w", t.r.Pid.Load(), err)
		}
	}
	for _, v := range victims {
		if err := unharmed(v); err != nil {
			return err
		}
	}
	return nil
}
