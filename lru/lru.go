// Package lru keeps the records of one shard in order of use: a doubly linked
// list through the cell headers, with its ends in the shard's head. It is pure
// code over a window of words; the caller holds the shard's lock.
//
// Readers do not take the lock on every hit. They promote a record at most once
// per turn, a turn being as long as it takes to write a tenth of the shard
// anew, which keeps the list within a tenth of a lap of strict LRU.
package lru

import (
	"errors"
	"fmt"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// ErrBroken says that a link does not lead where it must. The shard needs a rebuild.
var ErrBroken = errors.New("broken list")

// List is the order of one shard. Cells are numbered from 1; 0 is no cell. Every
// link is checked against the number of cells before it is followed.
type List struct {
	head     *layout.Shard
	cells    shm.Window
	cellSize uint64
	count    uint32
}

// New returns the list of the shard at head, whose count cells of cellSize bytes
// fill the window.
func New(head *layout.Shard, cells shm.Window, cellSize uint64, count uint32) List {
	return List{head, cells, cellSize, count}
}

// cell returns the header of cell n, or an error if there is no such cell.
func (l *List) cell(n uint32) (*layout.CellHeader, error) {
	if n-1 >= l.count { // 0 wraps around
		return nil, fmt.Errorf("%w: cell %d of %d", ErrBroken, n, l.count)
	}
	return shm.At[layout.CellHeader](l.cells, uint64(n-1)*l.cellSize), nil
}

// Reset empties the list.
func (l *List) Reset() {
	l.head.Front.Store(0)
	l.head.Back.Store(0)
}

// Back returns the least recently used record, or 0.
func (l *List) Back() uint32 { return l.head.Back.Load() }

// Newer returns the neighbour of n towards the front, or 0.
func (l *List) Newer(n uint32) (uint32, error) {
	c, err := l.cell(n)
	if err != nil {
		return 0, err
	}
	return c.Prev.Load(), nil
}

// PushFront puts record n, which is in no list, at the front.
func (l *List) PushFront(n uint32) error {
	c, err := l.cell(n)
	if err != nil {
		return err
	}
	front := l.head.Front.Load()
	c.Prev.Store(0)
	c.Next.Store(front)
	if front == 0 {
		l.head.Back.Store(n)
	} else {
		f, err := l.cell(front)
		if err != nil {
			return err
		}
		f.Prev.Store(n)
	}
	l.head.Front.Store(n)
	return nil
}

// Remove takes record n out of the list. Nothing is changed unless both
// neighbours agree that it stands between them.
func (l *List) Remove(n uint32) error {
	c, err := l.cell(n)
	if err != nil {
		return err
	}
	before, after := c.Prev.Load(), c.Next.Load()
	fromBefore, fromAfter := &l.head.Front, &l.head.Back
	if before != 0 {
		b, err := l.cell(before)
		if err != nil {
			return err
		}
		fromBefore = &b.Next
	}
	if after != 0 {
		a, err := l.cell(after)
		if err != nil {
			return err
		}
		fromAfter = &a.Prev
	}
	if fromBefore.Load() != n || fromAfter.Load() != n {
		return fmt.Errorf("%w: neighbours %d and %d of cell %d do not name it", ErrBroken, before, after, n)
	}
	fromBefore.Store(after)
	fromAfter.Store(before)
	return nil
}

// Promote moves record n to the front and notes the turn in its recency word.
func (l *List) Promote(n uint32) error {
	if err := l.Remove(n); err != nil {
		return err
	}
	if err := l.PushFront(n); err != nil {
		return err
	}
	c, err := l.cell(n)
	if err != nil {
		return err
	}
	old := c.Recency.Load()
	// Pairs with Touch: a reader that stamps in between keeps its stamp, and the
	// record is promoted once more.
	c.Recency.CompareAndSwap(old, Recency(Stamp(old), l.head.Turn.Load()))
	return nil
}

// Written counts a record written and advances the turn when it is due.
func (l *List) Written() {
	left := l.head.TurnLeft.Load()
	if left == 0 || left > l.count {
		l.head.Turn.Add(1)
		left = l.count/layout.TurnsPerLap + 1
	}
	l.head.TurnLeft.Store(left - 1)
}

// Recency packs a stamp, domain time in milliseconds, and a turn.
func Recency(stamp, turn uint64) uint64 {
	return stamp<<layout.RecencyStampShift | turn&layout.RecencyTurnMask<<layout.RecencyTurnShift
}

// Stamp returns the last use noted in a recency word, domain time in milliseconds.
func Stamp(recency uint64) uint64 { return recency >> layout.RecencyStampShift }

// Due reports whether a hit should try to promote the record: it went to the
// front in another turn.
func Due(recency, turn uint64) bool {
	return (recency>>layout.RecencyTurnShift^turn)&layout.RecencyTurnMask != 0
}

// Touch stamps a record as used now, unless it was stamped within the grain, in
// milliseconds. It takes no lock: one CAS from the word that the reader saw while
// the version was right, forward only. A word that changed meanwhile is left
// alone: the cell may belong to another record. A time beyond 48 bits is no time.
func Touch(c *layout.CellHeader, seen, now, grain uint64) {
	if Stamp(seen)+grain < now {
		stamp(c, seen, now)
	}
}

// stamp is apart so that Touch is inlined.
func stamp(c *layout.CellHeader, seen, now uint64) {
	if now <= 1<<(64-layout.RecencyStampShift)-1 {
		c.Recency.CompareAndSwap(seen, now<<layout.RecencyStampShift|seen&(1<<layout.RecencyStampShift-1))
	}
}
