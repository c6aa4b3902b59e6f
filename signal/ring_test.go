//go:build linux

package signal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/identity"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

func TestRing_EachMode_Delivers(t *testing.T) {
	for _, o := range []Options{
		{Poll: never},
		{Signal: unix.SIGUSR2, Poll: never},
		{Signal: 35, Poll: never},
		{Signal: 64, Poll: never},
		{Mode: ModeFutex, Poll: never},
		{Mode: ModePoll, Poll: time.Millisecond},
	} {
		r := heapRegion(t)
		l := listen(t, r, o)
		for i := range 100 {
			if i%2 == 0 && !awaitSleeping(r) {
				t.Fatalf("%+v: listener does not sleep", o)
			}
			if err := Ring(r, 1<<(i%64), live); err != nil {
				t.Fatalf("%+v: %v", o, err)
			}
			await(t, l)
			if got := l.Reasons(); got != 1<<(i%64) {
				t.Fatalf("%+v: ring %d: reasons %#x", o, i, got)
			}
		}
		if err := Ring(r, 0, live); err != nil { // a ring without reason is one too
			t.Fatal(err)
		}
		await(t, l)
	}
}

func TestRing_OtherProcess_HearsEachMode(t *testing.T) {
	for _, mode := range []Mode{ModeSignal, ModeFutex} {
		s := sharedSegment(t)
		r := region(s)
		c := start(t, "listen", s, strconv.Itoa(int(mode)))
		for i := range 20 {
			awaitSleeping(r)
			if err := Ring(r, 1<<i, live); err != nil {
				t.Fatalf("%v: %v", mode, err)
			}
			if got, want := c.line(), fmt.Sprintf("%#x", 1<<i); got != want {
				t.Fatalf("%v: %q, want %q", mode, got, want)
			}
		}
		c.finish(t)
		if got := r.WakeMode.Load(); got != layout.WakePoll {
			t.Errorf("%v: left mode %d", mode, got)
		}
	}
}

// Goroutines ring a region that the race detector watches.
func TestRing_ManyGoroutines_LosesNothing(t *testing.T) {
	for _, mode := range []Mode{ModeSignal, ModeFutex} {
		r := heapRegion(t)
		l := listen(t, r, Options{Mode: mode, Poll: never})
		var st storm
		var all sync.WaitGroup
		const rings = 300
		for n := range notifiers {
			all.Go(func() {
				for range rings {
					ring := st.begun[n].Add(1)
					if err := Ring(r, 1<<n, live); err != nil {
						t.Error(err)
					}
					st.completed[n].Store(ring)
				}
			})
		}
		calm := make(chan struct{})
		go func() { all.Wait(); close(calm) }()
		observe(t, l, &st, calm)
	}
}

// observe follows a storm through the listener until it is calm, and wants every
// ring that completed to have been announced by then or soon after.
func observe(t *testing.T, l *Listener, st *storm, calm <-chan struct{}) {
	t.Helper()
	var seen [notifiers]uint64
	var missing func() bool // nil during the storm
	for missing == nil || missing() {
		select {
		case <-l.C():
		case <-calm:
			calm = nil
			missing = func() bool {
				for n := range seen {
					if seen[n] < st.completed[n].Load() {
						return true
					}
				}
				return false
			}
		case <-time.After(patience):
			t.Fatalf("silence; saw rings up to %d of %d, %d, %d", seen,
				st.completed[0].Load(), st.completed[1].Load(), st.completed[2].Load())
		}
		reasons := l.Reasons()
		for n := range seen {
			if reasons>>n&1 != 0 {
				seen[n] = st.begun[n].Load()
			}
		}
	}
	t.Logf("saw rings up to %d", seen)
}

// Model: doorbell.pml. The poll cannot help: whatever completed was announced.
func TestRing_StormWithKilledNotifiers_LosesNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for _, mode := range []Mode{ModeSignal, ModeFutex} {
		s := sharedSegment(t)
		r, st := region(s), shm.At[storm](s.Window(), stormOffset)
		if err := claim(r); err != nil {
			t.Fatal(err)
		}
		l := listen(t, r, Options{Mode: mode, Poll: never})
		calm := make(chan struct{})
		var killers sync.WaitGroup
		for n := range notifiers {
			killers.Go(func() {
				random := rand.New(rand.NewPCG(seed, uint64(n)))
				for range 6 {
					c, err := spawn("ring", s, strconv.Itoa(n))
					if err != nil {
						t.Error(err)
						return
					}
					goal := st.begun[n].Load() + 1 + random.Uint64N(100)
					if !eventually(func() bool { return st.begun[n].Load() >= goal }) {
						t.Errorf("notifier %d is stuck", n)
					}
					c.kill()
				}
			})
		}
		go func() { killers.Wait(); close(calm) }()
		observe(t, l, st, calm)
	}
}

