package signal

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// thread keeps an OS thread until quit is closed, and returns its number. It is not the
// process's first, as that one's number goes on to the program of an exec, and it calls
// none itself: so a signal for it ends with it, wherever an exec finds the two.
func thread(quit <-chan struct{}) uint32 {
	number := make(chan uint32)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if tid := unix.Gettid(); tid != os.Getpid() {
			number <- uint32(tid)
			<-quit
			return
		}
		number <- thread(quit) // others' goroutines cannot have the first one meanwhile
		runtime.UnlockOSThread()
	}()
	return <-number
}
