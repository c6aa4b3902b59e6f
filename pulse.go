package flagstone

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/table"
)

// pulse keeps the domain's clock words going while the handle is used, and sleeps
// otherwise: an idle process costs nothing, and the first operation after a
// pause reads the clocks itself. Asleep or not it follows the directory when the
// handle is woken.
type pulse struct {
	of    *handle
	awake atomic.Bool // false makes the next operation call rouse
	busy  atomic.Bool // the clocks are kept: the handle was used within a second or so
	work  chan struct{}
	news  <-chan struct{} // changes by this handle itself, if it has a region
	done  chan struct{}
	ended sync.WaitGroup

	publishing sync.Mutex // guards the region's counters, so that the newer ones stay
}

const (
	tick = layout.TickMillis * time.Millisecond
	// Every so many ticks the dead are looked for, counters are published, and a
	// handle that was not used since goes to sleep.
	roundTicks = 100
)

// prepare is for those who beat before start, the steward's goroutine for one.
func (p *pulse) prepare(h *handle) {
	p.of, p.work, p.done = h, make(chan struct{}, 1), make(chan struct{})
}

func (p *pulse) start() {
	h, cancel := p.of, func() {}
	if h.control != nil {
		p.news, cancel = h.control.Follow(func(reasons uint64) {
			if reasons&table.ReasonLocks != 0 {
				h.disown()
			}
			h.follow(h.heard())
			h.steward.nudge()
		})
		h.follow(ByCall) // nobody has listened since the view was made
	}
	p.ended.Go(func() { defer cancel(); p.run() })
}

func (p *pulse) stop() {
	close(p.done)
	p.ended.Wait()
}

// beat is called by every operation: one load.
func (p *pulse) beat() {
	if !p.awake.Load() {
		p.rouse()
	}
}

func (p *pulse) rouse() {
	p.of.table.Tick()
	p.of.table.Present()
	p.awake.Store(true)
	select {
	case p.work <- struct{}{}:
	default:
	}
}

func (p *pulse) run() {
	h := p.of
	for {
		select {
		case <-p.work:
			p.round()
		case <-p.news:
			h.follow(ByCall)
			h.steward.kick()
		case <-p.done:
			return
		}
	}
}

// heard returns how this handle is woken.
func (h *handle) heard() How {
	for how := BySignal; how < ByPoll; how++ {
		if how.String() == h.control.WakeMode() {
			return how
		}
	}
	return ByPoll
}

// round ticks until the handle has not been used for one round.
func (p *pulse) round() {
	p.busy.Store(true)
	defer p.busy.Store(false)
	p.of.steward.kick()
	t := time.NewTicker(tick)
	defer t.Stop()
	for used := true; used; used = p.awake.Swap(false) {
		for ticks := 0; ticks < roundTicks; {
			select {
			case <-t.C:
				ticks++
				p.of.table.Tick()
				p.of.follow(ByPoll)
			case <-p.news:
				p.of.follow(ByCall)
			case <-p.done:
				return
			}
		}
		p.of.table.Present()
		_, _ = p.of.table.Reap()
		p.of.publishCounters()
	}
}
