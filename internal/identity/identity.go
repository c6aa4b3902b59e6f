// Package identity says who a process is, well enough to send it a signal and
// never to anybody else. An identity is for signalling and diagnosis; whether a
// region's owner lives is told by its lease, and by its identity only where a child of
// the dead keeps that. PROTOCOL.md, "Identity".
package identity

import (
	"errors"

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

// Fate is what is known of a process.
type Fate int

const (
	Unknown Fate = iota // it cannot be judged from here
	Running
	Stopped // by a signal or a debugger
	Gone    // it does not exist any more, or has exited
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

// Place is where this process is, in time and among namespaces. Those who look at
// many processes ask once.
type Place struct {
	boot      [2]uint64
	namespace uint64
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
