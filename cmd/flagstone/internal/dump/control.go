package dump

import (
	"fmt"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/table"
)

// control shows the control segment.
func (w *walk) control() error {
	some := chosen(w.Mutexes, w.Entries, w.Regions)
	page, err := w.header("ControlHeader", !some)
	if err != nil {
		return err
	}
	g, refused := table.ReadGeometry(page, w.file.size)
	if w.hopeless(refused) {
		return refused
	}
	for _, s := range []structs{
		{
			what: "mutex", choice: w.Mutexes, count: uint64(g.Mutexes), from: g.MutexOffset, stride: layout.SizeMutex,
			of: always("Mutex"), inUse: func(raw []byte) bool { return word(raw) != 0 },
		},
		{
			what: "entry", choice: w.Entries, count: uint64(g.Entries), from: g.EntryOffset, stride: layout.SizeEntry,
			of: always("Entry"), inUse: func(raw []byte) bool { return word(raw)&layout.EntryStateMask != layout.EntryFree },
		},
		{
			what: "region", choice: w.Regions, count: uint64(g.Regions), from: g.RegionOffset, stride: uint64(g.RegionStride),
			of: always("Region"), inUse: func(raw []byte) bool { return uint32(word(raw)) != layout.RegionFree },
			more: func(raw []byte) []Field { return lists(raw, int(g.Held)) },
		},
	} {
		if some && !s.choice.given {
			continue
		}
		if err := w.table(s); err != nil {
			return err
		}
	}
	return refused
}

// lists returns the words behind a region: what it holds, and what it maps.
func lists(raw []byte, held int) (out []Field) {
	for i := 0; layout.SizeRegion+8*i+8 <= len(raw); i++ {
		at := layout.SizeRegion + 8*i
		v := word(raw[at:])
		if v == 0 {
			continue
		}
		f := Field{Offset: uint64(at), Name: fmt.Sprintf("held[%d]", i), Value: &v, Means: heldMutex(v), Bytes: raw[at : at+8]}
		if i >= held {
			f.Name, f.Means = fmt.Sprintf("mapped[%d]", i-held), fmt.Sprintf("segment %016x", v)
		}
		out = append(out, f)
	}
	return out
}
