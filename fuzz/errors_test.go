package fuzz

import (
	"errors"

	"github.com/flagstone-shm/flagstone/internal/shm"
)

// asFormat is errors.As for a pointer to an error type.
func asFormat[E error](err error, target *E) bool { return errors.As(err, target) }

// allow returns nil for the errors listed.
func allow(err error, allowed ...error) error {
	for _, a := range allowed {
		if errors.Is(err, a) && !errors.Is(err, shm.ErrBounds) {
			return nil
		}
	}
	return err
}
