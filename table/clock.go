package table

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// Clock tells the time in milliseconds. Tests may give their own.
type Clock interface {
	Wall() uint64      // since 1970
	Monotonic() uint64 // never steps; the same for all processes of the host
}

type systemClock struct{}

func (systemClock) Wall() uint64 { return uint64(time.Now().UnixMilli()) }

func (systemClock) Monotonic() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for this clock
	return uint64(ts.Nano()) / uint64(time.Millisecond)
}

// Wall returns the domain's wall clock, milliseconds since 1970: as new as the
// last Tick of any process. One load, some 10 ns. It is 0 on a closed handle.
func (t *Table) Wall() uint64 { return t.load(t.words.Wall) }

// Now returns the domain's own time in milliseconds, which neither steps nor
// counts suspended time; it is never 0 while the handle is open, and as new as
// the last Tick of any process. One load, some 10 ns.
func (t *Table) Now() uint64 { return t.load(t.words.Domain) }

// Tick advances both clock words to this process's clock, and reports whether
// either moved. They only go forward, except that a word further ahead than
// layout.ClockLeapMillis is garbage and is set to this process's reading. Busy
// processes call it every layout.TickMillis or so. About 0.5 us.
func (t *Table) Tick() (moved bool) {
	_ = t.use(func() error {
		wall := advance(t.words.Wall, t.clock.Wall())
		domain := advance(t.words.Domain, t.clock.Monotonic()+1)
		moved = wall || domain
		return nil
	})
	return moved
}

// advance moves a clock word to now. The CAS pairs with the advance of others:
// of two, the later time stays.
func advance(word *atomic.Uint64, now uint64) bool {
	for seen := word.Load(); seen < now || seen-now > layout.ClockLeapMillis; seen = word.Load() {
		if word.CompareAndSwap(seen, now) {
			return true
		}
	}
	return false
}
