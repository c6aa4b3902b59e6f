package signal

import (
	"testing"
	"time"
)

// Rings during a call become one more; none is lost, and Close waits for the last.
func TestCall_RungDuringCall_CalledAgain(t *testing.T) {
	for _, mode := range []Mode{ModeSignal, ModeFutex} {
		r := heapRegion(t)
		var told uint64 // guarded by called and goOn
		called, goOn := make(chan struct{}), make(chan struct{})
		l, err := Call(r, Options{Mode: mode, Poll: never}, func(reasons uint64) {
			told |= reasons
			called <- struct{}{}
			<-goOn
		})
		if err != nil {
			t.Fatal(err)
		}
		ring := func(reason uint64) {
			if err := Ring(r, reason, live); err != nil {
				t.Fatal(err)
			}
		}
		wait := func(c <-chan struct{}) {
			select {
			case <-c:
			case <-time.After(patience):
				t.Fatalf("%v: not called", mode)
			}
		}
		awaitSleeping(r)
		ring(1)
		wait(called)
		ring(2)
		ring(4)
		goOn <- struct{}{}
		wait(called)
		if got := l.Reasons(); got != 7 || told != 7 {
			t.Errorf("%v: reasons %#x, and told %#x", mode, got, told)
		}
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}()
		select {
		case <-closed:
			t.Errorf("%v: closed during a call", mode)
		case <-time.After(10 * time.Millisecond):
		}
		close(goOn)
		for done := false; !done; { // Close rings too
			select {
			case <-called:
			case <-closed:
				done = true
			}
		}
	}
}
