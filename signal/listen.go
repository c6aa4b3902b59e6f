package signal

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Mode is how a Listener is woken.
type Mode int

const (
	ModeSignal Mode = iota // by a signal; holds one OS thread, that the signal is for
	ModeFutex              // by a futex, faster; holds one OS thread
	ModePoll               // by its own timer only; ringing it costs no system call
)

// String returns the mode's name.
func (m Mode) String() string {
	switch m {
	case ModeSignal:
		return "signal"
	case ModeFutex:
		return "futex"
	case ModePoll:
		return "poll"
	}
	return fmt.Sprintf("Mode(%d)", int(m))
}

// Options say how to listen. The zero value is SIGUSR1.
type Options struct {
	Mode Mode
	// Signal is used by ModeSignal: SIGUSR1 (default), SIGUSR2 or a real-time
	// signal from 35 to 64. The application may use it too: a signal sent for
	// another reason costs a look at the doorbell, nothing else.
	Signal syscall.Signal
	// Poll is the longest time between two looks at the doorbell. Default (0 or
	// less): 1 s, in ModePoll 10 ms.
	Poll time.Duration
}

// installHandler is replaced by the test of its order.
var installHandler = signal.Notify

// Listener turns the rings of one region's doorbell into a Go channel.
type Listener struct {
	region  *layout.Region
	poll    time.Duration
	timer   *time.Timer
	signals chan os.Signal // nil but in ModeSignal
	wait    func(seen uint32) error
	c       chan struct{}
	tell    func(reasons uint64) // fire, or what Call was given
	reasons atomic.Uint64
	quit    chan struct{} // closed by Close
	done    chan struct{} // closed when the goroutine is gone
	last    uint32        // Door at the last look; the goroutine's own, like news
	news    bool          // that look found something to tell
	fresh   uint64        // and for these reasons
	err     error         // why it left early; read after done
	close   func() error
}

// Listen starts to listen for rings of the caller's own region and declares in
// it how to be woken. A region has one Listener; a process may have many, one
// for each of its regions. Rings from before Listen are noticed at once by their
// reasons. The segment has to stay mapped and reachable until Close has
// returned. The cost at rest is one look at the doorbell per Options.Poll.
//
// It returns ErrSignal or ErrMode for options out of range; then nothing was
// declared.
func Listen(r *layout.Region, o Options) (*Listener, error) { return Call(r, o, nil) }

// Call is Listen for who has f called whenever C would deliver, by the goroutine that
// was woken, with the reasons found since the last call: nobody else has to be woken.
// C delivers nothing then. Rings during f become one more call; Close, which f must
// not call, waits for f.
func Call(r *layout.Region, o Options, f func(reasons uint64)) (*Listener, error) {
	l, err := declare(r, o)
	if err != nil {
		return nil, err
	}
	if f != nil {
		l.tell = f
	}
	go l.run()
	return l, nil
}

