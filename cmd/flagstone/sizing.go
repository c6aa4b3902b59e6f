package main

import (
	"cmp"
	"fmt"
	"io"
	"sort"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// sizedJSON is what size prints.
type sizedJSON struct {
	Shape  shapeJSON  `json:"shape"`
	Record recordJSON `json:"record"`
}

// recordJSON is about records of one size.
type recordJSON struct {
	KeySize     uint64  `json:"key_size"`   // bytes
	ValueSize   uint64  `json:"value_size"` // bytes
	Cells       uint64  `json:"cells"`
	Fit         uint64  `json:"fit"`          // before the first eviction or refusal
	BytesEach   float64 `json:"bytes_each"`   // of the file
	UsedPercent float64 `json:"used_percent"` // of the file, by their keys and values
}

func newSized(g slab.Geometry, keySize, valueSize uint64) (out sizedJSON) {
	// What create makes unless told otherwise; the defaults are no error.
	control, _ := table.Plan(table.Options{})
	out.Shape = newShape(flagstone.Stats{Geometry: g, FileSize: g.FileSize(), Headroom: g.Headroom()}, control)
	cells, fit := g.Fits(keySize + valueSize)
	out.Record = recordJSON{
		KeySize: keySize, ValueSize: valueSize, Cells: cells, Fit: fit,
		BytesEach: ratio(g.FileSize(), fit), UsedPercent: 100 * ratio(fit*(keySize+valueSize), g.FileSize()),
	}
	return out
}

func (s sizedJSON) print(w io.Writer) {
	s.Shape.print(w)
	r := s.Record
	if r.KeySize+r.ValueSize == 0 {
		return
	}
	fmt.Fprintf(w, "\nkey and value\t%d and %d bytes\n", r.KeySize, r.ValueSize)
	fmt.Fprintf(w, "cells\t%d of a record\n", r.Cells)
	fmt.Fprintf(w, "fit\t%d records, %.1f bytes of the file each, %.1f%% of it keys and values\n", r.Fit, r.BytesEach, r.UsedPercent)
}

func (a *app) sizeCommand() *cobra.Command {
	var o slab.Options
	by := order(flagstone.LRU)
	var precision time.Duration
	var fileSize, cell, maxKey, maxValue, keySize, valueSize size
	cmd := &cobra.Command{
		Use: "size --entries N | --size BYTES", Short: "Convert numbers of records to bytes and back", Args: cobra.NoArgs,
		Long: `Says how large a cache for so many records is, or how many records a cache of that
size holds, and how it is divided. It makes nothing; create takes the same flags.

Without --key-size and --value-size records are of one cell. With them --entries
are records of that size: the cache is then large enough for them whatever their
hashes, and what it says as capacity, in cells, is what create takes as --entries.`,
		Example: `  flagstone size --entries 1000000 --key-size 20 --value-size 200
  flagstone size --size 1GiB --cell 256 --max-value 1KiB
  flagstone size --entries 50000 --max-value 1MiB --shards 16 --json`,
		RunE: func(*cobra.Command, []string) error {
			o.Size, o.CellSize, o.MaxKey, o.MaxValue = uint64(fileSize), int(cell), int(maxKey), int(maxValue)
			if o.MaxKey == 0 && keySize > slab.DefaultMaxKey {
				o.MaxKey = int(keySize)
			}
			if o.MaxValue == 0 && valueSize > slab.DefaultMaxValue {
				o.MaxValue = int(valueSize)
			}
			o.Order = flagstone.Order(by)
			o.StampMillis = int(cmp.Or(precision, flagstone.DefaultPrecision)/time.Millisecond) - 1
			g, err := plan(o, uint64(keySize)+uint64(valueSize))
			if err != nil {
				return err
			}
			if keySize > size(g.MaxKey) || valueSize > size(g.MaxValue) {
				return usage{fmt.Errorf("records of %d and %d bytes: longer than --max-key %d or --max-value %d", keySize, valueSize, g.MaxKey, g.MaxValue)}
			}
			out := newSized(g, uint64(keySize), uint64(valueSize))
			return a.show(out, out.print)
		},
	}
	flags := cmd.Flags()
	flags.Uint64Var(&o.Entries, "entries", 0, "records that must fit")
	flags.Var(&fileSize, "size", "size of the cache's file")
	flags.Var(&keySize, "key-size", "bytes of a record's key")
	flags.Var(&valueSize, "value-size", "bytes of a record's value")
	flags.Var(&cell, "cell", "size of a cell (default 128)")
	flags.Var(&maxKey, "max-key", "longest key (default 1KiB)")
	flags.Var(&maxValue, "max-value", "longest value (default 64KiB)")
	flags.Var(&by, "order", "in which order a full cache evicts: lru or s3fifo")
	addPrecision(cmd, &precision)
	flags.IntVar(&o.Shards, "shards", 0, "independent parts (default: as many as cost little)")
	cmd.MarkFlagsMutuallyExclusive("size", "entries")
	cmd.MarkFlagsOneRequired("size", "entries")
	for _, name := range []string{"size", "cell", "max-key", "max-value", "key-size", "value-size"} {
		flags.Lookup(name).DefValue = "" // the text says it
	}
	return cmd
}

// plan is slab.Plan with Entries counting records of n bytes.
func plan(o slab.Options, n uint64) (slab.Geometry, error) {
	g, err := slab.Plan(o)
	if err != nil || o.Entries == 0 {
		return g, err
	}
	records := o.Entries
	cells, _ := g.Fits(n)
	least := records * cells
	o.Entries = least
	if g, err = slab.Plan(o); err != nil {
		return g, err
	}
	// As many cells are not quite enough: few large records spread over the shards
	// less evenly than many small ones.
	more := sort.Search(int(least)*layout.MaxShards, func(i int) bool {
		o.Entries = least + uint64(i)
		g, err := slab.Plan(o)
		if err != nil {
			return true
		}
		_, fit := g.Fits(n)
		return fit >= records
	})
	o.Entries = least + uint64(more)
	return slab.Plan(o)
}
