package slab

import (
	"fmt"
	"math"
	"sort"

	"github.com/flagstone-shm/flagstone/internal/format"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lru"
)

// Policy is what a full shard does with a new key.
type Policy uint32

const (
	// Evict makes room by the slab's order. The default.
	Evict Policy = layout.FullEvict
	// Refuse returns ErrFull, for those who run evictions themselves.
	Refuse Policy = layout.FullRefuse
)

// Order is the order in which a full slab's records make room. It plays no part
// in cutoff evictions.
type Order uint32

const (
	// LRU drops what was not used for longest, within a tenth of a lap. The default.
	LRU Order = layout.OrderLRU
	// S3FIFO drops what was used once before what was used again: two queues and
	// the ghosts of keys dropped, 2 bytes a record. It withstands scans, and needs
	// 256 records per shard or more.
	S3FIFO Order = layout.OrderS3FIFO
)

// Options say how large a slab is to be. The zero value of each field is a
// default. They count only when a slab is made.
type Options struct {
	Size     uint64 // bytes of the file at most; 32 MiB if Entries is 0 too
	Entries  uint64 // instead of Size: records of one cell that must fit
	CellSize int    // bytes, a multiple of 64; 128, of which 80 are for key and value
	MaxKey   int    // longest key in bytes; 1,024
	MaxValue int    // longest value in bytes; 65,536
	Shards   int    // a power of two up to 256; as many as cost little
	OnFull   Policy // Evict
	// StampMillis is the grain of last uses: a hit notes one only if the last one
	// noted is more than so many milliseconds ago; 0 notes each at the clock's.
	StampMillis int
	Order       Order // LRU
}

// Defaults of Options.
const (
	DefaultSize     = 32 << 20 // a /dev/shm in a container often has 64 MiB
	DefaultMaxKey   = 1 << 10
	DefaultMaxValue = 64 << 10
)

// Geometry is the shape of a slab. It is computed once, stored in the header,
// and never read from there again after a handle has checked it.
type Geometry struct {
	Shards   uint32 // a power of two
	CellSize uint32 // bytes
	Cells    uint32 // per shard
	Buckets  uint32 // per shard
	Overflow uint32 // overflow buckets per shard
	MaxKey   uint32 // bytes
	MaxValue uint32 // bytes
	Reserve  uint32 // cells of the largest record, kept free for replacing
	Ghosts   uint32 // ghost buckets per shard; 0 in the LRU order
	Order    Order
	OnFull   Policy
	// StampMillis is by how much a stamp may lie behind the use it records, beside
	// the clock's slack.
	StampMillis uint32
	Capacity    uint64 // records of one cell before the first eviction or refusal
}

// Sizes of a cell's parts in bytes.
const (
	headSize = layout.SizeCellHeader
	tailSize = layout.SizeTailHeader
)

func (g Geometry) indexOffset() uint64 { return layout.SizeShard }
func (g Geometry) indexSize() uint64 {
	return (uint64(g.Buckets) + uint64(g.Overflow)) * layout.SizeBucket
}

func (g Geometry) ghostOffset() uint64 { return g.indexOffset() + g.indexSize() }
func (g Geometry) ghostSize() uint64   { return uint64(g.Ghosts) * lru.GhostSize }

// ghosts returns how many ghost buckets a shard of the order needs: places for as
// many keys as the main queue has records.
func ghosts(order Order, cells uint32) uint32 {
	if order == LRU {
		return 0
	}
	return uint32(ceil(uint64(cells)*(layout.SmallShare-1), layout.SmallShare*layout.GhostWays))
}

// cellOffset is where cell 1 starts in a shard: on a page, so that no cell of a
// power-of-two size shares a line with another.
func (g Geometry) cellOffset() uint64 { return pages(g.ghostOffset() + g.ghostSize()) }
func (g Geometry) cellBytes() uint64  { return uint64(g.Cells) * uint64(g.CellSize) }
func (g Geometry) shardStride() uint64 {
	return pages(g.cellOffset() + g.cellBytes())
}
func (g Geometry) shardOffset() uint64 { return layout.PageSize }

// shard returns where shard i starts in the file.
func (g Geometry) shard(i int) uint64 { return g.shardOffset() + uint64(i)*g.shardStride() }

// FileSize returns the size of the slab's file in bytes.
func (g Geometry) FileSize() uint64 {
	return g.shardOffset() + uint64(g.Shards)*g.shardStride()
}

