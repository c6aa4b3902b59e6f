package flagstone

import (
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// disown takes this handle's token out of the locks of slabs that it does not hold, as
// somebody waits for one: in those that it has open, and in those it never had, where
// its token can only be somebody's error.
func (h *handle) disown() {
	h.opening.Lock() // so that no lock gets a second end in this handle meanwhile
	defer h.opening.Unlock()
	for _, c := range h.caches {
		_, _ = c.view.Load().tiers[0].slab.Disown() // a fault is told by the next operation
	}
	for _, e := range h.control.Entries() {
		if e.Kind == table.KindSlab && e.Tier == 0 && e.State.Published() && h.caches[e.SegmentID] == nil {
			h.disownIn(e)
		}
	}
}

// disownIn is disown in a slab that this handle has not open. The caller holds opening.
func (h *handle) disownIn(e table.Entry) {
	seg, err := h.control.Attach(e)
	if err != nil {
		return // the next ring tries again
	}
	defer h.control.Detach(e.SegmentID)
	s, err := slab.Open(seg, h.domain, slab.Identity{SegmentID: e.SegmentID, Domain: h.table.UUID(), HashSeed: h.table.HashSeed()})
	if err != nil {
		_ = seg.Close()
		return
	}
	_, _ = s.Disown()
	_ = s.Close()
}