// refused wants Ring to leave its message and to send nothing.
func refused(t *testing.T, r *layout.Region, alive func() bool, want error) {
	t.Helper()
	door := r.Door.Load()
	if err := Ring(r, 1, alive); !errors.Is(err, want) || !errors.Is(err, ErrNotSent) {
		t.Errorf("got %v, want %v", err, want)
	}
	if r.Door.Load() != door+1 || r.Reasons.Load()&1 == 0 {
		t.Error("the message was not left")
	}
}

func TestRing_HostileSignal_RefusedAndHarmless(t *testing.T) {
	s := sharedSegment(t)
	r := region(s)
	c := start(t, "listen", s, strconv.Itoa(int(ModeSignal)))
	awaitSleeping(r)
	for _, sig := range []uint32{
		0, uint32(unix.SIGTERM), uint32(unix.SIGKILL), uint32(unix.SIGSTOP), uint32(unix.SIGCONT),
		uint32(unix.SIGWINCH), uint32(unix.SIGHUP), 32, 34, 65, 1 << 31, 1<<32 - 1,
	} {
		r.WakeSignal.Store(sig)
		refused(t, r, live, ErrSignal)
	}
	r.WakeSignal.Store(uint32(unix.SIGUSR1))
	if err := Ring(r, 2, live); err != nil {
		t.Fatal(err)
	}
	if got := c.line(); got != "0x3" {
		t.Errorf("reasons %q", got)
	}
	c.finish(t)
}

func TestRing_OwnerExeced_NotSignalled(t *testing.T) {
	s := sharedSegment(t)
	r := region(s)
	start(t, "exec", s)
	id := identity.Load(r)
	p, err := id.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if !eventually(func() bool { caught, err := p.Catches(unix.SIGUSR1); return err != nil || !caught }) {
		t.Fatal("no exec")
	}
	refused(t, r, live, identity.ErrGone) // the thread, though not the process
	again, err := id.Open()
	if err != nil {
		t.Fatalf("it did not survive: %v", err)
	}
	again.Close()
}

func TestRing_NoHandler_NotSignalled(t *testing.T) {
	s := sharedSegment(t)
	c := start(t, "ignore", s)
	refused(t, region(s), live, ErrNoHandler)
	c.finish(t)
}

func TestRing_OwnerKilled_Refused(t *testing.T) {
	s := sharedSegment(t)
	r := region(s)
	c := start(t, "listen", s, strconv.Itoa(int(ModeSignal)))
	awaitSleeping(r)
	id := identity.Load(r)
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if !eventually(func() bool { // dead, and a zombie as nobody has waited for it
		p, err := id.Open()
		if err == nil {
			p.Close()
		}
		return errors.Is(err, identity.ErrGone)
	}) {
		t.Fatal("it lives")
	}
	r.Reasons.Store(0)
	refused(t, r, live, identity.ErrGone)
	c.kill()
	refused(t, r, live, identity.ErrGone)
}

