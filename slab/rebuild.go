package slab

import (
	"bytes"
	"cmp"
	"context"
	"math/rand/v2"
	"slices"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lru"
)

// Rebuild makes index, order, free list and counts of every column anew from the
// cells. Nothing readable is lost. Lookups in a column that is being rebuilt,
// some microseconds per thousand records, may return ErrBusy.
func (st *Stack) Rebuild(ctx context.Context) error {
	for i := range st.columns {
		col := &st.columns[i]
		if err := st.update(ctx, col, func() error { col.rebuild(); return nil }); err != nil {
			return err
		}
	}
	return nil
}

// survivor is a live record found by a rebuild.
type survivor struct {
	hash, version, stamp uint64
	key                  []byte
	flags, cell          uint32
	tier                 int
	cells                uint32
	bytes                uint64
}

// rebuild is lock recovery and repair, of all tiers of a column: what a dead mover
// left in a lower one must not come to light later (tiers.pml BREAK_REBUILD). It
// trusts nothing but the cells, and of those only what is consistent; it may die
// anywhere and is simply begun again by the next taker of the lock, who finds the
// epoch odd. PROTOCOL.md, "Rebuild"; model: rebuild.pml.
func (col *column) rebuild() {
	head := col.top.head
	epoch := head.Epoch.Load() | layout.EpochRebuilding
	head.Epoch.Store(epoch) // odd first: pairs with the loads in read

	sequence := head.Sequence.Load()
	if sequence >= layout.VersionLimit>>layout.VersionSequenceShift {
		sequence = 0
	}
	var live []survivor
	tiers := make([]tierCells, len(col.tiers))
	for tier, sh := range col.tiers {
		t := &tiers[tier]
		found, highest := sh.survey(t)
		for i := range found {
			found[i].tier = tier
		}
		live, sequence = append(live, found...), max(sequence, highest)
	}

	// Pass 1: of the records of one key all but the newest are freed, before a
	// slot can name one (rebuild.pml ONEPASS). Of a move's two the upper one stays, of
	// two of one version in one tier, which only damage makes, that in the lower cell.
	slices.SortFunc(live, func(a, b survivor) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), bytes.Compare(a.key, b.key),
			cmp.Compare(a.flags, b.flags), cmp.Compare(b.version, a.version), cmp.Compare(a.tier, b.tier), cmp.Compare(a.cell, b.cell))
	})
	var newest survivor
	live = slices.DeleteFunc(live, func(r survivor) bool {
		same := newest.cell != 0 && r.hash == newest.hash && r.flags == newest.flags && bytes.Equal(r.key, newest.key)
		if same {
			col.tiers[r.tier].dismiss(r, tiers[r.tier].used)
		} else {
			newest = r
		}
		return same
	})

	if sequence >= layout.VersionHigh>>layout.VersionSequenceShift {
		sequence = col.renumber(live, tiers)
	}

	// Pass 2: everything but the cells, anew.
	slices.SortFunc(live, func(a, b survivor) int {
		return cmp.Or(cmp.Compare(a.tier, b.tier), cmp.Compare(a.stamp, b.stamp), cmp.Compare(a.version, b.version))
	})
	for tier, sh := range col.tiers {
		n, _ := slices.BinarySearchFunc(live, tier+1, func(r survivor, tier int) int { return cmp.Compare(r.tier, tier) })
		sh.restore(live[:n], tiers[tier])
		live = live[n:]
	}
	head.Sequence.Store(sequence) // never lowered otherwise (rebuild.pml BREAK_COUNTER)
	head.Rebuilds.Add(1)
	shm.Increment(&col.top.rebuilds)
	next := (epoch + 1) & layout.EpochRebuildMask // even last: pairs with the loads in read
	head.Epoch.Store(epoch&^layout.EpochRebuildMask | next)
}

// renumber gives the records new versions, in the order of the old ones, and every
// other cell the lowest; it returns the last sequence number given. The old numbers
// are so high that few are left, which takes centuries, or one wrong word. The new
// ones begin at random, so that hardly a token of before comes back. A death inside
// costs the record of several cells that it was at.
func (col *column) renumber(live []survivor, tiers []tierCells) (sequence uint64) {
	slices.SortFunc(live, func(a, b survivor) int { return cmp.Compare(a.version, b.version) })
	sequence = rand.Uint64() >> 16
	for i := range live {
		r := &live[i]
		sh := col.tiers[r.tier]
		sequence++
		r.version = sh.version(sequence)
		next := sh.cell(r.cell).Chain.Load()
		for range r.cells - 1 {
			if !sh.isCell(next) { // only if somebody overwrites it meanwhile
				break
			}
			t := sh.tail(next)
			t.Version.Store(r.version | layout.VersionPart)
			next = t.Chain.Load()
		}
		sh.cell(r.cell).Version.Store(r.version)
	}
	for tier, sh := range col.tiers {
		for n := uint32(1); n <= tiers[tier].top; n++ {
			if !tiers[tier].used[n] {
				sh.cell(n).Version.Store(sh.version(0) | layout.VersionFree)
			}
		}
	}
	return sequence
}

