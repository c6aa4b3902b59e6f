package fuzz

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
	"github.com/flagstone-shm/flagstone/slab"
)

var slabIdentity = slab.Identity{SegmentID: 7, Domain: [2]uint64{1, 2}, HashSeed: 42}

// survivor is the only one alive in its domain.
type survivor struct{ wall, now layout.Uint64 }

func (*survivor) Token() uint64    { return lock.Token(3, 5) }
func (*survivor) Dead(uint64) bool { return true }
func (*survivor) Ask(uint64)       {}

func newDomain() slab.Domain {
	s := new(survivor)
	s.wall.Store(1_700_000_000_000)
	s.now.Store(1_000_000)
	return slab.Domain{Owner: s, Wall: &s.wall, Now: &s.now}
}

// tiny are options for slabs of a few pages.
var tiny = slab.Options{Entries: 8, Shards: 1, CellSize: 64, MaxKey: 16, MaxValue: 100}

func newSlab(t testing.TB, o slab.Options) (*shm.Segment, *slab.Slab) {
	t.Helper()
	g, err := slab.Plan(o)
	must(t, err)
	seg := shm.Heap(g.FileSize())
	must(t, slab.Format(seg, g, slabIdentity, 0))
	s, err := slab.Open(seg, newDomain(), slabIdentity)
	must(t, err)
	return seg, s
}

// key and value of number n; some records take several cells.
func key(n int) []byte   { return []byte(strings.Repeat(string(rune('a'+n%8)), n%17)) }
func value(n int) []byte { return []byte(strings.Repeat(fmt.Sprint(n), n%34)) }

func fill(t testing.TB, s *slab.Slab, records int) {
	t.Helper()
	for n := range records {
		must(t, s.Set(context.Background(), key(n), value(n), 0))
		must(t, s.SetHash(context.Background(), uint64(n), value(n+1), 0))
	}
}

// use does everything once. Damage may cost answers, nothing else.
func use(t *testing.T, s *slab.Slab, n int) {
	ctx := limited(t)
	const keep, change = 0, 1
	for _, op := range []func() (int, error){
		func() (int, error) { _, _, err := s.Get(nil, key(n)); return keep, err },
		func() (int, error) { _, _, err := s.GetHash(nil, uint64(n)); return keep, err },
		func() (int, error) { return change, s.Set(ctx, key(n+1), value(n), 1_700_000_000_001) },
		func() (int, error) { return change, s.SetHash(ctx, uint64(n), value(n+9), 0) },
		func() (int, error) {
			return keep, s.GetBatch(new(slab.Batch), [][]byte{key(n), key(n + 1), key(n + 2)})
		},
		func() (int, error) { return keep, s.Scan(ctx, func(slab.Record) bool { return true }) },
		func() (int, error) { _, err := s.Delete(ctx, key(n)); return change, err },
		func() (int, error) { _, err := s.DeleteHash(ctx, uint64(n)); return change, err },
		func() (int, error) { _, err := s.Evict(ctx, 1_000_031, 1); return change, err },
		func() (int, error) { _, err := s.EvictPairs(ctx, 1_000_031, 2); return change, err },
		func() (int, error) { _, err := s.Check(ctx); return keep, err },
		func() (int, error) { _, err := s.Stats(); return keep, err },
		func() (int, error) { _, err := s.Holders(); return keep, err },
	} {
		if kind, err := op(); kind == change {
			must(t, allow(err, slab.ErrFull, slab.ErrCorrupt, slab.ErrKeyTooLong, slab.ErrValueTooLong))
		} else {
			must(t, allow(err, slab.ErrBusy, slab.ErrCorrupt))
		}
	}
}

// repaired rebuilds the slab, after which it is sound, and still is after use.
func repaired(t *testing.T, s *slab.Slab) {
	t.Helper()
	for range 2 {
		must(t, s.Rebuild(limited(t)))
		problems, err := s.Check(limited(t))
		if err != nil || len(problems) > 0 {
			t.Fatal(err, strings.Join(problems, "\n"))
		}
		use(t, s, 3)
	}
}

func saveSlabs(f *testing.F) {
	for name, o := range map[string]slab.Options{
		"one-shard":  tiny,
		"two-shards": {Entries: 4, Shards: 2, CellSize: 64, MaxKey: 16, MaxValue: 40},
		"refuse":     {Entries: 12, Shards: 1, MaxKey: 16, MaxValue: 100, OnFull: slab.Refuse},
		"s3fifo":     {Entries: 8, Shards: 1, CellSize: 64, MaxKey: 16, MaxValue: 100, Order: slab.S3FIFO},
	} {
		seg, s := newSlab(f, o)
		save(f, "slab", name+"-empty", seg.Bytes())
		for n := range 10 {
			must(f, allow(s.Set(context.Background(), key(n), value(n), 0), slab.ErrFull, slab.ErrValueTooLong))
			must(f, allow(s.SetHash(context.Background(), uint64(n), value(n+1), 0), slab.ErrFull))
		}
		save(f, "slab", name+"-full", seg.Bytes())
	}
	seg, s := newSlab(f, tiny)
	fill(f, s, 3)
	for name, spoil := range map[string]func(b []byte){
		"locked":     func(b []byte) { binary.LittleEndian.PutUint64(b[layout.PageSize:], lock.Token(0, 1)) },
		"half-built": func(b []byte) { b[layout.PageSize+64] |= layout.EpochRebuilding },
		"exhausted":  func(b []byte) { binary.LittleEndian.PutUint64(b[layout.PageSize+128:], 1<<52-1) },
		"ones": func(b []byte) {
			for i := layout.PageSize; i < len(b); i++ {
				b[i] = 0xff
			}
		},
	} {
		b := slices.Clone(seg.Bytes())
		spoil(b)
		save(f, "slab", name, b)
	}
}

