//go:build !race

package shm

import "golang.org/x/sys/unix"

// closedProtection is that of the zeros in place of a closed segment.
const closedProtection = unix.PROT_READ
