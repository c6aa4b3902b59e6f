package torture

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

// pace measures for how long this process is held up, stopped or kept from the
// processors: that operations are not charged with. It is how late a goroutine runs that
// only sleeps, and for how long the thread of the operations was ready and did not run.
type pace struct {
	late   atomic.Int64 // nanoseconds
	beats  atomic.Int64
	thread *os.File // what the kernel says of the thread; nil if nothing
}

// begin keeps the calling goroutine, which does the operations, in one thread.
func (p *pace) begin() {
	runtime.LockOSThread()
	p.thread, _ = os.Open("/proc/thread-self/schedstat") // not in every kernel
	go p.run()
}

// held returns for how long this process was held up so far.
func (p *pace) held() time.Duration {
	late := time.Duration(p.late.Load())
	if p.thread == nil {
		return late
	}
	var text [96]byte
	n, _ := p.thread.ReadAt(text[:], 0)
	if fields := bytes.Fields(text[:n]); len(fields) == 3 { // nanoseconds run, waited; turns
		waited, _ := strconv.ParseInt(string(fields[1]), 10, 64)
		late += time.Duration(waited)
	}
	return late
}

const (
	beat   = 10 * time.Millisecond
	heldUp = 30 * time.Millisecond // what is shorter is no hold-up
)

func (p *pace) run() {
	for {
		began := now()
		time.Sleep(beat)
		if late := time.Duration(now()-began) - beat; late > heldUp {
			p.late.Add(int64(late))
		}
		p.beats.Add(1)
	}
}

// settle waits until all hold-ups before it are counted.
func (p *pace) settle() {
	for n := p.beats.Load(); p.beats.Load() < n+2; {
		time.Sleep(time.Millisecond)
	}
}
