package signal

import (
	"errors"
	"fmt"
	"sync"

	"github.com/flagstone-shm/flagstone/internal/identity"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

var (
	// ErrNotSent says that Ring left its message but sent no wake-up: the listener
	// will notice by its poll. Every refusal wraps it, with one of the others here,
	// identity.ErrElsewhere, identity.ErrGone or an error of the kernel.
	ErrNotSent = errors.New("rung, but nobody was woken")
	// ErrSignal says that a signal is not one that Flagstone sends: SIGUSR1,
	// SIGUSR2, or a real-time signal from 35 to 64.
	ErrSignal = errors.New("signal not allowed for wake-ups")
	// ErrMode says that a Mode is none of the constants.
	ErrMode = errors.New("unknown wake-up mode")
	// ErrChanged says that the region's owner or its declaration changed meanwhile,
	// or that it has no owner.
	ErrChanged = errors.New("region changed hands or its declaration")
	// ErrDead says that nobody holds the region's lease.
	ErrDead = errors.New("region's owner is dead")
	// ErrNoHandler says that the process has no handler for the signal that its
	// region asks for, which could kill it: it has called exec, for example.
	ErrNoHandler = errors.New("process has no handler for the signal")
)

// Ringing rings several doorbells, one soon after the other. What is the same for all is found
// out once, when the first of them wants a signal. It is not for concurrent use.
type Ringing struct {
	here func() (identity.Place, error)
}

// NewRinging begins to ring.
func NewRinging() *Ringing { return &Ringing{sync.OnceValues(identity.Here)} }

// Ring leaves reason at a region's doorbell and wakes its owner if it sleeps.
// Once it has returned, with an error or without, the owner's Listener is going
// to notice, at its next poll at the latest. Nobody but the region's verified
// owner is ever sent a signal, and no program that it becomes by an exec; what stands in
// the region is not trusted. Alive reports whether the region's lease is held.
//
// It may be called concurrently and never waits. The cost is two atomic
// operations if the owner is awake or polls, a system call for a futex, some
// 40 us for a signal. All errors wrap ErrNotSent and need no action.
func Ring(r *layout.Region, reason uint64, alive func() bool) error {
	return NewRinging().Ring(r, reason, alive)
}

// Ring is the function Ring, one of many.
func (o *Ringing) Ring(r *layout.Region, reason uint64, alive func() bool) error {
	state := r.State.Load()
	r.Reasons.Or(reason)        // pairs with the exchange in look
	r.Door.Add(1)               // pairs with the loads in look and sleep
	if r.Sleeping.Load() == 0 { // pairs with its store in sleep
		return nil
	}
	var err error
	switch r.WakeMode.Load() { // pairs with its stores in declare and Close
	case layout.WakeFutex:
		err = shm.FutexWake(&r.Door, 1)
	case layout.WakeSignal:
		err = o.send(r, state, alive)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return nil
}
