package replay

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/slab"
)

// ErrCapacity says that a capacity cannot be read, or that a cache cannot be made
// as exact as asked.
var ErrCapacity = errors.New("bad capacity")

// Capacity is a number of records, or a percentage of the unique keys.
type Capacity struct {
	text    string
	percent float64 // 0: records counts
	records uint64
}

// ParseCapacity reads "5000" or "2.5%".
func ParseCapacity(s string) (Capacity, error) {
	if number, ok := strings.CutSuffix(s, "%"); ok {
		p, err := strconv.ParseFloat(number, 64)
		if err != nil || !(p > 0 && p <= 1000) {
			return Capacity{}, fmt.Errorf("%w %q: need more than 0%%, at most 1000%%", ErrCapacity, s)
		}
		return Capacity{text: s, percent: p}, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 {
		return Capacity{}, fmt.Errorf("%w %q: need a number of records, as 5000, or a part of the unique keys, as 2.5%%", ErrCapacity, s)
	}
	return Capacity{text: s, records: n}, nil
}

// String returns the capacity as it was asked for.
func (c Capacity) String() string { return c.text }

// Of returns the capacity in records for a trace of so many unique keys, 1 at least.
func (c Capacity) Of(unique uint64) uint64 {
	if c.percent == 0 {
		return c.records
	}
	return uint64(max(1, math.Round(float64(unique)*c.percent/100)))
}

// Shape says how the cache is made for a replay.
type Shape struct {
	Shards int  // 0: the library's choice
	Value  int  // bytes of every value
	Exact  bool // no headroom: room for the capacity's records and not one more
	Order  flagstone.Order
}

// Options returns the options of a cache for a number of records of which each
// takes one cell.
func (s Shape) Options(records uint64, longestKey int) (flagstone.Options, error) {
	// A value of 0 bytes at most cannot be asked for, nor a key of less than 8.
	o := flagstone.Options{Entries: records, Shards: s.Shards, MaxKey: max(8, longestKey), MaxValue: max(layout.LeastMaxValue, s.Value), Order: s.Order}
	for o.CellSize = 64; (slab.Geometry{CellSize: uint32(o.CellSize)}).Payload() < uint64(o.MaxKey+o.MaxValue); {
		o.CellSize += 64
	}
	if !s.Exact {
		return o, nil
	}
	g, err := plan(o)
	if err != nil {
		return o, err
	}
	o.Shards = int(g.Shards)
	// Entries are what is sure to fit; the most of them whose room is not larger
	// than asked.
	most := sort.Search(int(min(records, math.MaxInt32)), func(n int) bool {
		o.Entries = uint64(n) + 1
		g, err := plan(o)
		return err != nil || Room(g) > records
	})
	o.Entries = uint64(most)
	if g, err = plan(o); most == 0 || err != nil || Room(g) != records {
		return o, fmt.Errorf("%w: %d records cannot be exact with %d shards: need a multiple of the shards, or 1 shard", ErrCapacity, records, o.Shards)
	}
	return o, nil
}

func plan(o flagstone.Options) (slab.Geometry, error) {
	return slab.Plan(slab.Options{Entries: o.Entries, Shards: o.Shards, CellSize: o.CellSize, MaxKey: o.MaxKey, MaxValue: o.MaxValue, Order: o.Order})
}

// Room returns how many records of one cell a slab holds if they spread evenly.
func Room(g slab.Geometry) uint64 { return uint64(g.Shards) * uint64(g.Cells-g.Reserve) }