// tierCells is what a rebuild knows of a shard's cells.
type tierCells struct {
	used []bool // by a record
	top  uint32 // the highest ever used
}

// restore makes the shard anew from the records that are to be in it, oldest first.
func (sh *shard) restore(live []survivor, t tierCells) {
	sh.index.Zero(0, sh.index.Len())
	sh.head.OverflowHead.Store(0)
	sh.head.OverflowBump.Store(0)
	sh.order.Reset()
	var records uint32
	var cells, size uint64
	for _, r := range live {
		at, extra, end, err := sh.vacant(r.hash)
		if err != nil { // only if somebody overwrites the index meanwhile
			sh.dismiss(r, t.used)
			sh.head.Dropped.Add(1)
			continue
		}
		if extra != 0 {
			end.Link.Store(extra)
		}
		at.store(r.hash>>layout.SlotTagShift<<layout.SlotTagShift | uint64(r.cell))
		if sh.order.Restore(r.cell) != nil { // likewise
			break
		}
		records++
		cells += uint64(r.cells)
		size += r.bytes
	}
	sh.freeUnused(t.used, t.top)
	sh.head.Live.Store(records)
	sh.head.Used.Store(uint32(cells))
	sh.head.Bytes.Store(size)
}

// survey reads all cells. It returns the records that are whole, and the highest
// sequence number seen.
func (sh *shard) survey(t *tierCells) (live []survivor, sequence uint64) {
	t.used = make([]bool, sh.slab.geo.Cells+1)
	for n := uint32(1); n <= sh.slab.geo.Cells; n++ {
		c := sh.cell(n)
		version := c.Version.Load()
		if version == 0 {
			continue
		}
		t.top = n
		if version >= layout.VersionLimit || version>>layout.VersionShardShift&(layout.MaxShards-1) != uint64(sh.number) {
			c.Version.Store(sh.version(0) | layout.VersionFree)
			continue
		}
		sequence = max(sequence, version>>layout.VersionSequenceShift)
		if !isLive(version) {
			continue
		}
		sh.age(c)
		r, ok := sh.survivor(n, version, t.used)
		if !ok {
			c.Version.Store(version | layout.VersionFree)
			sh.head.Dropped.Add(1)
			continue
		}
		live = append(live, r)
	}
	return live, sequence
}

// age takes back a stamp that lies as far ahead of domain time as only garbage does: by
// a clock word, or a record's, that was wrong; no hit would renew it, no cutoff reach it.
func (sh *shard) age(c *layout.CellHeader) {
	word, now := c.Recency.Load(), sh.now.Load()
	if lru.Stamp(word) > now+layout.ClockLeapMillis {
		c.Recency.CompareAndSwap(word, now<<layout.RecencyStampShift|word&(1<<layout.RecencyStampShift-1)) // lost to a hit's stamp: as good
	}
}

// survivor reads the record in cell n and marks its cells as used. It refuses
// one whose lengths or chain are damaged.
func (sh *shard) survivor(n uint32, version uint64, used []bool) (r survivor, ok bool) {
	c := sh.cell(n)
	keyLen, valueLen, flags, ok := sh.lengths(c)
	if !ok || used[n] || flags&layout.FlagHashKey != 0 && keyLen != 8 {
		return r, false
	}
	r = survivor{
		version: version, stamp: sh.lastUse(c), flags: flags, cell: n,
		cells: uint32(sh.slab.geo.cellsFor(keyLen + valueLen)), bytes: keyLen + valueLen,
	}
	used[n] = true
	next := c.Chain.Load()
	for i := range r.cells - 1 {
		if !sh.isCell(next) || used[next] || sh.tail(next).Version.Load() != version|layout.VersionPart {
			sh.unmark(used, n, i)
			return r, false
		}
		used[next] = true
		next = sh.tail(next).Chain.Load()
	}
	// Only now, when no cell can count twice: all keys together fit the shard.
	if r.key, ok = sh.appendBytes(nil, n, version, 0, keyLen); !ok {
		sh.unmark(used, n, r.cells-1)
		return r, false
	}
	r.hash = sh.slab.rehash(r.key, flags)
	return r, true
}

// unmark notes that a head and its first tails are not in use.
func (sh *shard) unmark(used []bool, head, tails uint32) {
	used[head] = false
	next := sh.cell(head).Chain.Load()
	for range tails {
		if !sh.isCell(next) { // only if somebody overwrites it meanwhile
			return
		}
		used[next] = false
		next = sh.tail(next).Chain.Load()
	}
}

// dismiss frees a record that lost against a newer one of its key.
func (sh *shard) dismiss(r survivor, used []bool) {
	sh.cell(r.cell).Version.Store(r.version | layout.VersionFree)
	sh.unmark(used, r.cell, r.cells-1)
}

// freeUnused makes the free list of all cells up to top that no record uses.
func (sh *shard) freeUnused(used []bool, top uint32) {
	sh.head.FreeHead.Store(0)
	sh.head.Bump.Store(top)
	for n := top; n > 0; n-- {
		if used[n] {
			continue
		}
		c := sh.cell(n)
		c.Version.Store(max(c.Version.Load(), sh.version(0)) | layout.VersionFree)
		sh.push(n)
	}
}
