package identity

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

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
