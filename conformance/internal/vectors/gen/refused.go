package main

import (
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
	"github.com/flagstone-shm/flagstone/internal/layout"
)

// levelsRefused are scripts that cannot open anything.
func levelsRefused(answer string) map[suite.Level][]string {
	return map[suite.Level][]string{
		suite.Full:   {openIt + " => " + answer, "get 61 => err closed", "destroy DIR NAME", openIt + " => err notfound"},
		suite.Reader: {lookIt + " => " + answer, "get 61 => err closed"},
	}
}

// refused are images that are not to be opened, and one that is to be in spite of what
// is in it.
func refused() []plan {
	return []plan{
		header("magic", "The control segment's magic is another one.", "err magic", control(layout.OffsetControlHeaderMagic, 8, 0x1122334455667788)),
		header("endian", "The control segment was made on a host of the other byte order.", "err endian", control(layout.OffsetControlHeaderEndian, 8, 0x0102030405060708)),
		header("version", "The control segment is for major version 2.", "err version", control(layout.OffsetControlHeaderReadVersion, 4, 2)),
		header("feature", "The control segment has an incompatible feature bit that nobody knows.", "err feature", control(layout.OffsetControlHeaderIncompatible, 8, 1<<40)),
		header("fingerprint", "The control segment has the fingerprint of another layout.", "err fingerprint", control(layout.OffsetControlHeaderFingerprint, 8, 1)),
		header("geometry", "The control segment has more regions than its file has room for, and than there may be.", "err geometry", control(layout.OffsetControlHeaderRegions, 4, 1<<20)),
		header("boot", "The control segment is from before the last boot.", "err staleboot", control(layout.OffsetControlHeaderBootID, 8, 1)),
		header("checksum", "A number in the control segment's header was changed: the checksum says so.", "err checksum", func(im *image) {
			poke(im.control.Bytes(), layout.OffsetControlHeaderCreated, 8, 7)
		}),
		header("truncated", "The control segment's file ends after its header.", "err truncated", func(im *image) {
			im.extra["control"] = im.control.Bytes()[:layout.PageSize]
		}),
		header("oversized", "The control segment's file is a page longer than its header says.", "err oversized", func(im *image) {
			im.extra["control"] = append(append([]byte(nil), im.control.Bytes()...), make([]byte, layout.PageSize)...)
		}),
		header("slab-magic", "The slab's magic is another one.", "err magic", inSlab(layout.OffsetSlabHeaderMagic, 8, 1)),
		header("slab-feature", "The slab has an incompatible feature bit that nobody knows.", "err feature", inSlab(layout.OffsetSlabHeaderIncompatible, 8, 2)),
		header("slab-checksum", "A number in the slab's header was changed: the checksum says so.", "err checksum", func(im *image) {
			poke(im.main().seg.Bytes(), layout.OffsetSlabHeaderCreated, 8, 7)
		}),
		header("slab-geometry", "The slab has fewer cells than its offsets say.", "err geometry", inSlab(layout.OffsetSlabHeaderCells, 4, 3)),
		header("slab-foreign", "The slab is of another domain.", "err foreign", inSlab(layout.OffsetSlabHeaderDomainUUID, 8, 1)),
		header("slab-notready", "The slab was never completed.", "err notready", func(im *image) {
			poke(im.main().seg.Bytes(), layout.OffsetSlabHeaderReady, 8, 0)
		}),
		header("slab-truncated", "The slab's file ends after its header.", "err truncated", func(im *image) {
			im.extra[im.main().file()] = im.main().seg.Bytes()[:layout.PageSize]
		}),
		{
			name: "later-minor", about: "A later minor version wrote here: compatible feature bits that nobody knows yet, and bytes that are reserved are not zero. It is used as any other.",
			clauses: "3 Minor versions",
			make: func() *image {
				im := smallImage()
				c, s := im.control.Bytes(), im.main().seg.Bytes()
				poke(c, layout.OffsetControlHeaderCompatible, 8, 1<<63|1)
				poke(s, layout.OffsetSlabHeaderCompatible, 8, 1<<63|1)
				poke(c, layout.OffsetControlHeaderReady+8, 8, 0x1111111111111111)
				poke(c, 2048, 8, 0x2222222222222222)
				poke(s, layout.OffsetSlabHeaderReady+8, 8, 0x3333333333333333)
				poke(s, im.main().at.shard+layout.OffsetShardEpoch-8, 8, 0x4444444444444444)
				poke(s, im.main().at.shard+layout.SizeShard-8, 8, 0x5555555555555555)
				poke(c, im.geo.EntryOffset+layout.SizeEntry-8, 8, 0x6666666666666666)
				im.sumControl()
				im.main().sum()
				return im
			},
			scripts: levels(script(append(peeks("a", "b", "c", "d"), "set 65 65", "peek 65")...), peeks("a", "b", "c", "d")...),
		},
	}
}
