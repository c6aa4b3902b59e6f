package main

import (
	"fmt"
	"io"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/table"
)

// shapeJSON is how a cache was made.
type shapeJSON struct {
	Capacity        uint64  `json:"capacity"` // records of one cell
	HeadroomCells   uint64  `json:"headroom_cells"`
	HeadroomPercent float64 `json:"headroom_percent"` // of the capacity
	FileSize        uint64  `json:"file_size"`        // bytes
	BytesPerRecord  float64 `json:"bytes_per_record"` // of the file, for each record of the capacity
	PayloadPerCell  uint64  `json:"payload_per_cell"` // bytes of key and value in a record's first cell
	Shards          uint32  `json:"shards"`
	CellsPerShard   uint32  `json:"cells_per_shard"`
	ReservePerShard uint32  `json:"reserve_per_shard"` // cells kept for replacing
	CellSize        uint32  `json:"cell_size"`         // bytes
	MaxKey          uint32  `json:"max_key"`           // bytes
	MaxValue        uint32  `json:"max_value"`         // bytes
	OnFull          string  `json:"on_full"`
	Order           string  `json:"order"`
	PrecisionMillis uint32  `json:"precision_ms"` // of last uses
	Regions         uint32  `json:"regions"`
}

func newShape(st flagstone.Stats, t table.Geometry) shapeJSON {
	g := st.Geometry
	return shapeJSON{
		Capacity: g.Capacity, HeadroomCells: st.Headroom, HeadroomPercent: 100 * ratio(st.Headroom, g.Capacity),
		FileSize: st.FileSize, BytesPerRecord: ratio(st.FileSize, g.Capacity), PayloadPerCell: g.Payload(),
		Shards: g.Shards, CellsPerShard: g.Cells, ReservePerShard: g.Reserve,
		CellSize: g.CellSize, MaxKey: g.MaxKey, MaxValue: g.MaxValue, OnFull: policies[g.OnFull], Order: orders[g.Order],
		PrecisionMillis: g.StampMillis + 1, Regions: t.Regions,
	}
}

func (s shapeJSON) print(w io.Writer) {
	fmt.Fprintf(w, "capacity\t%d records of one cell\n", s.Capacity)
	fmt.Fprintf(w, "headroom\t%d cells (%.1f%%), %d of each shard kept for replacing\n", s.HeadroomCells, s.HeadroomPercent, s.ReservePerShard)
	fmt.Fprintf(w, "file size\t%s (%d bytes), %.1f bytes for each record of the capacity\n", bytesText(s.FileSize), s.FileSize, s.BytesPerRecord)
	fmt.Fprintf(w, "shards\t%d of %d cells of %d bytes, %d of them for key and value\n", s.Shards, s.CellsPerShard, s.CellSize, s.PayloadPerCell)
	fmt.Fprintf(w, "longest\tkey %d bytes, value %d bytes\n", s.MaxKey, s.MaxValue)
	fmt.Fprintf(w, "on full\t%s\n", s.OnFull)
	fmt.Fprintf(w, "order\t%s\n", s.Order)
	fmt.Fprintf(w, "precision\t%v\n", time.Duration(s.PrecisionMillis)*time.Millisecond)
	fmt.Fprintf(w, "regions\t%d\n", s.Regions)
}
