//go:build linux

package signal

import (
	"errors"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

func TestListen_HandlerInstalled_BeforeDeclaration(t *testing.T) {
	r := heapRegion(t)
	calls := 0
	defer func(f func(chan<- os.Signal, ...os.Signal)) { installHandler = f }(installHandler)
	installHandler = func(c chan<- os.Signal, sig ...os.Signal) {
		calls++
		if mode, n := r.WakeMode.Load(), r.WakeSignal.Load(); mode != layout.WakePoll || n != 0 {
			t.Errorf("mode %d and signal %d declared before the handler", mode, n)
		}
		signal.Notify(c, sig...)
	}
	listen(t, r, Options{Signal: unix.SIGUSR2})
	if calls != 1 {
		t.Errorf("%d handlers", calls)
	}
	if mode, n := r.WakeMode.Load(), r.WakeSignal.Load(); mode != layout.WakeSignal || n != uint32(unix.SIGUSR2) {
		t.Errorf("declared mode %d, signal %d", mode, n)
	}
}

func TestListen_BadOptions_DeclareNothing(t *testing.T) {
	r := heapRegion(t)
	for _, c := range []struct {
		o    Options
		want error
	}{
		{Options{Signal: unix.SIGTERM}, ErrSignal},
		{Options{Signal: unix.SIGWINCH}, ErrSignal},
		{Options{Signal: -1}, ErrSignal},
		{Options{Signal: 34}, ErrSignal},
		{Options{Signal: 65}, ErrSignal},
		{Options{Mode: -1}, ErrMode},
		{Options{Mode: 3}, ErrMode},
	} {
		if _, err := Listen(r, c.o); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
	if r.WakeMode.Load() != layout.WakePoll || r.WakeSignal.Load() != 0 {
		t.Error("declared something")
	}
}

func TestListen_RungBefore_NoticedAtOnce(t *testing.T) {
	r := heapRegion(t)
	if err := Ring(r, 4, live); err != nil {
		t.Fatal(err)
	}
	l := listen(t, r, Options{Poll: never})
	await(t, l)
	if got := l.Reasons(); got != 4 {
		t.Errorf("reasons %#x", got)
	}
}

func TestListen_NotifierDiedBeforeItsWake_PollNotices(t *testing.T) {
	for _, mode := range []Mode{ModeSignal, ModeFutex, ModePoll} {
		r := heapRegion(t)
		l := listen(t, r, Options{Mode: mode, Poll: time.Millisecond})
		awaitSleeping(r)
		r.Reasons.Or(8)
		r.Door.Add(1) // and no wake-up
		await(t, l)
		if got := l.Reasons(); got != 8 {
			t.Errorf("%v: reasons %#x", mode, got)
		}
	}
}

func TestListen_ForeignSignal_IsHarmless(t *testing.T) {
	r := heapRegion(t)
	l := listen(t, r, Options{Poll: never})
	arrived := make(chan os.Signal, 1)
	signal.Notify(arrived, unix.SIGUSR1)
	defer signal.Stop(arrived)
	for range 20 {
		awaitSleeping(r)
		if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		<-arrived
	}
	select {
	case <-l.C():
		t.Error("announced though nobody rang")
	default:
	}
	if err := Ring(r, 1, live); err != nil {
		t.Fatal(err)
	}
	await(t, l)
	if got := l.Reasons(); got != 1 {
		t.Errorf("reasons %#x", got)
	}
}

func TestListen_SeveralInOneProcess_EachHearsItsOwn(t *testing.T) {
	var regions []*layout.Region
	var listeners []*Listener
	for range 3 {
		r := heapRegion(t)
		regions = append(regions, r)
		listeners = append(listeners, listen(t, r, Options{Poll: never}))
	}
	for round := range 2 { // in the second, the first of them is closed
		for i := round; i < len(regions); i++ {
			awaitSleeping(regions[i])
			if err := Ring(regions[i], 1<<i, live); err != nil {
				t.Fatal(err)
			}
			await(t, listeners[i])
			for j, l := range listeners {
				if got := l.Reasons(); (got != 0) != (i == j) {
					t.Errorf("rang %d: %d has reasons %#x", i, j, got)
				}
			}
		}
		if err := listeners[0].Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClose_EachMode_DeclaresPollAndLeavesNoGoroutine(t *testing.T) {
	for _, mode := range []Mode{ModeSignal, ModeFutex, ModePoll} {
		r := heapRegion(t)
		l, err := Listen(r, Options{Mode: mode, Poll: never})
		if err != nil {
			t.Fatal(err)
		}
		awaitSleeping(r)
		for range 2 {
			if err := l.Close(); err != nil {
				t.Errorf("%v: %v", mode, err)
			}
		}
		if r.WakeMode.Load() != layout.WakePoll || r.Sleeping.Load() != 0 {
			t.Errorf("%v: left mode %d, sleeping %d", mode, r.WakeMode.Load(), r.Sleeping.Load())
		}
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if !eventually(func() bool { // done is closed a moment before the goroutine ends
			stacks = stacks[:cap(stacks)]
			stacks = stacks[:runtime.Stack(stacks, true)]
			return !strings.Contains(string(stacks), "(*Listener)") && !strings.Contains(string(stacks), "signal.Listen")
		}) {
			t.Errorf("%v: left\n%s", mode, stacks)
		}
		if err := Ring(r, 1, live); err != nil {
			t.Errorf("%v: ring after close: %v", mode, err)
		}
	}
}

// What happens between the look and the sleep ends the sleep at once, although
// nobody was seen sleeping and so nobody was woken.
func TestSleep_RungOrClosedSinceTheLook_ReturnsAtOnce(t *testing.T) {
	for _, mode := range []Mode{ModeSignal, ModeFutex, ModePoll} {
		for name, event := range map[string]func(*Listener) error{
			"rung":   func(l *Listener) error { return Ring(l.region, 1, live) },
			"closed": (*Listener).Close,
		} {
			l, err := declare(heapRegion(t), Options{Mode: mode, Poll: never})
			if err != nil {
				t.Fatal(err)
			}
			close(l.done) // the goroutine is this one
			seen := l.look()
			if err := event(l); err != nil {
				t.Fatal(err)
			}
			awake := make(chan error, 1)
			go func() { awake <- l.sleep(seen) }()
			select {
			case err := <-awake:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Fatalf("%v, %s: sleeps", mode, name)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestListen_FileTruncated_GivesUpWithFault(t *testing.T) {
	for _, mode := range []Mode{ModeSignal, ModeFutex, ModePoll} {
		s := sharedSegment(t)
		l, err := Listen(region(s), Options{Mode: mode, Poll: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(s.Name(), 0); err != nil {
			t.Fatal(err)
		}
		await(t, l)
		if err := l.Close(); !errors.Is(err, shm.ErrFault) {
			t.Errorf("%v: %v", mode, err)
		}
	}
}

func TestMode_String_Names(t *testing.T) {
	for mode, want := range map[Mode]string{ModeSignal: "signal", ModeFutex: "futex", ModePoll: "poll", 7: "Mode(7)"} {
		if got := mode.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
