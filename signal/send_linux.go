package signal

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/identity"
	"github.com/flagstone-shm/flagstone/internal/layout"
)

const defaultSignal = unix.SIGUSR1

// checkSignal allows what an application may ask for. Signals up to 34 that C
// libraries use among their threads are out of it.
func checkSignal(sig unix.Signal) error {
	if sig == unix.SIGUSR1 || sig == unix.SIGUSR2 || sig >= 35 && sig <= 64 {
		return nil
	}
	return fmt.Errorf("%w: %d", ErrSignal, int(sig))
}

// send is the verified sender of PROTOCOL.md, "Doorbell". The identity is pinned
// by a pidfd first, so that everything checked afterwards is of the process that
// gets the signal; whether it has a handler is asked last. An exec that takes the handler
// away between that answer and the signal, or while the signal is pending, takes the
// thread away that the signal is for.
func (o *Ringing) send(r *layout.Region, state uint64, alive func() bool) error {
	sig := unix.Signal(r.WakeSignal.Load()) // pairs with its store in declare
	if err := checkSignal(sig); err != nil {
		return err
	}
	here, err := o.here()
	if err != nil {
		return err
	}
	p, err := here.Pin(identity.Load(r))
	if err != nil {
		return err
	}
	defer p.Close()
	t, err := p.Thread(r.WakeThread.Load()) // pairs with its store in declare
	if err != nil {
		return err
	}
	defer t.Close()
	if !alive() {
		return ErrDead
	}
	// The lease is held by the owner of this State, and so was the identity.
	if now := r.State.Load(); now != state || uint32(now) != layout.RegionClaimed {
		return fmt.Errorf("%w: state was %#x, is %#x", ErrChanged, state, now)
	}
	if mode, now := r.WakeMode.Load(), unix.Signal(r.WakeSignal.Load()); mode != layout.WakeSignal || now != sig {
		return fmt.Errorf("%w: wake mode %d, signal %d, was %d", ErrChanged, mode, int(now), int(sig))
	}
	caught, err := p.Catches(sig)
	if err != nil {
		return err
	}
	if !caught {
		return fmt.Errorf("%w: signal %d", ErrNoHandler, int(sig))
	}
	return t.Signal(sig)
}
