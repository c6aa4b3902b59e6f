package main

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// field is some bytes of a file and what they are.
type field struct {
	at, n uint64
	name  string
	says  func(word uint64) string
}

// fields lays a struct over a place in a file.
func fields(of string, at uint64, label string) (out []field) {
	for _, f := range layout.Structs[of].Fields {
		for i := range f.Count {
			name := fmt.Sprintf("%s.%s", label, f.Name)
			if f.Count > 1 {
				name += fmt.Sprintf("[%d]", i)
			}
			out = append(out, field{at + f.Offset + i*f.Width, f.Width, name, func(word uint64) string { return meaning(of, f, i, word) }})
		}
	}
	return append(out, field{at: at + layout.Structs[of].Size}) // of no bytes: what follows begins a row
}

// controlFields are all fields of the control segment.
func (im *image) controlFields() []field {
	out := fields("ControlHeader", 0, "ControlHeader")
	for i := range uint64(im.geo.Mutexes) {
		out = append(out, fields("Mutex", im.geo.MutexOffset+i*layout.SizeMutex, fmt.Sprintf("Mutex %d", i))...)
	}
	for i := range uint64(im.geo.Entries) {
		out = append(out, fields("Entry", im.geo.EntryOffset+i*layout.SizeEntry, fmt.Sprintf("Entry %d", i))...)
	}
	for i := range uint64(im.geo.Regions) {
		out = append(out, fields("Region", im.geo.RegionOffset+i*uint64(im.geo.RegionStride), fmt.Sprintf("Region %d", i))...)
	}
	return out
}

// slabFields are all fields of a slab.
func (im *image) slabFields(s *slabImage) []field {
	out := fields("SlabHeader", 0, "SlabHeader")
	b := s.seg.Bytes()
	for sh := range uint64(s.geo.Shards) {
		at := s.at.shard + sh*s.at.stride
		label := fmt.Sprintf("Shard %d", sh)
		out = append(out, fields("Shard", at, label)...)
		for i := range uint64(s.geo.Buckets) {
			out = append(out, fields("Bucket", at+s.at.index+i*layout.SizeBucket, fmt.Sprintf("%s Bucket %d", label, i))...)
		}
		for i := range uint64(s.geo.Overflow) {
			out = append(out, fields("Bucket", at+s.at.index+(uint64(s.geo.Buckets)+i)*layout.SizeBucket, fmt.Sprintf("%s overflow Bucket %d", label, i+1))...)
		}
		for i := range uint64(s.geo.Cells) {
			cell := at + s.at.cells + i*uint64(s.geo.CellSize)
			state := binary.LittleEndian.Uint64(b[cell:]) & layout.VersionStateMask
			kind := "CellHeader"
			if state == layout.VersionPart && !im.heads[fmt.Sprint(s.id, cell)] {
				kind = "TailHeader"
			}
			header := fields(kind, cell, fmt.Sprintf("%s cell %d %s", label, i+1, kind))
			if state == layout.VersionFree { // the rest is left over, of a head or a tail
				header = slices.DeleteFunc(header, func(f field) bool {
					return f.at != cell+layout.OffsetCellHeaderVersion && f.at != cell+layout.OffsetCellHeaderChain
				})
				header[1].says = func(uint64) string { return "next free cell" }
			}
			out = append(out, header...)
		}
	}
	return out
}

// text writes a file: what is not zero, field by field.
func text(w *strings.Builder, name string, b []byte, all []field) {
	fmt.Fprintf(w, "\nfile %s %d\n", name, len(b))
	slices.SortFunc(all, func(a, b field) int { return cmp.Compare(a.at, b.at) })
	end := uint64(0)
	for _, f := range all {
		if f.at < end || f.at+f.n > uint64(len(b)) {
			continue
		}
		loose(w, b, end, f.at)
		end = f.at + f.n
		if raw := b[f.at:end]; !zero(raw) {
			fmt.Fprintf(w, "%06x  %-24s # %s = %s: %s\n", f.at, spaced(raw), f.name, number(raw), f.says(word(raw)))
		}
	}
	loose(w, b, end, uint64(len(b)))
}

// loose writes bytes that are no field.
func loose(w *strings.Builder, b []byte, from, to uint64) {
	const row = 16
	for ; from < to; from += row {
		raw := b[from:min(from+row, to)]
		for len(raw) > 0 && raw[len(raw)-1] == 0 {
			raw = raw[:len(raw)-1]
		}
		if len(raw) > 0 {
			fmt.Fprintf(w, "%06x  %-47s # %s\n", from, spaced(raw), strconv.QuoteToASCII(string(raw)))
		}
	}
}

func zero(b []byte) bool { return !slices.ContainsFunc(b, func(x byte) bool { return x != 0 }) }

func spaced(b []byte) string { return fmt.Sprintf("% x", b) }

func word(raw []byte) (n uint64) {
	for i, x := range raw {
		n |= uint64(x) << (8 * i)
	}
	return n
}

func number(raw []byte) string {
	if n := word(raw); n >= 1<<20 {
		return fmt.Sprintf("%#x", n)
	}
	return fmt.Sprint(word(raw))
}
