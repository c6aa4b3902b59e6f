package fuzz

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/slab"
)

// below are the options of the tiers under a tiny slab.
var below = []slab.Options{
	{Entries: 6, Shards: 1, MaxKey: 16, MaxValue: 100, Order: slab.S3FIFO},
	{Entries: 40, Shards: 1, CellSize: 64, MaxKey: 16, MaxValue: 60, OnFull: slab.Refuse},
}

// tower is a stack of the images' slabs, tier 0 first.
func tower(t testing.TB, images [][]byte) (*slab.Stack, []*shm.Segment) {
	t.Helper()
	var segments []*shm.Segment
	var tiers []slab.Tier
	for i, image := range images {
		seg := shm.Heap(uint64(len(image)))
		seg.Window().Write(0, image)
		var s *slab.Slab
		var err error
		if i == 0 {
			s, err = slab.Open(seg, newDomain(), slabIdentity)
		} else {
			s, err = slab.OpenBelow(seg, tiers[0].Slab, slabIdentity)
		}
		must(t, err)
		segments, tiers = append(segments, seg), append(tiers, slab.Tier{Slab: s})
	}
	return slab.NewStack(slab.StackOptions{Promote: true}, tiers...), segments
}

// FuzzLiveStack runs programs of four-byte steps over a stack. Until the first change
// of a byte from outside every answer has to be right: what lies in a tier below with
// room for all is never lost.
func FuzzLiveStack(f *testing.F) {
	for _, program := range [][]byte{
		{2, 1, 0, 0, 2, 2, 0, 0, 2, 3, 0, 0, 6, 0, 1, 9, 3, 1, 0, 0, 4, 2, 0, 0, 6, 1, 2, 9, 5, 0, 0, 0, 7, 1, 0, 0}, // no damage
		{2, 1, 0, 0, 6, 0, 1, 9, 1, 0, 0x88, 3, 2, 2, 0, 0, 1, 0, 0x90, 3, 2, 3, 0, 0, 6, 1, 0, 9, 4, 1, 0, 0},       // of a head below
		{2, 1, 0, 0, 6, 0, 2, 9, 0, 2, 0, 3, 3, 1, 0, 0, 0, 2, 0x38, 2, 3, 1, 0, 0, 2, 9, 0, 0, 5, 0, 0, 0},          // of an index
		{2, 21, 0, 0, 2, 31, 0, 0, 6, 0, 1, 9, 1, 0x10, 0, 5, 3, 21, 0, 0, 6, 1, 0, 9, 2, 41, 0, 0, 7, 2, 0, 0},      // of cells
		[]byte("2000&00000'I2000"), // of the flags of a key that is set again above
	} {
		f.Add(program)
	}
	var images [][]byte
	for _, o := range append([]slab.Options{tiny}, below...) {
		seg, _ := newSlab(f, o)
		images = append(images, slices.Clone(seg.Bytes()))
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		st, segments := tower(t, images)
		liveStack(t, st, segments, program[:min(len(program), 400)])
		for range 2 {
			must(t, st.Rebuild(limited(t)))
			problems, err := st.Check(limited(t))
			if err != nil || len(problems) > 0 {
				t.Fatal(err, strings.Join(problems, "\n"))
			}
			liveStack(t, st, segments, []byte{2, 1, 0, 0, 2, 2, 0, 0, 6, 0, 1, 9, 3, 1, 0, 0, 7, 1, 0, 0, 5, 0, 0, 0})
		}
	})
}

func liveStack(t *testing.T, st *slab.Stack, segments []*shm.Segment, program []byte) {
	ctx := limited(t)
	changed := false
	written := map[string][]byte{} // by key, what the program wrote last
	tiers := st.Tiers()
	for ; len(program) >= 4; program = program[4:] {
		n := int(program[1])
		var err error
		switch program[0] % 8 {
		case 0, 1:
			poke(segments[1+program[0]%2].Bytes()[layout.PageSize:], []byte{program[1], program[2], program[0] / 2, program[3]})
			changed = true
		case 2:
			if err = st.Set(ctx, key(n), value(n)[:min(len(value(n)), 60)], 0); err == nil {
				written[string(key(n))] = value(n)[:min(len(value(n)), 60)]
			}
		case 3:
			var v []byte
			var ok bool
			v, ok, err = st.Get(nil, key(n))
			if want, there := written[string(key(n))]; !changed && (err != nil || there && (!ok || !bytes.Equal(v, want))) {
				t.Fatalf("%q is %q, %v, %v; want %q", key(n), v, ok, err, want)
			}
		case 4:
			_, err = st.Delete(ctx, key(n))
			delete(written, string(key(n)))
			if _, ok, _ := st.Get(nil, key(n)); ok && !changed {
				t.Fatalf("%q was deleted and is there", key(n))
			}
		case 5:
			seen := map[string]bool{}
			err = st.Scan(ctx, func(r slab.Record) bool { seen[string(r.Key)] = true; return true })
			for k := range written {
				if !seen[k] && !changed {
					t.Fatalf("%q is left out", k)
				}
			}
		case 6:
			from, to := tiers[n%3].Slab, tiers[int(program[2])%3].Slab
			if from == to {
				_, _, err = st.Empty(ctx, from, 0)
			} else {
				_, err = st.Move(ctx, from, to, 1<<40, int(program[3]))
			}
		case 7:
			var gone []slab.Pair
			gone, err = st.EvictPairs(ctx, 1_000_031, n)
			for _, p := range gone {
				delete(written, string(p.Key))
			}
		}
		must(t, allow(err, slab.ErrBusy, slab.ErrCorrupt, slab.ErrFull, slab.ErrTooLarge))
		if changed {
			continue
		}
		if problems, err := st.Check(ctx); err != nil || len(problems) > 0 {
			t.Fatal(err, strings.Join(problems, "\n"))
		}
	}
}