// Headroom returns by how much the shards together exceed the capacity, in
// cells: what uneven hashing needs, and the reserve for replacing.
func (g Geometry) Headroom() uint64 { return uint64(g.Shards)*uint64(g.Cells) - g.Capacity }

// Payload returns how many bytes of key and value fit one cell.
func (g Geometry) Payload() uint64 { return uint64(g.CellSize) - headSize }

// cellsFor returns how many cells a record of n key and value bytes takes.
func (g Geometry) cellsFor(n uint64) uint64 {
	first := g.Payload()
	if n <= first {
		return 1
	}
	return 1 + ceil(n-first, uint64(g.CellSize)-tailSize)
}

// Fits returns how many cells a record of n key and value bytes takes, and how many
// such records fit before the first eviction or refusal, whatever their hashes.
func (g Geometry) Fits(n uint64) (cells, records uint64) {
	cells = g.cellsFor(n)
	room := uint64(g.Cells-g.Reserve) / cells // records of a shard
	records = uint64(sort.Search(int(room*uint64(g.Shards)), func(i int) bool {
		return perShard(uint64(i)+1, uint64(g.Shards)) > room
	}))
	return cells, records
}

func pages(n uint64) uint64   { return (n + layout.PageSize - 1) &^ (layout.PageSize - 1) }
func ceil(n, d uint64) uint64 { return (n + d - 1) / d }

// Plan computes the geometry for the options: the most records that fit into
// Size, or a slab for Entries records.
func Plan(o Options) (Geometry, error) {
	cell := uint64(withDefault(o.CellSize, layout.DefaultCellSize))
	maxKey, maxValue := uint64(withDefault(o.MaxKey, DefaultMaxKey)), uint64(withDefault(o.MaxValue, DefaultMaxValue))
	switch {
	case o.CellSize < 0 || cell%64 != 0 || cell < layout.MinCellSize || cell > layout.MaxCellSize:
		return Geometry{}, fmt.Errorf("%w: cells of %d bytes: need a multiple of 64 from %d to %d", ErrOptions, o.CellSize, layout.MinCellSize, layout.MaxCellSize)
	case o.MaxKey < 0 || maxKey > layout.MaxKeyLength:
		return Geometry{}, fmt.Errorf("%w: keys of %d bytes: the limit is %d", ErrOptions, o.MaxKey, layout.MaxKeyLength)
	case o.MaxValue < 0 || maxValue > layout.MaxValueLength:
		return Geometry{}, fmt.Errorf("%w: values of %d bytes: the limit is %d", ErrOptions, o.MaxValue, layout.MaxValueLength)
	case o.Shards < 0 || o.Shards > layout.MaxShards || o.Shards&(o.Shards-1) != 0:
		return Geometry{}, fmt.Errorf("%w: %d shards: need a power of two up to %d", ErrOptions, o.Shards, layout.MaxShards)
	case o.OnFull != Evict && o.OnFull != Refuse:
		return Geometry{}, fmt.Errorf("%w: policy %d", ErrOptions, o.OnFull)
	case o.StampMillis < 0 || o.StampMillis > layout.MaxStampMillis:
		return Geometry{}, fmt.Errorf("%w: stamps of %d ms: the limit is %d", ErrOptions, o.StampMillis, layout.MaxStampMillis)
	case o.Order > S3FIFO:
		return Geometry{}, fmt.Errorf("%w: order %d", ErrOptions, o.Order)
	case o.Size != 0 && o.Entries != 0:
		return Geometry{}, fmt.Errorf("%w: both Size and Entries", ErrOptions)
	case o.Entries > math.MaxInt32*layout.MaxShards/2 || o.Size > math.MaxInt64/2:
		return Geometry{}, fmt.Errorf("%w: too large", ErrOptions)
	}
	base := Geometry{
		CellSize: uint32(cell), MaxKey: uint32(max(maxKey, 8)), MaxValue: uint32(max(maxValue, layout.LeastMaxValue)),
		Order: max(o.Order, LRU), OnFull: o.OnFull, StampMillis: uint32(o.StampMillis),
	}
	base.Reserve = uint32(base.cellsFor(uint64(base.MaxKey) + uint64(base.MaxValue)))
	if o.Entries != 0 {
		return choose(o.Shards, func(shards uint32) (Geometry, error) { return plan(base, o.Entries, shards) })
	}
	size := o.Size
	if size == 0 {
		size = DefaultSize
	}
	return choose(o.Shards, func(shards uint32) (Geometry, error) { return fill(base, size, shards) })
}

