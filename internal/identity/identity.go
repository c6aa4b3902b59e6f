// Package identity says who a process is, well enough to send it a signal and
// never to anybody else. An identity is for signalling and diagnosis; whether a
// region's owner lives is told by its lease. PROTOCOL.md, "Identity".
package identity

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

var (
	// ErrElsewhere says that a process cannot be judged from here: it belongs to
	// another boot, pid namespace or time namespace, or /proc shows another pid
	// namespace than ours.
	ErrElsewhere = errors.New("process belongs to another boot or namespace")
	// ErrGone says that a process of this boot and pid namespace no longer runs.
	// Zombies count as gone, stopped processes do not.
	ErrGone = errors.New("process is gone")
)

// Identity names one process of one boot of one machine.
type Identity struct {
	Boot         [2]uint64 // the kernel's boot id, its 16 bytes as two little-endian words
	PidNamespace uint64    // inode of the pid namespace
	Pid          uint32    // in that namespace
	UID          uint32    // effective user
	StartTicks   uint64    // clock ticks from boot to the process's start
	PidfdInode   uint64    // inode of its pidfds, 0 where the kernel gives none of their own (before Linux 6.9)
	Instance     [2]uint64 // random, tells two handles of a process apart
}

// BootID returns the kernel's boot id. It is read once.
func BootID() ([2]uint64, error) { return bootID() }

var bootID = sync.OnceValues(func() (id [2]uint64, err error) {
	const name = "/proc/sys/kernel/random/boot_id"
	text, err := os.ReadFile(name)
	if err != nil {
		return id, fmt.Errorf("boot id: %w", err)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if err != nil || len(b) != 16 {
		return id, fmt.Errorf("boot id: %s has %q, not a UUID", name, text)
	}
	return [2]uint64{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}, nil
})

// pidNamespace is the inode of the namespace that our pid is counted in; it
// never changes during a process's life.
var pidNamespace = sync.OnceValues(func() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return 0, fmt.Errorf("pid namespace: stat /proc/self/ns/pid: %w", err)
	}
	return st.Ino, nil
})

// Self returns the identity of this process, with a new random Instance. It
// needs /proc. Where pidfds are missing or forbidden PidfdInode is 0.
func Self() (Identity, error) {
	boot, err := BootID()
	if err != nil {
		return Identity{}, err
	}
	namespace, err := pidNamespace()
	if err != nil {
		return Identity{}, err
	}
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return Identity{}, fmt.Errorf("start time: %w", err)
	}
	ticks, err := parseStartTicks(stat)
	if err != nil {
		return Identity{}, fmt.Errorf("start time: /proc/self/stat: %w", err)
	}
	id := Identity{
		Boot:         boot,
		PidNamespace: namespace,
		Pid:          uint32(os.Getpid()),
		UID:          uint32(os.Geteuid()),
		StartTicks:   ticks,
	}
	if fd, err := pidfdOpen(os.Getpid()); err == nil {
		id.PidfdInode, err = pidfdInode(fd)
		unix.Close(fd)
		if err != nil {
			return Identity{}, err
		}
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	id.Instance = [2]uint64{binary.LittleEndian.Uint64(random[:]), binary.LittleEndian.Uint64(random[8:])}
	return id, nil
}

// Store writes the identity into a region, which the caller is claiming.
func (id Identity) Store(r *layout.Region) {
	r.BootID[0].Store(id.Boot[0])
	r.BootID[1].Store(id.Boot[1])
	r.PidNamespace.Store(id.PidNamespace)
	r.Pid.Store(id.Pid)
	r.UID.Store(id.UID)
	r.StartTicks.Store(id.StartTicks)
	r.PidfdInode.Store(id.PidfdInode)
	r.Instance[0].Store(id.Instance[0])
	r.Instance[1].Store(id.Instance[1])
}

// Load reads the identity from a region. It is of one owner only if the
// region's State was CLAIMED and is unchanged afterwards.
func Load(r *layout.Region) Identity {
	return Identity{
		Boot:         [2]uint64{r.BootID[0].Load(), r.BootID[1].Load()},
		PidNamespace: r.PidNamespace.Load(),
		Pid:          r.Pid.Load(),
		UID:          r.UID.Load(),
		StartTicks:   r.StartTicks.Load(),
		PidfdInode:   r.PidfdInode.Load(),
		Instance:     [2]uint64{r.Instance[0].Load(), r.Instance[1].Load()},
	}
}
