package flagstone_test

import (
	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
)

// stop stops it where it stands, and returns when it does.
func (c *child) stop() {
	c.t.Helper()
	must(c.t, c.cmd.Process.Signal(unix.SIGSTOP))
	err := unix.EINTR
	for err == unix.EINTR {
		err, _ = unix.Waitid(unix.P_PID, c.cmd.Process.Pid, nil, unix.WSTOPPED, nil).(unix.Errno)
	}
	if err != 0 {
		c.t.Fatal(err)
	}
}

func (c *child) resume() {
	c.t.Helper()
	must(c.t, c.cmd.Process.Signal(unix.SIGCONT))
}

// stopHolding stops the child at a moment at which it holds a shard's lock, as
// somebody with a debugger would, and returns the shard.
func (c *child) stopHolding(cache *flagstone.Cache) (shard int) {
	c.t.Helper()
	holds := func() bool {
		holders, err := cache.Holders()
		must(c.t, err)
		for _, h := range holders {
			if int(h.Region) == c.region {
				shard = h.Shard
				return true
			}
		}
		return false
	}
	eventually(c.t, "stopped under a lock", func() bool {
		if !holds() {
			return false
		}
		c.stop()
		if holds() {
			return true
		}
		c.resume()
		return false
	})
	return shard
}
