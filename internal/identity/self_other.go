//go:build !linux

package identity

import (
	"os"

	"github.com/flagstone-shm/flagstone/internal/shm"
)

// BootID returns shm.ErrUnsupported on this system.
func BootID() ([2]uint64, error) { return [2]uint64{}, shm.ErrUnsupported }

// Self returns shm.ErrUnsupported on this system.
func Self() (Identity, error) { return Identity{}, shm.ErrUnsupported }

// Here returns shm.ErrUnsupported on this system.
func Here() (Place, error) { return Place{}, shm.ErrUnsupported }

// Fate returns shm.ErrUnsupported on this system.
func (Identity) Fate() (Fate, error) { return Unknown, shm.ErrUnsupported }

// Openers returns shm.ErrUnsupported on this system.
func Openers(*os.File) ([]int, error) { return nil, shm.ErrUnsupported }
