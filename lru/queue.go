package lru

import (
	"fmt"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// queue is one of the shard's lists, by the mark that its records bear in the word
// that links them towards the front.
type queue uint32

const (
	mainQueue  queue = 0
	smallQueue queue = layout.QueueSmall
)

// of returns the queue that a record is in.
func of(c *layout.CellHeader) queue { return queue(c.Prev.Load() & layout.QueueSmall) }

// ends returns the words of the shard's head that name a queue's ends.
func (o *Order) ends(q queue) (front, back *layout.Uint32) {
	if q == smallQueue {
		return &o.head.SmallFront, &o.head.SmallBack
	}
	return &o.head.Front, &o.head.Back
}

// newer returns where a record's link towards the front leads.
func newer(c *layout.CellHeader) uint32 { return c.Prev.Load() &^ layout.QueueSmall }

// point lets a link lead to n. A link towards the front keeps its record's mark.
func point(link *layout.Uint32, n uint32) { link.Store(link.Load()&layout.QueueSmall | n) }

// push puts record n, which is in no queue, at the front of q.
func (o *Order) push(q queue, n uint32) error {
	c, err := o.cell(n)
	if err != nil {
		return err
	}
	first, fromFront := o.ends(q)
	front := first.Load()
	if front != 0 {
		f, err := o.cell(front)
		if err != nil {
			return err
		}
		fromFront = &f.Prev
	}
	c.Prev.Store(uint32(q))
	c.Next.Store(front)
	point(fromFront, n)
	first.Store(n)
	if q == smallQueue {
		o.head.SmallCount.Add(1)
	}
	return nil
}

// around returns the header of record n and the two words that must name it, of
// its neighbours or of its queue's ends. It is an error if they do not.
func (o *Order) around(n uint32) (c *layout.CellHeader, before, after *layout.Uint32, err error) {
	if c, err = o.cell(n); err != nil {
		return nil, nil, nil, err
	}
	before, after = o.ends(of(c))
	if p := newer(c); p != 0 {
		b, err := o.cell(p)
		if err != nil {
			return nil, nil, nil, err
		}
		before = &b.Next
	}
	if p := c.Next.Load(); p != 0 {
		a, err := o.cell(p)
		if err != nil {
			return nil, nil, nil, err
		}
		after = &a.Prev
	}
	if before.Load() != n || after.Load()&^layout.QueueSmall != n {
		return nil, nil, nil, fmt.Errorf("%w: neighbours %d and %d of cell %d do not name it", ErrBroken, newer(c), c.Next.Load(), n)
	}
	return c, before, after, nil
}

// Remove takes record n out of the queue it is in. Nothing is changed unless both
// neighbours agree that it stands between them.
func (o *Order) Remove(n uint32) error {
	c, before, after, err := o.around(n)
	if err != nil {
		return err
	}
	before.Store(c.Next.Load())
	point(after, newer(c))
	if of(c) == smallQueue {
		o.head.SmallCount.Add(^uint32(0))
	}
	return nil
}

// oldest returns the record at the back of q or, if that is keep, the one before
// it; 0 if there is none.
func (o *Order) oldest(q queue, keep uint32) (uint32, error) {
	_, back := o.ends(q)
	n := back.Load()
	if n == 0 || n != keep {
		return n, nil
	}
	c, err := o.cell(n)
	if err != nil {
		return 0, err
	}
	return newer(c), nil
}