// declare makes the Listener, installs its handler and declares it.
func declare(r *layout.Region, o Options) (*Listener, error) {
	if o.Signal == 0 {
		o.Signal = defaultSignal
	}
	if o.Poll <= 0 {
		o.Poll = time.Second
		if o.Mode == ModePoll {
			o.Poll = 10 * time.Millisecond
		}
	}
	l := &Listener{
		region: r,
		poll:   o.Poll,
		timer:  time.NewTimer(o.Poll),
		c:      make(chan struct{}, 1),
		quit:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	l.close = sync.OnceValue(l.closeOnce)
	l.tell, l.wait = l.fire, l.waitChannel
	wake := uint32(layout.WakePoll)
	switch o.Mode {
	case ModeSignal:
		if err := checkSignal(o.Signal); err != nil {
			return nil, err
		}
		// The handler comes first: whoever reads the declaration may send at once.
		l.signals = make(chan os.Signal, 1)
		installHandler(l.signals, o.Signal)
		r.WakeSignal.Store(uint32(o.Signal)) // before WakeMode; pairs with its load in send
		r.WakeThread.Store(thread(o.Signal)) // likewise
		wake = layout.WakeSignal
	case ModeFutex:
		l.wait = l.waitFutex
		wake = layout.WakeFutex
	case ModePoll:
	default:
		return nil, fmt.Errorf("listen: %w: %v", ErrMode, o.Mode)
	}
	l.last = r.Door.Load()
	r.WakeMode.Store(wake) // pairs with the loads in Ring and send
	return l, nil
}

// C delivers "look at the table" after every Ring that completed; rings that
// come faster than they are taken become one. It never closes. It also delivers
// when the listener gives up because the segment's memory faulted: the look will
// meet the fault too, and Close returns it.
func (l *Listener) C() <-chan struct{} { return l.c }

// Reasons returns the reasons of the rings noticed since the last call, those of
// everything that C has announced included.
func (l *Listener) Reasons() uint64 { return l.reasons.Swap(0) }

// Close declares that nobody is to be woken, then removes the handler and waits
// until the goroutine is gone, which takes microseconds. The owner calls it
// before it closes the segment. It returns the fault of the segment if there was
// one; everything of this process is released nevertheless. Further calls return
// the same.
func (l *Listener) Close() error { return l.close() }

func (l *Listener) closeOnce() error {
	err := guarded(func() error {
		l.region.WakeMode.Store(layout.WakePoll) // pairs with the loads in Ring and send
		return nil
	})
	if l.signals != nil {
		signal.Stop(l.signals)
	}
	close(l.quit)
	err = errors.Join(err, guarded(func() error {
		l.region.Door.Add(1) // after quit: waitFutex ends or does not begin
		return shm.FutexWake(&l.region.Door, 1)
	}))
	<-l.done
	l.timer.Stop()
	return errors.Join(err, l.err)
}

// run is the waiter of PROTOCOL.md, "Doorbell".
func (l *Listener) run() {
	defer close(l.done)
	var seen uint32
	l.err = guarded(func() error {
		seen = l.look()
		return nil
	})
	for l.announce() && !l.closing() {
		l.err = guarded(func() error {
			err := l.sleep(seen)
			seen = l.look()
			return err
		})
	}
}

// announce tells what the last look found, without a guard as that is others' code,
// and reports whether there may be another one.
func (l *Listener) announce() bool {
	if l.news || l.err != nil {
		reasons := l.fresh
		l.news, l.fresh = false, 0
		l.tell(reasons)
	}
	return l.err == nil
}

// look takes what was rung. What is rung later moves Door from the value it returns.
func (l *Listener) look() (seen uint32) {
	seen = l.region.Door.Load()         // pairs with Door++ in Ring
	reasons := l.region.Reasons.Swap(0) // after Door; pairs with Reasons |= in Ring
	if reasons != 0 || seen != l.last {
		l.reasons.Or(reasons)
		l.fresh |= reasons
		l.news = true
	}
	l.last = seen
	return seen
}

// sleep returns when Door has moved from seen, or at the next poll.
func (l *Listener) sleep(seen uint32) (err error) {
	l.region.Sleeping.Store(1) // pairs with its load in Ring: that sees it, or we see Door++
	if l.region.Door.Load() == seen {
		err = l.wait(seen)
	}
	l.region.Sleeping.Store(0)
	return err
}

// waitChannel waits for a signal or the next poll. A signal that came since
// Sleeping was set is kept by the channel.
func (l *Listener) waitChannel(uint32) error {
	l.timer.Reset(l.poll)
	select {
	case <-l.signals:
	case <-l.timer.C:
	case <-l.quit:
	}
	return nil
}

// waitFutex waits for Door to move or the next poll, in a thread of its own.
func (l *Listener) waitFutex(seen uint32) error {
	return shm.FutexWait(&l.region.Door, seen, l.poll)
}

func (l *Listener) closing() bool {
	select {
	case <-l.quit:
		return true
	default:
		return false
	}
}

// fire announces something to look at; an announcement not yet taken will do.
func (l *Listener) fire(uint64) {
	select {
	case l.c <- struct{}{}:
	default:
	}
}
