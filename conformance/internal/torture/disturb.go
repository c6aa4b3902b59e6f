package torture

import (
	"sync/atomic"
	"time"
)

// stop is a time for which a process stood still.
type stop struct {
	life         uint64
	began, ended moment
}

// disturb kills and stops processes until the time is over.
func (c *crew) disturb() {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	const stopsPerSecond = 1.5
	nextKill, nextStop, nextNote := c.after(now(), c.Kills), c.after(now(), stopsPerSecond), now()
	for !c.over() && !c.broken() {
		<-tick.C
		if now() >= nextKill {
			nextKill = c.after(nextKill, c.Kills)
			c.kill(c.slots[c.random.IntN(len(c.slots))])
		}
		if now() >= nextStop {
			nextStop = c.after(nextStop, stopsPerSecond)
			c.halt(c.slots[c.random.IntN(len(c.slots))])
		}
		if now() >= nextNote {
			nextNote = now() + moment(time.Second)
			c.Progress("%d s: %d commands, %d kills, %d stops", int((now()-c.began)/moment(time.Second)), c.commands(), c.kills.Load(), c.stopCount.Load())
		}
	}
	c.stopping.Wait()
}

// after returns a time after another, so that there are so many per second on average.
func (c *crew) after(last moment, perSecond float64) moment {
	if perSecond <= 0 {
		return never
	}
	return last + moment((0.5+c.random.Float64())/perSecond*float64(time.Second))
}

// kill kills the slot's process wherever it stands, or has it kill itself where that is
// worst.
func (c *crew) kill(s *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.lifes.Load()
	if id == 0 || s.killed {
		return
	}
	if c.random.IntN(3) == 0 && s.stop < 0 {
		s.dooms.Store(true)
		return
	}
	s.killed = true
	c.dies(s, id, now())
	c.kills.Add(1)
	_ = s.peer.Kill() // it may have ended
}

// halt stops the slot's process wherever it stands, for some time.
func (c *crew) halt(s *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.lifes.Load()
	if id == 0 || s.killed || s.stop >= 0 {
		return
	}
	// 10 ms to 2 s, the shorter ones more often.
	d := 10 * time.Millisecond
	for d < time.Second && c.random.IntN(3) > 0 {
		d *= 2
	}
	c.stopsMu.Lock()
	s.stop = len(c.stops)
	c.stops = append(c.stops, stop{life: id, began: now(), ended: never})
	c.stopsMu.Unlock()
	if s.peer.Stop() != nil {
		c.endStop(s)
		return
	}
	c.stopCount.Add(1)
	c.stopping.Go(func() { // beside the kills
		time.Sleep(d)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.lifes.Load() == id && s.stop >= 0 {
			_ = s.peer.Continue()
			c.endStop(s)
		}
	})
}

// endStop notes that the slot's process goes on, or has ended.
func (c *crew) endStop(s *slot) {
	if s.stop >= 0 {
		c.stopsMu.Lock()
		c.stops[s.stop].ended = now()
		c.stopsMu.Unlock()
		s.stop = -1
	}
}

// stopped reports whether a process stood still at some time of the span, or had just
// gone on.
func (c *crew) stopped(from, to moment) bool {
	const grace = moment(200 * time.Millisecond)
	c.stopsMu.Lock()
	defer c.stopsMu.Unlock()
	for _, s := range c.stops {
		if s.began <= to && (s.ended == never || s.ended+grace >= from) {
			return true
		}
	}
	return false
}

// pace measures for how long the runner itself is held up: that no testee is charged with.
type pace struct{ late atomic.Int64 }

func (p *pace) held() time.Duration { return time.Duration(p.late.Load()) }

// run measures how late a goroutine runs that only sleeps.
func (p *pace) run(end <-chan struct{}) {
	const (
		beat   = 10 * time.Millisecond
		heldUp = 30 * time.Millisecond // what is shorter is no hold-up
	)
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for last := now(); ; {
		select {
		case <-end:
			return
		case <-tick.C:
		}
		if late := time.Duration(now()-last) - beat; late > heldUp {
			p.late.Add(int64(late))
		}
		last = now()
	}
}
