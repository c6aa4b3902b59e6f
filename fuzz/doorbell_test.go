package fuzz

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/identity"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/signal"
)

// FuzzDoorbell: a region of arbitrary bytes has nobody's identity, so nobody may
// be signalled, though it may name a living process, this one, and a signal that
// it handles.
func FuzzDoorbell(f *testing.F) {
	self, err := identity.Self()
	must(f, err)
	seg := shm.Heap(layout.SizeRegion)
	r := shm.At[layout.Region](seg.Window(), 0)
	r.State.Store(1<<layout.StateGenerationShift | layout.RegionClaimed)
	r.StartTicks.Store(1)
	r.PidfdInode.Store(1)
	r.Sleeping.Store(1)
	for mode, change := range []func(){
		func() { r.WakeMode.Store(layout.WakePoll) },
		func() { r.WakeMode.Store(layout.WakeFutex) },
		func() { r.WakeMode.Store(layout.WakeSignal); r.WakeSignal.Store(uint32(unix.SIGUSR1)) },
		func() { r.WakeSignal.Store(40) },
		func() { r.WakeSignal.Store(uint32(unix.SIGTERM)) },
		func() { r.WakeSignal.Store(uint32(unix.SIGKILL)) },
		func() { r.WakeSignal.Store(1<<32 - 1) },
		func() { r.WakeMode.Store(77) },
		func() {
			r.WakeMode.Store(layout.WakeSignal)
			r.WakeSignal.Store(uint32(unix.SIGUSR1))
			r.State.Store(0)
		},
		func() { r.State.Store(layout.RegionClaimed); r.StartTicks.Store(0); r.PidfdInode.Store(0) },
	} {
		change()
		for _, mine := range []bool{false, true} {
			f.Add(slices.Clone(seg.Bytes()[:layout.SizeRegion]), mine, byte(mode), uint64(1))
		}
	}
	runtime.KeepAlive(seg)
	f.Fuzz(func(t *testing.T, region []byte, mine bool, mode byte, reason uint64) {
		seg := shm.Heap(layout.SizeRegion)
		seg.Window().Write(0, region[:min(len(region), layout.SizeRegion)])
		defer runtime.KeepAlive(seg)
		r := shm.At[layout.Region](seg.Window(), 0)
		if mine { // all but the proof
			r.BootID[0].Store(self.Boot[0])
			r.BootID[1].Store(self.Boot[1])
			r.PidNamespace.Store(self.PidNamespace)
			r.Pid.Store(uint32(os.Getpid()))
			if r.StartTicks.Load() == self.StartTicks {
				r.StartTicks.Add(1)
			}
		} else if r.Pid.Load() == uint32(os.Getpid()) {
			r.Pid.Store(0)
		}
		signalled := r.Sleeping.Load() != 0 && r.WakeMode.Load() == layout.WakeSignal
		door := r.Door.Load()
		err := signal.Ring(r, reason, func() bool { return true })
		if err != nil && !errors.Is(err, signal.ErrNotSent) || signalled && err == nil {
			t.Fatal(err)
		}
		if r.Door.Load() != door+1 || r.Reasons.Load()&reason != reason {
			t.Fatal("the message was not left")
		}

		l, err := signal.Listen(r, signal.Options{Mode: signal.Mode(mode % 3), Poll: 100 * time.Microsecond})
		must(t, err)
		defer func() { must(t, l.Close()) }()
		missing := reason | 1
		_ = signal.Ring(r, missing, func() bool { return false }) // unsent, so found by polling
		for timeout := time.After(patience); missing != 0; {
			select {
			case <-l.C():
				missing &^= l.Reasons()
			case <-timeout:
				t.Fatalf("reasons %#x never came", missing)
			}
		}
	})
}
