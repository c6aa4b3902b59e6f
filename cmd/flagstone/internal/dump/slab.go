package dump

import (
	"fmt"
	"strconv"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/slab"
)

// slab shows a slab.
func (w *walk) slab() error {
	inside := chosen(w.Buckets, w.Overflow, w.Cells)
	page, err := w.header("SlabHeader", !inside && !w.Shards.given)
	if err != nil {
		return err
	}
	g, refused := slab.ReadGeometry(w.file.f.Name(), page, w.file.size)
	if w.hopeless(refused) {
		return refused
	}
	h := shm.At[layout.SlabHeader](page, 0) // its offsets were checked to be what follows from the counts
	heads := structs{
		what: "shard", choice: w.Shards, count: uint64(g.Shards), from: h.ShardOffset.Load(), stride: h.ShardStride.Load(),
		of: always("Shard"), inUse: func([]byte) bool { return true },
	}
	if inside {
		err = heads.choice.each(heads.what, 0, heads.count, func(i uint64, _ bool) error {
			return w.shard(fmt.Sprintf("shard %d", i), heads.from+i*heads.stride, g, h)
		})
	} else {
		err = w.table(heads)
	}
	if err != nil {
		return err
	}
	return refused
}

// shard shows what was chosen in a shard.
func (w *walk) shard(name string, from uint64, g slab.Geometry, h *layout.SlabHeader) error {
	used := func(raw []byte) bool { return !zero(raw) }
	index := from + h.IndexOffset.Load()
	for _, s := range []structs{
		{
			what: name + " bucket", choice: w.Buckets, count: uint64(g.Buckets), from: index, stride: layout.SizeBucket,
			of: always("Bucket"), inUse: used,
		},
		{
			what: name + " overflow bucket", choice: w.Overflow, first: 1, count: uint64(g.Overflow),
			from: index + uint64(g.Buckets)*layout.SizeBucket, stride: layout.SizeBucket,
			of: always("Bucket"), inUse: used,
		},
		{
			what: name + " cell", choice: w.Cells, first: 1, count: uint64(g.Cells),
			from: from + h.CellOffset.Load(), stride: uint64(g.CellSize),
			of: cellKind, inUse: func(raw []byte) bool { return word(raw) != 0 }, more: w.payload,
		},
	} {
		if !s.choice.given {
			continue
		}
		if err := w.table(s); err != nil {
			return err
		}
	}
	return nil
}

// cellKind says as what a cell is shown: a part may be a head that is being written,
// but most are tails.
func cellKind(raw []byte) string {
	if word(raw)&layout.VersionStateMask == layout.VersionPart {
		return "TailHeader"
	}
	return "CellHeader"
}

// most of a key or a value is shown as text.
const most = 64

// payload returns what a live head's cell holds of key and value, and the bytes of
// any cell.
func (w *walk) payload(raw []byte) (out []Field) {
	start := uint64(layout.Structs[cellKind(raw)].Size)
	if uint64(len(raw)) < start {
		return nil
	}
	if v := word(raw); v != 0 && v&layout.VersionStateMask == layout.VersionLive {
		lengths := layout.Structs["CellHeader"]
		keyFlags, valueLength := wordAt(lengths, "KeyFlags", raw), wordAt(lengths, "ValueLength", raw)
		rest := raw[start:]
		key := rest[:min(keyFlags&layout.KeyLengthMask, uint64(len(rest)))]
		value := rest[len(key):min(uint64(len(key))+valueLength, uint64(len(rest)))]
		out = append(out, text("key", start, key, keyFlags&layout.KeyLengthMask))
		at := start + uint64(len(key))
		if keyFlags>>layout.KeyFlagsShift&layout.FlagClaim != 0 {
			out = append(out, claim(at, value)...)
		} else {
			out = append(out, text("value", at, value, valueLength))
		}
	}
	if w.Hex {
		out = append(out, rows(raw, start)...)
	}
	return out
}

// text shows the beginning of a key or value of n bytes.
func text(name string, at uint64, here []byte, n uint64) Field {
	shown := here[:min(most, len(here))]
	f := Field{Offset: at, Name: name, Means: strconv.QuoteToASCII(string(shown))}
	if n > uint64(len(shown)) {
		f.Means += fmt.Sprintf("... (%d bytes)", n)
	}
	return f
}

// claim shows the value of a claim.
func claim(at uint64, value []byte) (out []Field) {
	words := []struct {
		name  string
		at    uint64
		means func(uint64) string
	}{
		{"claim.State", layout.ClaimState, claimState},
		{"claim.Owner", layout.ClaimOwner, lockWord},
		{"claim.Deadline", layout.ClaimDeadline, uptime},
		{"claim.Ended", layout.ClaimEnded, version},
		{"claim.Until", layout.ClaimUntil, wallTime},
	}
	for _, c := range words {
		if c.at+8 > uint64(len(value)) {
			return out
		}
		v := word(value[c.at:])
		out = append(out, Field{Offset: at + c.at, Name: c.name, Value: &v, Means: c.means(v), Bytes: value[c.at : c.at+8]})
	}
	if len(value) > layout.ClaimText {
		rest := value[layout.ClaimText:]
		out = append(out, text("claim.Text", at+layout.ClaimText, rest, uint64(len(rest))))
	}
	return out
}

// wordAt returns a field of a struct.
func wordAt(s layout.Struct, name string, raw []byte) uint64 {
	for _, f := range s.Fields {
		if f.Name == name && f.Offset+f.Width <= uint64(len(raw)) {
			return number(raw[f.Offset : f.Offset+f.Width])
		}
	}
	return 0
}
