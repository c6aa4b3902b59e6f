package slab

import (
	"testing"

	"pgregory.net/rapid"
)

func TestGeometry_Fits_RecordsOfAnySizeAreTaken(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		o := Options{
			Entries: rapid.Uint64Range(1, 2000).Draw(r, "entries"), CellSize: 64 * rapid.IntRange(1, 3).Draw(r, "cell"),
			MaxKey: 16, MaxValue: 1000, Shards: 1 << rapid.IntRange(0, 4).Draw(r, "shards"), OnFull: Refuse,
		}
		s, _ := newSlab(t, o)
		value := make([]byte, rapid.IntRange(0, 1000).Draw(r, "value"))
		cells, records := s.Geometry().Fits(16 + uint64(len(value)))
		for i := range records {
			if err := s.Set(bg, key16(i), value, 0); err != nil {
				r.Fatalf("record %d of %d: %v", i, records, err)
			}
		}
		st, err := s.Stats()
		if err != nil || st.Records != records || st.Cells != records*cells {
			r.Fatalf("%+v, %v, want %d records of %d cells", st, err, records, cells)
		}
		if cells == 1 && records < o.Entries {
			r.Fatalf("%d records of one cell, made for %d", records, o.Entries)
		}
	})
}
