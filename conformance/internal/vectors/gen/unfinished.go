package main

import (
	"fmt"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// partHead is a Set of "new" at step 4: a head that is being written, in cells that
// nothing names.
func partHead() *image {
	im := smallImage()
	s := im.main()
	before := s.saved()
	im.set("new", "half")
	n := s.find("new")
	undo(s, before)
	c := s.cell(n)
	c.Version.Store(c.Version.Load() | layout.VersionPart)
	im.heads[fmt.Sprint(s.id, s.cellAt(n))] = true
	im.lockedByDead()
	return im
}

// undo puts everything but cells, their supply and the sequence back.
func undo(s *slabImage, before []byte) {
	h := s.shard(0)
	sequence, free, bump := h.Sequence.Load(), h.FreeHead.Load(), h.Bump.Load()
	s.back(before, s.at.shard, s.at.cells)
	h.Sequence.Store(sequence)
	h.FreeHead.Store(free)
	h.Bump.Store(bump)
}

// unnamed is a Set of a key at step 5: the record is live, and in no slot.
func unnamed(key string) func() *image {
	return func() *image {
		im := smallImage()
		s := im.main()
		before := s.saved()
		im.set(key, "fresh")
		version := s.cell(s.find(key)).Version.Load()
		undo(s, before)
		for n := uint32(1); n <= s.geo.Cells; n++ { // the old record, if there was one, is whole
			if at := s.cellAt(n); s.cell(n).Version.Load() != version {
				s.back(before, at, uint64(s.geo.CellSize))
			}
		}
		im.lockedByDead()
		return im
	}
}

// replaced is a Set of "a" at step 7: the slot names the new record, and the old one
// is still live and in the order.
func replaced() *image {
	im := smallImage()
	s := im.main()
	before := s.saved()
	old := s.find("a")
	im.set("a", "fresh")
	now := s.find("a")
	slot := s.slot(now)
	word := slot.Load()
	undo(s, before)
	slot.Store(word)
	for n := uint32(1); n <= s.geo.Cells; n++ {
		if n != now {
			s.back(before, s.cellAt(n), uint64(s.geo.CellSize))
		}
	}
	if s.cell(old).Version.Load()&layout.VersionStateMask != layout.VersionLive {
		panic("the old record is gone")
	}
	im.lockedByDead()
	return im
}

// deleted is a Delete of "a" at step 2: the version is FREE, and the slot still names
// the cell.
func deleted() *image {
	im := smallImage()
	c := im.main().cell(im.main().find("a"))
	c.Version.Store(c.Version.Load() | layout.VersionFree)
	im.lockedByDead()
	return im
}

// moving is a move up of "low" after step 5: it is live in both tiers.
func moving() *image {
	im := tiered()
	upper, lower := im.slabs[0], im.slabs[1]
	below := lower.saved()
	im.hit("low") // which moves it up
	copy(lower.seg.Bytes(), below)
	h := upper.shard(0)
	h.Epoch.Store(layout.EpochMove)
	upper.shard(0).MovedIn.Store(1)
	im.lockedByDead()
	return im
}

// abandoned is a rebuild in its second pass: the epoch is odd, the index half empty.
func abandoned() *image {
	im := smallImage()
	s := im.main()
	h := s.shard(0)
	h.Epoch.Store(layout.EpochRebuilding)
	h.Live.Store(1)
	h.Front.Store(0)
	h.Back.Store(0)
	for i := range uint64(s.geo.Buckets) {
		b := shm.At[layout.Bucket](s.seg.Window(), s.at.shard+s.at.index+i*layout.SizeBucket)
		for j := range b.Slots {
			b.Slots[j].Store(0)
		}
	}
	im.lockedByDead()
	return im
}

// unfinished are images that a process left which died inside an operation.
func unfinished() []plan {
	all := peeks("a", "b", "c", "d", "new")
	plans := []plan{
		{name: "dead-part-head", about: "A process died in step 4 of a Set of new: the head's version says PART.", clauses: "14 Crash points; 12 Locks; 17 Rebuild", make: partHead, scripts: alone(script(all...)...)},
		{
			name: "dead-unnamed", about: "A process died in step 5 of a Set of new, which was not there: the record is live and in no slot. Until the rebuild it is a miss, and then it is there.",
			clauses: "14 Crash points; 17 Rebuild", make: unnamed("new"), scripts: alone(script(all...)...),
		},
		{
			name: "dead-unnamed-newer", about: "A process died in step 5 of a Set of a: the old record is in the slot, the new one is live and in none. A rebuild keeps the newer.",
			clauses: "14 Crash points; 17 Rebuild", make: unnamed("a"), scripts: alone(script(all...)...),
		},
		{
			name: "dead-two-live", about: "A process died in step 7 of a Set of a: the slot names the new record, and the old one is still live.",
			clauses: "14 Crash points; 17 Rebuild", make: replaced, scripts: alone(script(all...)...),
		},
		{
			name: "dead-deleted", about: "A process died in step 2 of a Delete of a: the version is FREE and the slot still there.",
			clauses: "14 Delete; 17 Rebuild", make: deleted, scripts: alone(script(append(all, "set 61 33", "peek 61")...)...),
		},
		{
			name: "dead-moving", about: "A process died in a move up of low, after the copy was live: it is in both tiers, and the epoch counts the beginning of the move.",
			clauses: "20 Moves; 17 Rebuild", make: moving, scripts: alone(script(peeks("low", "lower", "mid", "top")...)...),
		},
		{
			name: "dead-rebuild", about: "A process died in a rebuild: the epoch is odd, the index half empty and the order gone. A lookup takes the lock from the dead, rebuilds, and finds.",
			clauses: "17 Rebuild; 13 Lookup", make: abandoned, scripts: alone(script(all...)...),
		},
		{
			name: "inconsistent-lock", about: "The lock is free and INCONSISTENT: whoever takes it rebuilds first.", clauses: "12 Locks; 17 Rebuild",
			make: func() *image {
				im := smallImage()
				im.main().shard(0).Lock.Store(layout.LockInconsistent)
				im.main().shard(0).Live.Store(9)
				return im
			},
			scripts: alone(script(append([]string{"set 65 35"}, all...)...)...),
		},
		{
			name: "dead-creating", about: "A process died while it made a segment: its entry is CREATING, and there is no file. It is taken back.",
			clauses: "9 Reap; 10 Publishing a segment",
			make: func() *image {
				im := smallImage()
				im.died()
				e := im.entry(1)
				e.Kind.Store(layout.KindSlab)
				e.SegmentID.Store(0x7b)
				e.State.Store((deadRegion+1)<<layout.EntryRegionShift | layout.EntryCreating)
				return im
			},
			scripts: alone(script(append([]string{"reap => ok 0 | ok 1", "entries"}, all...)...)...),
		},
	}
	return plans
}
