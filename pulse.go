package flagstone

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// pulse keeps the domain's clock words going while the handle is used, and sleeps
// otherwise: an idle process costs nothing, and the first operation after a
// pause reads the clocks itself. Asleep or not it follows the directory when the
// handle is woken.
type pulse struct {
	cache *Cache
	awake atomic.Bool // false makes the next operation call rouse
	work  chan struct{}
	news  <-chan struct{} // a ring of the doorbell, if the handle has one
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

func (p *pulse) start(c *Cache) {
	p.cache, p.work, p.done = c, make(chan struct{}, 1), make(chan struct{})
	cancel := func() {}
	if c.control != nil {
		p.news, cancel = c.control.Subscribe()
		c.follow(ByCall) // nobody has listened since the view was made
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
	p.cache.table.Tick()
	p.awake.Store(true)
	select {
	case p.work <- struct{}{}:
	default:
	}
}

func (p *pulse) run() {
	c := p.cache
	for {
		select {
		case <-p.work:
			p.round()
		case <-p.news:
			c.follow(c.heard())
		case <-p.done:
			return
		}
	}
}

// heard returns how this handle is woken.
func (c *Cache) heard() How {
	for how := BySignal; how < ByPoll; how++ {
		if how.String() == c.control.WakeMode() {
			return how
		}
	}
	return ByPoll
}

// round ticks until the handle has not been used for one round.
func (p *pulse) round() {
	t := time.NewTicker(tick)
	defer t.Stop()
	for used := true; used; used = p.awake.Swap(false) {
		for ticks := 0; ticks < roundTicks; {
			select {
			case <-t.C:
				ticks++
				p.cache.table.Tick()
				p.cache.follow(ByPoll)
			case <-p.news:
				p.cache.follow(p.cache.heard())
			case <-p.done:
				return
			}
		}
		_, _ = p.cache.table.Reap()
		p.cache.publishCounters()
	}
}
