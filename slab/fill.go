package slab

import (
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lru"
)

// Fill is how full a shard is, at a glance.
type Fill struct {
	Used, Room uint64 // bytes of cells in use, and of those that may be before records have to go
	Oldest     uint64 // domain time in milliseconds at which the record that goes next was last used
	Known      bool   // whether there is one
}

// Fills returns how full each shard of the slab is; read without a lock, some ten loads
// per shard. Oldest is a hint: another record may stand there by now.
func (s *Slab) Fills() (all []Fill, err error) {
	defer s.leave(shm.Guard(), &err)
	all = make([]Fill, len(s.shards))
	for i := range s.shards {
		sh := &s.shards[i]
		f := Fill{Used: uint64(sh.head.Used.Load()) * sh.cellSize, Room: sh.usable() * sh.cellSize}
		n := sh.head.Back.Load()
		if small := sh.head.SmallBack.Load(); n == 0 || small != 0 && uint64(sh.head.SmallCount.Load())*layout.SmallShare > uint64(sh.head.Live.Load()) {
			n = small
		}
		if f.Known = f.Used > 0 && sh.isCell(n); f.Known {
			f.Oldest = lru.Stamp(sh.cell(n).Recency.Load())
		}
		all[i] = f
	}
	return all, s.usableSlab()
}

// usable returns how many cells may be in use before records have to go.
func (sh *shard) usable() uint64 { return uint64(sh.slab.geo.Cells - sh.slab.geo.Reserve) }

// usableSlab returns why the slab must not be looked at, if so.
func (s *Slab) usableSlab() error {
	if s.closed.Load() {
		return ErrClosed
	}
	return s.forked()
}
