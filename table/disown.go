package table

import (
	"github.com/flagstone-shm/flagstone/internal/identity"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
)

// ReasonLocks is the reason for ringing a handle whose token stands in the word of a
// lock that others wait for: what it does not hold it disowns. Its mutexes are seen to
// before Follow tells of the ring.
const ReasonLocks = layout.ReasonLocks

// Ask rings the handle that a lock token names, so that it disowns locks that it does
// not hold.
func (t *Table) Ask(token uint64) {
	region, _, _ := lock.Region(token)
	_ = t.Ring(int(region), layout.ReasonLocks) // not sent: it finds out when it looks
}

// rung is called when this handle's bell was rung, by the goroutine that heard it.
func (t *Table) rung(reasons uint64) {
	if reasons&layout.ReasonLocks != 0 {
		_ = t.use(func() error {
			t.reassert()
			t.disown()
			return nil
		})
	}
	t.news.rung(reasons)
}

// disown takes this handle's token out of the mutexes that it does not hold.
func (t *Table) disown() {
	for id := range t.header.Mutexes {
		region, generation, held := lock.Region(shm.At[layout.Mutex](t.win, t.header.mutex(id)).Word.Load())
		if !held || int(region) != t.self || generation != t.generation {
			continue
		}
		if m, err := t.Mutex(id); err == nil {
			_, _ = m.lock.Disown() // who was not woken looks again by itself
		}
	}
}

// reassert writes what only this handle may, and somebody has overwritten: that it has
// its region, and who it is. While the lease is its own there is no other state. The caller's
// handle is open. PROTOCOL.md, "Regions", Quarantine.
func (t *Table) reassert() {
	if r := t.region; identity.Load(r) != t.identity {
		r.Pid.Store(0) // pairs with the look in fate: nobody judges what is half written
		nobody := t.identity
		nobody.Pid = 0
		nobody.Store(r)
		r.Pid.Store(t.identity.Pid)
	}
	if mine := packed(t.generation, layout.RegionClaimed); t.region.State.Load() != mine {
		t.region.State.Store(mine) // pairs with the loads in Ring and Regions
		t.announce()
	}
}