// overhead is which part of the capacity headroom and reserve may take before a
// smaller number of shards is chosen.
const overhead = 8 // one eighth

// choose builds a geometry with the number of shards asked for, or else with the
// most, up to 64, that cost no more than the overhead.
func choose(asked int, build func(shards uint32) (Geometry, error)) (Geometry, error) {
	if asked != 0 {
		return build(uint32(asked))
	}
	for shards := uint32(64); shards > 1; shards /= 2 {
		if g, err := build(shards); err == nil && g.Headroom() <= g.Capacity/overhead {
			return g, nil
		}
	}
	return build(1)
}

// fill completes base for the most entries whose file is not larger than size.
func fill(base Geometry, size uint64, shards uint32) (Geometry, error) {
	entries := sort.Search(int(size/uint64(base.CellSize)), func(n int) bool {
		g, err := plan(base, uint64(n)+1, shards)
		return err != nil || g.FileSize() > size
	})
	if entries == 0 {
		least, err := plan(base, 1, shards)
		if err != nil {
			return least, err
		}
		return least, fmt.Errorf("%w: %d bytes are too few: a record of up to %d bytes and its replacement need %d; lower MaxValue or raise Size",
			ErrOptions, size, base.MaxKey+base.MaxValue, least.FileSize())
	}
	return plan(base, uint64(entries), shards)
}

// plan completes base for a number of entries and of shards.
func plan(g Geometry, entries uint64, shards uint32) (Geometry, error) {
	cells := perShard(entries, uint64(shards)) + uint64(g.Reserve)
	cells = max(cells, 2*uint64(g.Reserve)) // one largest record and its replacement
	if cells > layout.MaxShardCells {
		return g, fmt.Errorf("%w: %d cells per shard, the limit is %d", ErrOptions, cells, layout.MaxShardCells)
	}
	g.Shards, g.Cells, g.Capacity = shards, uint32(cells), entries
	g.Buckets = uint32(ceil(cells, layout.RecordsPerBucket))
	// If every record hashed into one bucket: enough once a rebuild has packed them.
	g.Overflow = uint32(ceil(cells, layout.SlotsPerBucket))
	g.Ghosts = ghosts(g.Order, g.Cells)
	return g, nil
}

// unevenness is the chance, for one slab and one seed, that hashing is so uneven
// that a shard is full before the slab holds its capacity.
const unevenness = 1.0 / (1 << 40)

// perShard returns how many cells each of shards needs so that any n keys fit,
// but for a chance of unevenness: the smallest m for which Chernoff's bound on
// the binomial distribution, exp(-mu((1+x)ln(1+x)-x)) with mu = n/shards and
// m = mu(1+x), times the number of shards is below it.
func perShard(n, shards uint64) uint64 {
	if shards == 1 {
		return n
	}
	mu := float64(n) / float64(shards)
	enough := func(m float64) bool {
		x := m/mu - 1
		return -mu*((1+x)*math.Log1p(x)-x)+math.Log(float64(shards)) <= math.Log(unevenness)
	}
	low := uint64(mu) + 1
	extra := sort.Search(int(n-min(n, low)), func(i int) bool { return enough(float64(low + uint64(i))) })
	return low + uint64(extra)
}

func withDefault(n, def int) int {
	if n == 0 {
		return def
	}
	return n
}

// store writes the geometry into a header.
func (g Geometry) store(h *layout.SlabHeader) {
	h.Shards.Store(g.Shards)
	h.CellSize.Store(g.CellSize)
	h.Cells.Store(g.Cells)
	h.Buckets.Store(g.Buckets)
	h.Overflow.Store(g.Overflow)
	h.MaxKey.Store(g.MaxKey)
	h.MaxValue.Store(g.MaxValue)
	h.Reserve.Store(g.Reserve)
	h.Order.Store(uint32(g.Order))
	h.Full.Store(uint32(g.OnFull))
	h.Capacity.Store(g.Capacity)
	h.ShardOffset.Store(g.shardOffset())
	h.ShardStride.Store(g.shardStride())
	h.IndexOffset.Store(g.indexOffset())
	h.CellOffset.Store(g.cellOffset())
	h.StampMillis.Store(g.StampMillis)
	h.GhostOffset.Store(g.ghostOffset())
	h.Ghosts.Store(g.Ghosts)
}