func FuzzOpenSlab(f *testing.F) {
	if *update {
		saveSlabs(f)
	}
	names, all := images(f, "slab")
	for i := range names {
		f.Add(uint8(i), []byte{}, int16(0), true)
		f.Add(uint8(i), []byte{0, 96, 1, 5, 0, 112, 1, 11}, int16(0), true) // absurd cells and values
	}
	f.Add(uint8(0), []byte{}, int16(-1), false)
	f.Add(uint8(0), []byte{}, int16(-1<<15), false)
	f.Add(uint8(0), []byte{}, int16(layout.PageSize), false)
	f.Add(uint8(0), []byte{0, 192, 0, 0}, int16(0), false) // never completed
	f.Fuzz(func(t *testing.T, which uint8, patches []byte, longer int16, sealed bool) {
		file := damaged(all, which, patches, longer)
		if sealed {
			seal[layout.SlabHeader](file)
		}
		seg := shm.Heap(max(uint64(len(file)), layout.PageSize)) // whole pages, as the kernel maps
		seg.Window().Write(0, file)
		s, err := slab.Open(seg, newDomain(), slabIdentity)
		if err != nil {
			var bad *slab.FormatError
			if !errors.As(err, &bad) || bad.Got == bad.Want || bad.Field == "" {
				t.Fatal(err)
			}
			return
		}
		use(t, s, len(patches))
		repaired(t, s)
		must(t, s.Close())
	})
}

func FuzzLiveSlab(f *testing.F) {
	for _, program := range [][]byte{
		{2, 1, 0, 0, 2, 2, 0, 0, 2, 3, 0, 0, 3, 1, 0, 0, 4, 2, 0, 0, 3, 2, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7, 3, 0, 0}, // no damage
		{2, 1, 0, 0, 0, 0, 3, 9, 2, 2, 0, 0, 1, 0, 0, 13, 3, 1, 0, 0, 2, 1, 0, 0},                                    // of the lock
		{2, 1, 0, 0, 1, 0, 0x88, 3, 2, 2, 0, 0, 1, 0, 0x90, 3, 2, 3, 0, 0, 6, 0, 0, 0, 4, 1, 0, 0},                   // of the head
		{2, 1, 0, 0, 1, 2, 0, 3, 3, 1, 0, 0, 1, 2, 0x38, 2, 3, 1, 0, 0, 2, 9, 0, 0, 5, 0, 0, 0},                      // of the index
		{2, 21, 0, 0, 2, 31, 0, 0, 1, 0x10, 0, 5, 3, 21, 0, 0, 1, 0x10, 0x60, 2, 2, 41, 0, 0, 6, 0, 0, 0},            // of cells
	} {
		f.Add(program)
	}
	base, s := newSlab(f, tiny)
	fill(f, s, 4)
	image := slices.Clone(base.Bytes())
	f.Fuzz(func(t *testing.T, program []byte) {
		seg := shm.Heap(uint64(len(image)))
		seg.Window().Write(0, image)
		s, err := slab.Open(seg, newDomain(), slabIdentity)
		must(t, err)
		live(t, seg, s, program[:min(len(program), 400)])
		repaired(t, s)
	})
}

// live runs a program of four-byte steps. Until the first change of a byte from
// outside every answer has to be right.
func live(t *testing.T, seg *shm.Segment, s *slab.Slab, program []byte) {
	ctx := limited(t)
	changed := false
	written := map[string][]byte{} // by key, what the program wrote last
	shared := seg.Bytes()[layout.PageSize:]
	for ; len(program) >= 4; program = program[4:] {
		n := int(program[1])
		var err error
		switch program[0] % 8 {
		case 0, 1:
			poke(shared, []byte{program[1], program[2], program[0], program[3]})
			changed = true
		case 2:
			if err = s.Set(ctx, key(n), value(n), 0); err == nil {
				written[string(key(n))] = value(n)
			}
			err = allow(err, slab.ErrCorrupt)
		case 3:
			var v []byte
			var ok bool
			v, ok, err = s.Get(nil, key(n))
			want, expected := written[string(key(n))]
			if !changed && err == nil && ok && expected && !slices.Equal(v, want) {
				t.Fatalf("%q is %q, want %q", key(n), v, want)
			}
			err = allow(err, slab.ErrBusy, slab.ErrCorrupt)
		case 4:
			_, err = s.Delete(ctx, key(n))
			if !changed {
				if _, ok, _ := s.Get(nil, key(n)); ok {
					t.Fatalf("%q was deleted and is there", key(n))
				}
			}
			delete(written, string(key(n)))
			err = allow(err, slab.ErrCorrupt)
		case 5:
			err = allow(s.Scan(ctx, func(slab.Record) bool { return true }), slab.ErrBusy, slab.ErrCorrupt)
		case 6:
			if _, err = s.EvictPairs(ctx, 1_000_031, n); n > 0 {
				clear(written)
			}
			err = allow(err, slab.ErrCorrupt)
		case 7:
			use(t, s, n)
			clear(written)
		}
		if err != nil {
			t.Fatal(err)
		}
		if changed {
			continue
		}
		if problems, err := s.Check(ctx); err != nil || len(problems) > 0 {
			t.Fatal(err, strings.Join(problems, "\n"))
		}
	}
}
