package main

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"

	"github.com/flagstone-shm/flagstone/internal/format"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// still is a clock.
type still struct{}

func (still) Wall() uint64      { return wallTime }
func (still) Monotonic() uint64 { return now - 1 }

// control shows the control segment of a domain with one handle and one slab.
func control() (text string, err error) {
	dir, err := os.MkdirTemp("", "dump")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	t, err := table.Open(context.Background(), table.Options{
		Dir: dir, Name: "example", Regions: 1, Entries: 2, Mutexes: 3, Held: 2, Mapped: 2,
		Wake: signal.Options{Mode: signal.ModePoll}, Clock: still{},
	})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	t.Tick()
	if err := publish(t); err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Join(t.Dir(), "control"))
	if err != nil {
		return "", err
	}
	p := &page{bytes: b}
	g := t.Geometry()
	settle(b, g)
	p.fields("ControlHeader", 0)
	for i := range uint64(g.Mutexes) {
		p.fields("Mutex", g.MutexOffset+i*layout.SizeMutex)
	}
	for i := range uint64(g.Entries) {
		p.fields("Entry", g.EntryOffset+i*layout.SizeEntry)
	}
	p.fields("Region", g.RegionOffset)
	p.title("held words at %d", g.RegionOffset+layout.SizeRegion)
	mapped := mappedAt(g)
	p.title("mapped words at %d", mapped)
	p.line(mapped, 8, "the slab's segment id")
	return p.text(), nil
}

// publish makes the slab's entry.
func publish(t *table.Table) error {
	g, err := slab.Plan(shape)
	if err != nil {
		return err
	}
	r, err := t.Reserve(table.Spec{
		Kind: layout.KindSlab, Name: "primary", Size: g.FileSize(),
		Params: [4]uint64{uint64(g.Shards), uint64(g.Cells), uint64(g.CellSize), g.Capacity},
	})
	if err != nil {
		return err
	}
	seg, err := r.Create()
	if err != nil {
		return err
	}
	defer seg.Close()
	_, err = r.Publish()
	return err
}

func mappedAt(g table.Geometry) uint64 { return g.RegionOffset + layout.SizeRegion + 8*uint64(g.Held) }

// settle replaces what is random, or this machine's.
func settle(b []byte, g table.Geometry) {
	le := binary.LittleEndian
	words := func(at uint64, values ...uint64) {
		for i, v := range values {
			le.PutUint64(b[at+8*uint64(i):], v)
		}
	}
	words(layout.OffsetControlHeaderHashSeed, seed)
	words(layout.OffsetControlHeaderDomainUUID, uuid[:]...)
	boot := []uint64{0x1716151413121110, 0x1f1e1d1c1b1a1918}
	words(layout.OffsetControlHeaderBootID, boot...)
	w := shm.Heap(layout.PageSize).Window()
	w.Write(0, b[:layout.PageSize])
	words(layout.OffsetControlHeaderChecksum, format.Checksum(w, layout.ControlHeaderChecksummed))

	words(g.EntryOffset+layout.OffsetEntrySegmentID, segmentID)
	words(g.EntryOffset+layout.OffsetEntryStack, segmentID)
	words(mappedAt(g), segmentID)

	words(g.RegionOffset+layout.OffsetRegionBootID, boot...)
	words(g.RegionOffset+layout.OffsetRegionPidNamespace, 4026531836)
	le.PutUint32(b[g.RegionOffset+layout.OffsetRegionPid:], 4711)
	le.PutUint32(b[g.RegionOffset+layout.OffsetRegionUID:], 1000)
	words(g.RegionOffset+layout.OffsetRegionStartTicks, 123456)
	words(g.RegionOffset+layout.OffsetRegionPidfdInode, 5678)
	words(g.RegionOffset+layout.OffsetRegionInstance, 3, 4)
	le.PutUint32(b[g.RegionOffset+layout.OffsetRegionSleeping:], 1) // it may be awake
}
