package table

import "github.com/flagstone-shm/flagstone/internal/clock"

// Clock tells the time in milliseconds. Tests may give their own.
type Clock interface {
	Wall() uint64      // since 1970
	Monotonic() uint64 // never steps; the same for all processes of the host
}

// Wall returns the domain's wall clock, milliseconds since 1970: as new as the
// last Tick of any process. One load, some 10 ns. It is 0 on a closed handle.
func (t *reading) Wall() uint64 { return t.load(t.words.Wall) }

// Now returns the domain's own time in milliseconds, which neither steps nor
// counts suspended time; it is never 0 while the handle is open, and as new as
// the last Tick of any process. One load, some 10 ns.
func (t *reading) Now() uint64 { return t.load(t.words.Domain) }

// Tick advances both clock words to this process's clock, and reports whether
// either moved. They only go forward, except that a word further ahead than
// layout.ClockLeapMillis is garbage and is set to this process's reading. Busy
// processes call it every layout.TickMillis or so. About 0.5 us.
func (t *Table) Tick() (moved bool) {
	_ = t.use(func() error {
		wall := clock.Advance(t.words.Wall, t.clock.Wall())
		domain := clock.Advance(t.words.Domain, t.clock.Monotonic()+1)
		moved = wall || domain
		return nil
	})
	return moved
}
