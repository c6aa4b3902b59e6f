//go:build race

package shm

import "golang.org/x/sys/unix"

// closedProtection is that of the zeros in place of a closed segment. The race
// detector's own code would die of a fault, which nothing can recover there.
const closedProtection = unix.PROT_READ | unix.PROT_WRITE
