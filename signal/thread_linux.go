package signal

import (
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// thread returns the number of an OS thread that takes sig. It is not the process's
// first, as that one's number goes on to the program of an exec, and it calls none
// itself: so a signal for it ends with it, wherever an exec finds the two. It is one for
// all Listeners and stays: the end of a thread also ends the children that were started
// from it with Pdeathsig, whoever's goroutine that was.
func thread(sig unix.Signal) uint32 {
	k := keep()
	k.unblock <- sig
	return k.number
}

// keeper is a goroutine that keeps a thread, and has it take the signals that it is sent.
type keeper struct {
	number  uint32
	unblock chan unix.Signal
}

var keep = sync.OnceValue(func() keeper {
	unblock := make(chan unix.Signal)
	return keeper{keepThread(unblock), unblock}
})

// keepThread starts a keeper and returns its thread's number.
func keepThread(unblock <-chan unix.Signal) uint32 {
	number := make(chan uint32)
	go func() {
		runtime.LockOSThread()
		tid := unix.Gettid()
		if tid == os.Getpid() { // held until another keeper has one, so that it cannot be this again
			number <- keepThread(unblock)
			runtime.UnlockOSThread()
			return
		}
		number <- uint32(tid)
		for sig := range unblock {
			admit(sig)
		}
	}()
	return <-number
}

// admit lets the calling thread take sig, which the process may have been started with
// blocked: the Go runtime unblocks what is asked for in a thread of its own only. Should
// it not be taken at once it is pending until it is.
func admit(sig unix.Signal) {
	var set unix.Sigset_t
	bits := 1024 / len(set.Val)
	set.Val[(int(sig)-1)/bits] |= 1 << ((int(sig) - 1) % bits)
	_ = unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, nil) // cannot fail: the set is a valid one
}
