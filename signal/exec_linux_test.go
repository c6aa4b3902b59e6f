//go:build linux

package signal

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An exec may fall between the sender's last look at the handlers and its signal, or
// the signal into the exec, which keeps what is pending for the process and resets its
// handlers. But a signal for a thread goes with the thread.
func TestRing_WhileOwnerExecs_NeverHit(t *testing.T) {
	attempts := 50
	if os.Getenv("FLAGSTONE_LONG") != "" {
		attempts = 1000
	}
	for _, sig := range []unix.Signal{unix.SIGUSR1, 40} {
		s := sharedSegment(t)
		r := region(s)
		hit, sent, refused := 0, 0, 0
		for range attempts {
			c := start(t, "execs", s, strconv.Itoa(int(sig)))
			pid := c.cmd.Process.Pid
			if _, err := c.in.Write([]byte("\n")); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(patience); ; {
				r.Sleeping.Store(1)
				if err := Ring(r, 1, live); err == nil {
					sent++
				} else if refused++; isSleep(pid) || isZombie(pid) {
					break
				}
				if time.Now().After(end) {
					t.Fatal("no exec")
				}
			}
			_ = c.cmd.Process.Signal(unix.SIGTERM)
			_ = c.cmd.Wait()
			switch status := c.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() {
			case unix.SIGTERM:
			case sig:
				hit++
			default:
				t.Fatal(c.cmd.ProcessState)
			}
		}
		t.Logf("%v: %d execs under fire, %d signals sent, %d refused, %d programs hit", sig, attempts, sent, refused, hit)
		if hit > 0 {
			t.Errorf("%v killed %d", sig, hit)
		}
	}
}

// isZombie reports whether the process has died and not been waited for.
func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.Contains(stat, []byte(") Z "))
}