// A region changes between Ring's steps; alive is the hook.
func TestRing_RegionChangesMeanwhile_Refused(t *testing.T) {
	defer noSignal(t)()
	for name, c := range map[string]struct {
		change func(r *layout.Region)
		want   error
	}{
		"next generation": {func(r *layout.Region) { r.State.Add(1 << layout.StateGenerationShift) }, ErrChanged},
		"freed":           {func(r *layout.Region) { r.State.Store(layout.RegionFree) }, ErrChanged},
		"reaping":         {func(r *layout.Region) { r.State.Add(layout.RegionReaping - layout.RegionClaimed) }, ErrChanged},
		"closed":          {func(r *layout.Region) { r.WakeMode.Store(layout.WakePoll) }, ErrChanged},
		"other signal":    {func(r *layout.Region) { r.WakeSignal.Store(uint32(unix.SIGUSR2)) }, ErrChanged},
	} {
		r := heapRegion(t)
		pretend(r, unix.SIGUSR1)
		refused(t, r, func() bool { c.change(r); return true }, c.want)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	r := heapRegion(t)
	pretend(r, unix.SIGUSR1)
	refused(t, r, func() bool { return false }, ErrDead)
	r.State.Store(layout.RegionFree)
	refused(t, r, live, ErrChanged)
}

func TestRing_ForeignOrGarbageIdentity_Refused(t *testing.T) {
	defer noSignal(t)()
	for _, c := range []struct {
		change func(r *layout.Region)
		want   error
	}{
		{func(r *layout.Region) { r.BootID[0].Add(1) }, identity.ErrElsewhere},
		{func(r *layout.Region) { r.PidNamespace.Add(1) }, identity.ErrElsewhere},
		{func(r *layout.Region) { r.Pid.Store(uint32(os.Getppid())) }, identity.ErrGone},
		{func(r *layout.Region) { r.StartTicks.Add(1); r.PidfdInode.Store(0) }, identity.ErrGone},
	} {
		r := heapRegion(t)
		pretend(r, unix.SIGUSR1)
		c.change(r)
		refused(t, r, live, c.want)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := shm.Heap(segmentSize)
	for range 2000 {
		for off := uint64(0); off < layout.SizeRegion; off += 8 {
			word := random.Uint64() >> random.Uint64N(64)
			s.Window().Write(off, []byte{
				byte(word), byte(word >> 8), byte(word >> 16), byte(word >> 24),
				byte(word >> 32), byte(word >> 40), byte(word >> 48), byte(word >> 56),
			})
		}
		r := region(s)
		mode := uint32(random.Uint64N(4))
		r.WakeMode.Store(mode)
		r.WakeSignal.Store(uint32(unix.SIGUSR1))
		r.Sleeping.Store(1)
		if err := Ring(r, 1, live); (err != nil) != (mode == layout.WakeSignal) {
			t.Fatalf("mode %d: %v", mode, err)
		}
	}
}

// noSignal gathers SIGUSR1 and SIGUSR2 until the function it returns is called,
// which wants none to have come.
func noSignal(t *testing.T) func() {
	stray, mark := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(stray, unix.SIGUSR1, unix.SIGUSR2)
	signal.Notify(mark, unix.Signal(40)) // a higher number is delivered later
	return func() {
		defer signal.Stop(stray)
		defer signal.Stop(mark)
		if err := unix.Kill(os.Getpid(), unix.Signal(40)); err != nil {
			t.Error(err)
		}
		<-mark
		select {
		case sig := <-stray:
			t.Errorf("%v was sent", sig)
		default:
		}
	}
}

// One ring of a sleeping listener, until it is noticed.
func BenchmarkRing_Noticed(b *testing.B) {
	for _, mode := range []Mode{ModeSignal, ModeFutex} {
		b.Run(mode.String(), func(b *testing.B) {
			s := shm.Heap(segmentSize)
			r := region(s)
			if err := claim(r); err != nil {
				b.Fatal(err)
			}
			l, err := Listen(r, Options{Mode: mode})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			for b.Loop() {
				awaitSleeping(r)
				if err := Ring(r, 1, live); err != nil {
					b.Fatal(err)
				}
				<-l.C()
			}
		})
	}
}

// A process may be started with all signals blocked, and its threads inherit that.
func TestRing_SignalBlockedAtStart_Delivers(t *testing.T) {
	s := sharedSegment(t)
	r := region(s)
	cmd := exec.Command("env", "--block-signal", "/proc/self/exe", s.Name(), strconv.Itoa(int(ModeSignal)))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args[2] = self
	cmd.Env = append(os.Environ(), roleVariable+"=listen")
	c, err := spawnCommand(cmd)
	if err != nil {
		t.Skip("env cannot block signals: ", err)
	}
	defer c.kill()
	awaitSleeping(r)
	if err := Ring(r, 4, live); err != nil {
		t.Fatal(err)
	}
	if got := c.line(); got != "0x4" {
		t.Errorf("reasons %q", got)
	}
}

// The end of a thread ends the children that were started from it with Pdeathsig, so
// Listeners come and go without.
func TestListen_Closed_ThreadStays(t *testing.T) {
	threads := map[uint32]bool{}
	for range 5 {
		r := heapRegion(t)
		l, err := Listen(r, Options{Poll: never})
		if err != nil {
			t.Fatal(err)
		}
		threads[r.WakeThread.Load()] = true
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(threads) != 1 {
		t.Fatalf("%d threads", len(threads))
	}
	for tid := range threads {
		if _, err := os.Stat(fmt.Sprint("/proc/self/task/", tid)); err != nil || int(tid) == os.Getpid() {
			t.Errorf("thread %d of process %d: %v", tid, os.Getpid(), err)
		}
	}
}
