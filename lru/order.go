// Package lru keeps the records of one shard in the order in which they make
// room: in two queues, doubly linked lists through the cell headers, with their
// ends in the shard's head. It is pure code over windows of words; the caller
// holds the shard's lock.
//
// In the lru order every record stands in the main queue, by its use. Readers do
// not take the lock on every hit. They promote a record at most once per turn, a
// turn being as long as it takes to write a tenth of the shard anew, which keeps
// the list within a tenth of a lap of strict LRU.
//
// In the s3fifo order (Yang et al., "FIFO queues are all you need for cache
// eviction", SOSP 2023) a newcomer stands in the small queue, a tenth of the
// records. Readers move nothing, they count. What was used twice when it comes to
// the end of the small queue goes on to the main queue; anything else leaves a
// ghost, by which its key goes to the main queue at once should it return soon.
//
// The lru order is the other one without a small queue, ghosts and counts, so
// that most of the code knows one order only.
package lru

import (
	"errors"
	"fmt"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// ErrBroken says that a link does not lead where it must. The shard needs a rebuild.
var ErrBroken = errors.New("broken list")

// Order is the order of one shard. Cells are numbered from 1; 0 is no cell. Every
// link is checked against the number of cells before it is followed.
type Order struct {
	head     *layout.Shard
	cells    shm.Window
	cellSize uint64
	count    uint32
	ghosts   shm.Window
	raise    uint64
}

// New returns the order of the shard at head, whose count cells of cellSize bytes
// fill the window. It is s3fifo if there is room for ghosts, GhostSize bytes for
// each bucket of them, and lru if the window is empty. Nothing is touched.
func New(head *layout.Shard, cells shm.Window, cellSize uint64, count uint32, ghosts shm.Window) Order {
	o := Order{head: head, cells: cells, cellSize: cellSize, count: count, ghosts: ghosts}
	if ghosts.Len() > 0 {
		o.raise = 1
	}
	return o
}

// Raise returns by how much a hit raises the use count: 0 in the lru order.
func (o *Order) Raise() uint64 { return o.raise }

// Reset empties the queues. Ghosts stay: whatever they are, they do no harm.
func (o *Order) Reset() {
	for _, word := range []*layout.Uint32{&o.head.Front, &o.head.Back, &o.head.SmallFront, &o.head.SmallBack, &o.head.SmallCount} {
		word.Store(0)
	}
}

// Insert puts record n, which is new and in no queue, where newcomers begin: in
// the small queue, unless the hash of its key has left a ghost there.
func (o *Order) Insert(n uint32, hash uint64) error {
	if o.raise == 0 || o.recall(hash) {
		return o.push(mainQueue, n)
	}
	return o.push(smallQueue, n)
}

// Replace puts record n, which is in no queue, in the place of old, which leaves
// it. That is a use of the key: in the lru order its place is the front, in the
// s3fifo order n keeps the place and takes over the count, raised.
func (o *Order) Replace(old, n uint32) error {
	if o.raise == 0 {
		if err := o.Remove(old); err != nil {
			return err
		}
		return o.push(mainQueue, n)
	}
	was, before, after, err := o.around(old)
	if err != nil {
		return err
	}
	c, err := o.cell(n)
	if err != nil {
		return err
	}
	c.Prev.Store(was.Prev.Load())
	c.Next.Store(was.Next.Load())
	before.Store(n)
	point(after, n)
	// Pairs with Touch: n is visible, and readers may have counted already.
	c.Recency.Or(min(was.Recency.Load()&layout.RecencyCountMask+1, layout.RecencyCountMask))
	return nil
}

// Restore puts record n at the front of the queue that its header names, for a
// rebuild, which gives the records oldest first after Reset. Without a small queue
// the name means nothing.
func (o *Order) Restore(n uint32) error {
	c, err := o.cell(n)
	if err != nil {
		return err
	}
	if o.raise != 0 && of(c) == smallQueue {
		return o.push(smallQueue, n)
	}
	return o.push(mainQueue, n)
}

// Promote moves record n to the front and notes the turn in its recency word. The
// s3fifo order, in which turns stand still and hits move nothing, only puts right a
// turn that was damaged.
func (o *Order) Promote(n uint32) error {
	move, kept := o.forward, uint64(0) // of the count
	if o.raise != 0 {
		move, kept = o.cell, layout.RecencyCountMask
	}
	c, err := move(n)
	if err != nil {
		return err
	}
	old := c.Recency.Load()
	// Pairs with Touch: a reader that stamps in between keeps its stamp, and the
	// record is promoted once more.
	c.Recency.CompareAndSwap(old, Recency(Stamp(old), o.head.Turn.Load())|old&kept)
	return nil
}

// Victim returns the record that is to make room, any but keep, or 0 if there is
// none. It stays in its queue. On the way, records that were used since they were
// last looked at go to the front of the main queue, RelinkLimit of them at most.
func (o *Order) Victim(keep uint32) (uint32, error) {
	for moves := 0; ; moves++ {
		n, err := o.next(keep)
		if n == 0 || err != nil {
			return 0, err
		}
		c, err := o.cell(n)
		if err != nil {
			return 0, err
		}
		recency := c.Recency.Load()
		used := recency & layout.RecencyCountMask
		stays, left := used > 0, used-1
		if of(c) == smallQueue {
			stays, left = used >= smallUses, 0
		}
		if !stays || o.raise == 0 || moves == layout.RelinkLimit { // in the lru order counts mean nothing
			return n, nil
		}
		if _, err := o.forward(n); err != nil {
			return 0, err
		}
		// Pairs with Touch: after a reader that counts in between the count stays.
		c.Recency.CompareAndSwap(recency, recency-used+left)
	}
}

// next returns the record to look at first: the small queue's oldest if that
// queue has more than its share of the records, else the main queue's; never keep.
func (o *Order) next(keep uint32) (uint32, error) {
	small, err := o.oldest(smallQueue, keep)
	if err != nil {
		return 0, err
	}
	main, err := o.oldest(mainQueue, keep)
	if err != nil {
		return 0, err
	}
	if small != 0 && uint64(o.head.SmallCount.Load())*layout.SmallShare > uint64(o.head.Live.Load()) {
		return small, nil
	}
	return main, nil
}

// forward moves record n to the front of the main queue.
func (o *Order) forward(n uint32) (*layout.CellHeader, error) {
	if err := o.Remove(n); err != nil {
		return nil, err
	}
	if err := o.push(mainQueue, n); err != nil {
		return nil, err
	}
	return o.cell(n)
}

// smallUses is how many uses take a record from the small queue to the main one.
const smallUses = 2

// Written counts a record written and advances the turn when it is due. In the
// s3fifo order there are no turns, so that no hit is ever due.
func (o *Order) Written() {
	if o.raise != 0 {
		return
	}
	left := o.head.TurnLeft.Load()
	if left == 0 || left > o.count {
		o.head.Turn.Add(1)
		left = o.count/layout.TurnsPerLap + 1
	}
	o.head.TurnLeft.Store(left - 1)
}

// cell returns the header of cell n, or an error if there is no such cell.
func (o *Order) cell(n uint32) (*layout.CellHeader, error) {
	if n-1 >= o.count { // 0 wraps around
		return nil, fmt.Errorf("%w: cell %d of %d", ErrBroken, n, o.count)
	}
	return shm.At[layout.CellHeader](o.cells, uint64(n-1)*o.cellSize), nil
}
