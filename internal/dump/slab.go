package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
	"github.com/flagstone-shm/flagstone/slab"
)

// What every dump has in the place of random numbers and clocks.
const (
	seed      = 42
	segmentID = 7
	wallTime  = 1_700_000_000_000
	now       = 1_000_000
)

var uuid = [2]uint64{1, 2}

// shape is the slab of the dumps: one shard, six cells.
var shape = slab.Options{Entries: 4, CellSize: 64, MaxKey: 8, MaxValue: 40, Shards: 1}

// alone is the only handle there is.
type alone struct{}

func (alone) Token() uint64    { return lock.Token(0, 1) }
func (alone) Dead(uint64) bool { return false }
func (alone) Ask(uint64)       {}

// open makes an empty slab of the shape whose keys are hashed with a seed.
func open(seed uint64, wall, domain *layout.Uint64) (*slab.Slab, *shm.Segment, error) {
	g, err := slab.Plan(shape)
	if err != nil {
		return nil, nil, err
	}
	seg, id := shm.Heap(g.FileSize()), slab.Identity{SegmentID: segmentID, Domain: uuid, HashSeed: seed}
	if err := slab.Format(seg, g, id, wall.Load()); err != nil {
		return nil, nil, err
	}
	s, err := slab.Open(seg, slab.Domain{Owner: alone{}, Wall: wall, Now: domain}, id)
	return s, seg, err
}

// slabText shows a slab with two records, the second in two cells.
func slabText() (string, error) {
	var wall, domain layout.Uint64
	wall.Store(wallTime)
	domain.Store(now)
	s, seg, err := open(seed, &wall, &domain)
	if err != nil {
		return "", err
	}
	ctx := context.Background()
	if err := s.Set(ctx, []byte("a"), []byte("1"), 0); err != nil {
		return "", err
	}
	domain.Store(now + 5)
	value := bytes.Repeat([]byte("0123456789"), 4)
	if err := s.Set(ctx, []byte("key"), value, wallTime+500); err != nil {
		return "", err
	}
	g := s.Geometry()
	p := &page{bytes: seg.Window().Append(nil, 0, g.FileSize())}
	p.fields("SlabHeader", 0)
	shard := uint64(layout.PageSize)
	p.fields("Shard", shard)
	for i := range uint64(g.Buckets + g.Overflow) {
		p.fields("Bucket", shard+layout.SizeShard+i*layout.SizeBucket)
	}
	cells := shard + layout.PageSize
	cell := func(n uint64) uint64 { return cells + (n-1)*uint64(g.CellSize) }
	p.fields("CellHeader", cell(1))
	p.data(cell(1)+layout.SizeCellHeader, 2, "key, value")
	p.fields("CellHeader", cell(2))
	p.data(cell(2)+layout.SizeCellHeader, g.Payload(), "key, value")
	p.fields("TailHeader", cell(3))
	p.data(cell(3)+layout.SizeTailHeader, uint64(len("key")+len(value))-g.Payload(), "value")
	return p.text(), s.Close()
}

// hashes is a table of keys, seeds and hashes.
func hashes() (string, error) {
	var b strings.Builder
	b.WriteString("\n| key | seed | hash |\n|---|---|---|\n")
	for _, c := range []struct {
		what string
		key  []byte
		seed uint64
	}{
		{"no bytes", nil, 0},
		{"no bytes", nil, seed},
		{"`a`", []byte("a"), seed},
		{"`key`", []byte("key"), seed},
		{"`0123456789abcdefg`, 17 bytes", []byte("0123456789abcdefg"), 0x1122334455667788},
		{"the bytes 0, 1, ... 255, 0, 1, ... 43, 300 bytes", count(300), 1 << 63},
	} {
		h, err := hash(c.seed, func(s *slab.Slab) uint64 { return s.HashOf(c.key) })
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "| %s | %#x | `%#016x` |\n", c.what, c.seed, h)
	}
	b.WriteString("\n")
	return b.String(), nil
}

func count(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// hash asks a slab with a seed.
func hash(seed uint64, of func(*slab.Slab) uint64) (uint64, error) {
	var wall, domain layout.Uint64
	s, _, err := open(seed, &wall, &domain)
	if err != nil {
		return 0, err
	}
	return of(s), s.Close()
}
