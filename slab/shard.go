package slab

import (
	"fmt"
	"sync/atomic"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
	"github.com/flagstone-shm/flagstone/lru"
)

// shard is this process's view of one shard. Everything but the counters is set
// once; shared words are reached through head, index and cells.
type shard struct {
	slab   *Slab
	number uint32
	head   *layout.Shard
	lead   *layout.Shard // the column's: whose lock, epoch and sequence are this one's
	index  shm.Window    // buckets, then overflow buckets
	cells  shm.Window
	order  lru.Order
	finder shm.Finder // of the same words, for the common lookup

	// Of the geometry and the domain, for the hot path.
	wall, now                  *layout.Uint64
	cellSize, payload, buckets uint64
	grain                      uint64 // a hit stamps what was last stamped longer ago than this, in milliseconds
	raise                      uint64 // of a record's count by a hit
	count, overflows           uint32

	mutex *lock.Mutex // the column's: guards everything of the shard but the readers' words

	scratch []byte // under the lock: bytes of a record on its way to here

	// What this process's lookups found; apart from the words above, which all
	// of its goroutines read.
	_            [64]byte
	hits, misses atomic.Uint64
	_            [48]byte

	sets, deletes, rebuilds atomic.Uint64 // of this process, counted under the lock
}

// init touches nothing of the shard, so that a slab can be attached for the price of
// its header: no address of a field is taken.
func (sh *shard) init(s *Slab, number uint32, w shm.Window) {
	g := s.geo
	sh.slab, sh.number = s, number
	sh.head = shm.At[layout.Shard](w, 0)
	sh.index = w.Sub(g.indexOffset(), g.indexSize())
	sh.cells = w.Sub(g.cellOffset(), g.cellBytes())
	sh.order = lru.New(sh.head, sh.cells, uint64(g.CellSize), g.Cells, w.Sub(g.ghostOffset(), g.ghostSize()))
	sh.raise = sh.order.Raise()
	sh.cellSize, sh.payload, sh.buckets = uint64(g.CellSize), g.Payload(), uint64(g.Buckets)
	sh.wall, sh.now, sh.grain = s.domain.Wall, s.domain.Now, uint64(g.StampMillis)
	sh.count, sh.overflows = g.Cells, g.Overflow
	if s.domain.ReadOnly {
		sh.raise = 0
	}
	sh.finder = shm.Finder{
		Index: sh.index, Cells: sh.cells,
		Epoch: shm.At[layout.Uint64](w, layout.OffsetShardEpoch), Turn: shm.At[layout.Uint64](w, layout.OffsetShardTurn),
		Wall: sh.wall, Now: sh.now, Grain: sh.grain, Raise: sh.raise * layout.RecencyCountMask, Hits: &sh.hits,
		Buckets: sh.buckets, CellSize: sh.cellSize, Payload: sh.payload, Count: uint64(sh.count),
	}
}

// version packs a live head's version.
func (sh *shard) version(sequence uint64) uint64 {
	return sequence<<layout.VersionSequenceShift | uint64(sh.number)<<layout.VersionShardShift
}

// isLive reports whether a version word is a live head's.
func isLive(v uint64) bool { return v&layout.VersionStateMask == layout.VersionLive && v != 0 }

// cellOffset returns where cell n starts. The caller has checked n.
func (sh *shard) cellOffset(n uint32) uint64 { return uint64(n-1) * sh.cellSize }

// isCell reports whether n is a cell's number.
func (sh *shard) isCell(n uint32) bool { return n-1 < sh.count } // 0 wraps around

// cell returns the header of cell n, which the caller has checked.
func (sh *shard) cell(n uint32) *layout.CellHeader {
	return shm.At[layout.CellHeader](sh.cells, sh.cellOffset(n))
}

// tail returns the header of cell n as a tail. The caller has checked n.
func (sh *shard) tail(n uint32) *layout.TailHeader {
	return shm.At[layout.TailHeader](sh.cells, sh.cellOffset(n))
}

// lengths unpacks the lengths of a record and says whether the slab allows them.
func (sh *shard) lengths(c *layout.CellHeader) (keyLen, valueLen uint64, flags uint32, ok bool) {
	kf := c.KeyFlags.Load()
	keyLen, valueLen, flags = uint64(kf&layout.KeyLengthMask), uint64(c.ValueLength.Load()), kf>>layout.KeyFlagsShift
	return keyLen, valueLen, flags, keyLen <= uint64(sh.slab.geo.MaxKey) && valueLen <= uint64(sh.slab.geo.MaxValue)
}

// parts calls do for each run of the record's bytes from..from+n, in order, with
// its offset in the cells' window. It returns false if do does, or if the chain
// is not that of the head's version: then the record has changed meanwhile, or
// is damaged. The number of steps comes from the lengths, never from the links.
func (sh *shard) parts(head uint32, version, from, n uint64, do func(off, n uint64) bool) bool {
	c := sh.cell(head)
	off, room, next := sh.cellOffset(head)+headSize, sh.payload, c.Chain.Load()
	for {
		if from < room {
			part := min(n, room-from)
			if part > 0 && !do(off+from, part) {
				return false
			}
			n -= part
			from = 0
		} else {
			from -= room
		}
		if n == 0 {
			return true
		}
		if !sh.isCell(next) {
			return false
		}
		t := sh.tail(next)
		if t.Version.Load() != version|layout.VersionPart { // pairs with the writer's store
			return false
		}
		off, room, next = sh.cellOffset(next)+tailSize, sh.cellSize-tailSize, t.Chain.Load()
	}
}

// appendBytes appends n of the record's bytes to dst; ok as in parts.
func (sh *shard) appendBytes(dst []byte, head uint32, version, from, n uint64) (out []byte, ok bool) {
	if from+n <= sh.payload {
		return sh.cells.Append(dst, sh.cellOffset(head)+headSize+from, n), true
	}
	ok = sh.parts(head, version, from, n, func(off, n uint64) bool {
		dst = sh.cells.Append(dst, off, n)
		return true
	})
	return dst, ok
}

// hasKey reports whether the record's key bytes are k's.
func (sh *shard) hasKey(head uint32, version uint64, k *Key) bool {
	if uint64(len(k.bytes)) <= sh.payload {
		return sh.cells.Equal(sh.cellOffset(head)+headSize, k.bytes)
	}
	return sh.hasLongKey(head, version, k.bytes)
}

// hasLongKey is hasKey for a key of more than one cell.
func (sh *shard) hasLongKey(head uint32, version uint64, rest []byte) bool {
	return sh.parts(head, version, 0, uint64(len(rest)), func(off, n uint64) bool {
		same := sh.cells.Equal(off, rest[:n])
		rest = rest[n:]
		return same
	})
}

func (sh *shard) brokenf(format string, args ...any) error {
	return fmt.Errorf("%w: shard %d: %s", errBroken, sh.number, fmt.Sprintf(format, args...))
}