// ReadGeometry reads the geometry from the header of a slab of fileSize bytes,
// once, and refuses one that does not describe such a file.
func ReadGeometry(file string, w shm.Window, fileSize uint64) (Geometry, error) {
	g, _, err := readHeader(file, w, fileSize, true)
	return g, err
}

// readHeader returns the geometry and the identity that a header states.
func readHeader(file string, live shm.Window, fileSize uint64, reading bool) (g Geometry, id Identity, err error) {
	w, err := format.Freeze(file, live, layout.SlabMagic, layout.SlabHeaderChecksummed, fileSize, reading)
	if err != nil {
		return g, id, err
	}
	h := shm.At[layout.SlabHeader](w, 0)
	id = Identity{
		SegmentID: h.SegmentID.Load(), HashSeed: h.HashSeed.Load(),
		Domain: [2]uint64{h.DomainUUID[0].Load(), h.DomainUUID[1].Load()},
	}
	g = Geometry{
		Shards: h.Shards.Load(), CellSize: h.CellSize.Load(), Cells: h.Cells.Load(),
		Buckets: h.Buckets.Load(), Overflow: h.Overflow.Load(), MaxKey: h.MaxKey.Load(),
		MaxValue: h.MaxValue.Load(), Reserve: h.Reserve.Load(), Order: Order(h.Order.Load()), Ghosts: h.Ghosts.Load(),
		OnFull: Policy(h.Full.Load()), StampMillis: h.StampMillis.Load(), Capacity: h.Capacity.Load(),
	}
	within := func(field string, got uint32, least, most uint64) format.Rule {
		return format.Within(field, uint64(got), least, most, format.ErrGeometry)
	}
	equal := func(field string, got, want uint64) format.Rule {
		return format.Equal(field, got, want, format.ErrGeometry)
	}
	// First the limits, so that nothing that follows from them overflows.
	if err = format.Check(file,
		format.Equal("Ready", h.Ready.Load(), 1, format.ErrNotReady), // pairs with the store in Format
		within("Shards", g.Shards, 1, layout.MaxShards),
		equal("Shards", uint64(g.Shards&(g.Shards-1)), 0),
		within("CellSize", g.CellSize, layout.MinCellSize, layout.MaxCellSize),
		equal("CellSize", uint64(g.CellSize%64), 0),
		within("Cells", g.Cells, 2, layout.MaxShardCells),
		within("Buckets", g.Buckets, 1, uint64(g.Cells)),
		within("MaxKey", g.MaxKey, 8, layout.MaxKeyLength),
		within("MaxValue", g.MaxValue, layout.LeastMaxValue, layout.MaxValueLength),
		within("StampMillis", g.StampMillis, 0, layout.MaxStampMillis),
		within("Order", uint32(g.Order), layout.OrderLRU, layout.OrderS3FIFO),
		within("Full", uint32(g.OnFull), layout.FullEvict, layout.FullRefuse),
	); err != nil {
		return g, id, err
	}
	return g, id, format.Check(file,
		equal("Overflow", uint64(g.Overflow), ceil(uint64(g.Cells), layout.SlotsPerBucket)),
		equal("Reserve", uint64(g.Reserve), g.cellsFor(uint64(g.MaxKey)+uint64(g.MaxValue))),
		within("Reserve", g.Reserve, 1, uint64(g.Cells)/2),
		equal("Ghosts", uint64(g.Ghosts), uint64(ghosts(g.Order, g.Cells))),
		format.Within("Capacity", g.Capacity, 1, uint64(g.Shards)*uint64(g.Cells-min(g.Reserve, g.Cells)), format.ErrGeometry),
		equal("ShardOffset", h.ShardOffset.Load(), g.shardOffset()),
		equal("ShardStride", h.ShardStride.Load(), g.shardStride()),
		equal("IndexOffset", h.IndexOffset.Load(), g.indexOffset()),
		equal("GhostOffset", h.GhostOffset.Load(), g.ghostOffset()),
		equal("CellOffset", h.CellOffset.Load(), g.cellOffset()),
		equal("FileSize", h.FileSize.Load(), g.FileSize()),
		format.Size(fileSize, g.FileSize()),
	)
}
