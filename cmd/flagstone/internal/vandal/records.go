package vandal

import (
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Records calls do for the head of each record, so that a test knows which ones were
// hit. The key is whole if it fits the cell.
func (v *Vandal) Records(do func(shard, cell int, key []byte)) {
	for _, m := range v.slabs {
		w := m.seg.Window()
		for shard := range int(m.geo.Shards) {
			for cell := range uint64(m.geo.Cells) {
				at := m.first + uint64(shard)*m.stride + m.cells + cell*uint64(m.geo.CellSize)
				c := shm.At[layout.CellHeader](w, at)
				if version := c.Version.Load(); version == 0 || version&layout.VersionStateMask != layout.VersionLive {
					continue
				}
				n := min(uint64(c.KeyFlags.Load()&layout.KeyLengthMask), m.geo.Payload())
				do(shard, int(cell)+1, w.Append(nil, at+layout.SizeCellHeader, n))
			}
		}
	}
}

// Control returns the header of the control segment.
func (v *Vandal) Control() *layout.ControlHeader {
	return shm.At[layout.ControlHeader](v.control.seg.Window(), 0)
}
