//go:build linux

package lock

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestProcesses_CountTogether_NothingIsLost(t *testing.T) {
	dir, w := newDomain(t)
	const processes, rounds = 3, 3000
	var children []*child
	for region := range processes {
		children = append(children, startChild(t, dir, region+1))
	}
	for _, c := range children {
		c.send(fmt.Sprint("count ", rounds))
	}
	for _, c := range children {
		if got := c.answer(); got != "ok" {
			t.Fatal(got)
		}
	}
	if got := w.guarded.Load(); got != processes*rounds {
		t.Fatalf("%d, want %d", got, processes*rounds)
	}
}

func TestProcesses_OwnerKilled_OneOfThemTakesIt(t *testing.T) {
	dir, _ := newDomain(t)
	owner, a, b := startChild(t, dir, 1), startChild(t, dir, 2), startChild(t, dir, 3)
	owner.want("lock", "true <nil> 0")
	a.send("lock")
	b.send("lock")
	owner.kill()
	// Whoever it was unlocks, then the other has it, repaired and not stolen.
	answers := make(chan *child, 2)
	for _, c := range []*child{a, b} {
		go func() {
			if c.out.Scan() {
				answers <- c
			}
		}()
	}
	first := <-answers
	if got := first.out.Text(); got != "false <nil> 1" {
		t.Fatalf("the thief: %q", got)
	}
	first.want("unlock", "<nil>")
	if second := <-answers; second.out.Text() != "true <nil> 0" {
		t.Fatalf("the other: %q", second.out.Text())
	}
}

func TestProcesses_ThiefKilledInTheRepair_NextSeesInconsistent(t *testing.T) {
	dir, _ := newDomain(t)
	owner, thief, next := startChild(t, dir, 1), startChild(t, dir, 2), startChild(t, dir, 3)
	owner.want("lock", "true <nil> 0")
	owner.kill()
	thief.want("lock", "false <nil> 1")
	thief.kill()
	next.want("lock", "false <nil> 1")
	next.want("unlock", "<nil>")
	next.want("lock", "true <nil> 1")
}

func TestProcesses_OwnerStopped_OthersBusyAndItGoesOn(t *testing.T) {
	dir, w := newDomain(t)
	o, err := newLeaseOwner(dir, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	m, counters := w.mutex(o)
	owner := startChild(t, dir, 1)
	owner.want("lock", "true <nil> 0")
	owner.stop()
	ctx, cancel := within(30 * time.Millisecond)
	defer cancel()
	if _, err := m.Lock(ctx); !errors.Is(err, ErrBusy) || counters.Steals.Load() != 0 {
		t.Fatalf("%v, %d steals", err, counters.Steals.Load())
	}
	if err := owner.cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	owner.want("unlock", "<nil>") // not ErrLost
	mustLock(t, m, true)
	mustUnlock(t, m)
}

// Goroutines that hand the lock on to each other inside one
// process must not starve another process.
func TestProcesses_OneHammersWithManyGoroutines_OtherGetsItsTurn(t *testing.T) {
	dir, w := newDomain(t)
	o, err := newLeaseOwner(dir, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := w.mutex(o)
	hammer := startChild(t, dir, 1)
	hammer.send("hammer")
	if got := hammer.answer(); got != "hammering" {
		t.Fatal(got)
	}
	before, turns := w.guarded.Load(), uint64(20)
	for range turns {
		mustLock(t, m, true)
		mustUnlock(t, m)
	}
	// A waiter is starved after 1 ms, counted in acquisitions by others of a
	// microsecond at most each, and then is the next; generously, 50 ms.
	taken := (w.guarded.Load() - before) / turns
	t.Logf("%d acquisitions by the other process between two of this one", taken)
	if taken > 200_000 {
		t.Errorf("%d acquisitions passed this process by", taken)
	}
	hammer.send("stop")
	if got := hammer.answer(); got != "ok" {
		t.Fatal(got)
	}
}
