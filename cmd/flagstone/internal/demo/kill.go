package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/slab"
)

// killWithin bounds the hunt for a moment at which the victim holds a lock.
const killWithin = 15 * time.Second

// death is how the victim died.
type death struct {
	killed
	Pid      int           `json:"pid"`
	Holder   slab.Holder   `json:"holder"`
	Attempts int           `json:"attempts"` // stops until it still held a lock when it stood
	Looks    int           `json:"looks"`    // at the lock words
	Hunt     time.Duration `json:"hunt_ns"`  // from the first look to the kill
	err      error
}

// killHolder kills the process at a moment at which it holds a shard's lock. It
// looks at the lock words until one names the process, stops it, waits until it
// is stopped, and looks again: what does not run does not unlock. If the lock
// still names it then, it is killed; else it goes on.
func killHolder(ctx context.Context, cache *flagstone.Cache, p *os.Process) (d death) {
	ctx, cancel := context.WithTimeout(ctx, killWithin)
	defer cancel()
	d.Pid = p.Pid
	began := now()
	region, generation, err := regionOf(cache, p.Pid)
	if err != nil {
		return death{err: err}
	}
	holds := func() (slab.Holder, bool) {
		holders, err2 := cache.Holders()
		err = errors.Join(err, err2)
		for _, h := range holders {
			if h.Region == region && h.Generation == generation {
				return h, true
			}
		}
		return slab.Holder{}, false
	}
	for err == nil {
		if ctx.Err() != nil {
			return death{err: fmt.Errorf("pid %d could not be stopped inside Set in %d attempts: %w", p.Pid, d.Attempts, context.Cause(ctx))}
		}
		d.Looks++
		if _, ok := holds(); !ok {
			runtime.Gosched()
			continue
		}
		d.Attempts++
		if err = stop(p); err != nil {
			break
		}
		if h, ok := holds(); ok {
			d.Holder, d.Shard, d.At = h, h.Shard, now()
			d.Hunt = time.Duration(d.At - began)
			if err = p.Signal(unix.SIGKILL); err == nil {
				return d
			}
			break
		}
		err = errors.Join(err, p.Signal(unix.SIGCONT))
	}
	return death{err: fmt.Errorf("kill pid %d inside Set: %w", p.Pid, err)}
}

// regionOf returns the region of the process's only handle.
func regionOf(cache *flagstone.Cache, pid int) (region, generation uint32, err error) {
	for _, r := range cache.Table().Regions() {
		if r.Alive && r.Pid == uint32(pid) {
			return uint32(r.Index), r.Generation, nil
		}
	}
	return 0, 0, fmt.Errorf("pid %d has no region", pid)
}

// stop stops a child with SIGSTOP and waits until it is stopped.
func stop(p *os.Process) error {
	if err := p.Signal(unix.SIGSTOP); err != nil {
		return fmt.Errorf("SIGSTOP to %d: %w", p.Pid, err)
	}
	const stopped = 5 // CLD_STOPPED
	var info unix.Siginfo
	for {
		// WNOWAIT leaves an exit to be collected by whoever started the child.
		err := unix.Waitid(unix.P_PID, p.Pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("wait for the stop of %d: %w", p.Pid, err)
		case info.Code != stopped:
			return fmt.Errorf("pid %d exited before it stopped: code %d", p.Pid, info.Code)
		default:
			return nil
		}
	}
}
