package main

import (
	"encoding/binary"
	"slices"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// spoilt is the small image with something changed.
func spoilt(how func(im *image, s *slabImage)) func() *image {
	return func() *image {
		im := smallImage()
		how(im, im.main())
		return im
	}
}

// damaged are images with words that contradict each other, in slabs that are sound
// enough to be opened. What a lookup finds there is free within section 19.
func damaged() []plan {
	free := " => no | err busy | err corrupt"
	mend := func(looks ...string) []string {
		return slices.Concat([]string{openIt, "check => ok +"}, looks, []string{"rebuild", "check => ok 0", "dump", "scan", "set 7a 7a", "get 7a"}, tail)
	}
	one := func(name, about string, looks []string, how func(im *image, s *slabImage)) plan {
		return plan{name: "damaged-" + name, about: about, clauses: "19 Untrusted numbers; 17 Rebuild", make: spoilt(how), scripts: alone(mend(looks...)...)}
	}
	others := peeks("b", "c")
	return []plan{
		one("slot", "The slot of a names a cell beyond the last one.", append(others, "peek 61"+free), func(_ *image, s *slabImage) {
			slot := s.slot(s.find("a"))
			slot.Store(slot.Load()&^0xffffffff | uint64(s.geo.Cells+100))
		}),
		one("slot-other", "The slot of a names the cell of b.", append(others, "peek 61"+free), func(_ *image, s *slabImage) {
			slot := s.slot(s.find("a"))
			slot.Store(slot.Load()&^0xffffffff | uint64(s.find("b")))
		}),
		one("bucket-loop", "An overflow bucket is linked to itself, and to the end of every chain.", append(peeks("a", "b"), "peek 7a"+free), func(_ *image, s *slabImage) {
			for i := range uint64(s.geo.Buckets + 1) {
				s.bucket(i).Link.Store(1)
			}
		}),
		{
			name: "damaged-chain-loop", about: "The first tail of a long value leads to itself: the record is given up by a rebuild, the others stay.",
			clauses: "19 Untrusted numbers; 17 Rebuild",
			make: func() *image {
				im := newImage(small)
				im.set("long", long)
				im.set("b", "2")
				c := im.main().cell(im.main().find("long"))
				shm.At[layout.TailHeader](im.main().seg.Window(), im.main().cellAt(c.Chain.Load())).Chain.Store(c.Chain.Load())
				return im
			},
			scripts: alone(mend(peeks("b")...)...),
		},
		one("length", "The value of a is said to be longer than MaxValue: the record is given up.", append(others, "peek 61"+free), func(_ *image, s *slabImage) {
			s.cell(s.find("a")).ValueLength.Store(s.geo.MaxValue + 1)
		}),
		one("list-loop", "A record's Next leads back to itself.", peeks("a", "b"), func(_ *image, s *slabImage) {
			n := s.find("a")
			s.cell(n).Next.Store(n)
			s.cell(n).Prev.Store(n)
		}),
		one("version-forged", "The version of a is beyond VersionLimit.", append(others, "peek 61 => no | ok 31 * 0 0 0 | err busy | err corrupt"), func(_ *image, s *slabImage) {
			s.cell(s.find("a")).Version.Store(layout.VersionLimit | 0x400)
		}),
		one("version-shard", "The version of a bears the number of another shard.", append(others, "peek 61 => no | ok 31 * 0 0 0 | err busy | err corrupt"), func(_ *image, s *slabImage) {
			c := s.cell(s.find("a"))
			c.Version.Store(c.Version.Load() | 5<<layout.VersionShardShift)
		}),
		one("free-list", "The free list begins with the cell of a.", peeks("a", "b"), func(_ *image, s *slabImage) {
			s.shard(0).FreeHead.Store(s.find("a"))
		}),
		one("counts", "Live, Used and Bytes are too large.", peeks("a", "b"), func(_ *image, s *slabImage) {
			h := s.shard(0)
			h.Live.Store(0xfffffff0)
			h.Used.Store(0xfffffff0)
			h.Bytes.Store(1 << 60)
		}),
		one("bump", "Bump is beyond the last cell.", peeks("a", "b"), func(_ *image, s *slabImage) {
			s.shard(0).Bump.Store(0xffffffff)
		}),
		one("sequence", "The sequence lies behind the versions that it gave.", peeks("a", "b"), func(_ *image, s *slabImage) {
			s.shard(0).Sequence.Store(1)
		}),
		{
			name: "damaged-clock", about: "Both clock words are far ahead: they are set back, so that what expires in the year 8000 has not.",
			clauses: "18 Time",
			make: func() *image {
				im := expired()
				c := shm.At[layout.ControlHeader](im.control.Window(), 0)
				c.WallClock.Store(1 << 60)
				c.DomainClock.Store(1 << 60)
				return im
			},
			scripts: alone(script(append(peeks("never", "past", "later"), "scan")...)...),
		},
	}
}

// header returns a plan of an image that is not to be opened.
func header(name, about, answer string, how func(im *image)) plan {
	return plan{
		name: "refused-" + name, about: about, clauses: "3 Versions and constants; 8 Opening 6; 19 Untrusted numbers",
		make: func() *image {
			im := smallImage()
			how(im)
			return im
		},
		scripts: levelsRefused(answer),
	}
}

// control changes a number of the control segment's header; its checksum is right
// afterwards.
func control(at, width, value uint64) func(im *image) {
	return func(im *image) {
		poke(im.control.Bytes(), at, width, value)
		im.sumControl()
	}
}

// inSlab is control for the slab's header.
func inSlab(at, width, value uint64) func(im *image) {
	return func(im *image) {
		poke(im.main().seg.Bytes(), at, width, value)
		im.main().sum()
	}
}

func poke(b []byte, at, width, value uint64) {
	if width == 4 {
		binary.LittleEndian.PutUint32(b[at:], uint32(value))
		return
	}
	binary.LittleEndian.PutUint64(b[at:], value)
}
