//go:build !linux

package identity

import "github.com/flagstone-shm/flagstone/internal/shm"

// BootID returns shm.ErrUnsupported on this system.
func BootID() ([2]uint64, error) { return [2]uint64{}, shm.ErrUnsupported }

// Self returns shm.ErrUnsupported on this system.
func Self() (Identity, error) { return Identity{}, shm.ErrUnsupported }

// Here returns shm.ErrUnsupported on this system.
func Here() (Place, error) { return Place{}, shm.ErrUnsupported }
