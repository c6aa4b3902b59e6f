package lru

import (
	"fmt"
	"sync/atomic"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// queue is one of the shard's lists. Its records bear its mark in the word that
// links them towards the front.
type queue struct {
	front, back *atomic.Uint32 // words of the shard's head
	mark        uint32         // QueueSmall or 0
}

// newer returns where a record's link towards the front leads.
func newer(c *layout.CellHeader) uint32 { return c.Prev.Load() &^ layout.QueueSmall }

// point lets a link lead to n. A link towards the front keeps its record's mark.
func point(link *atomic.Uint32, n uint32) { link.Store(link.Load()&layout.QueueSmall | n) }

// push puts record n, which is in no queue, at the front of q.
func (o *Order) push(q *queue, n uint32) error {
	c, err := o.cell(n)
	if err != nil {
		return err
	}
	front := q.front.Load()
	fromFront := q.back
	if front != 0 {
		f, err := o.cell(front)
		if err != nil {
			return err
		}
		fromFront = &f.Prev
	}
	c.Prev.Store(q.mark)
	c.Next.Store(front)
	point(fromFront, n)
	q.front.Store(n)
	if q.mark != 0 {
		o.head.SmallCount.Add(1)
	}
	return nil
}

// around returns the header of record n and the two words that must name it, of
// its neighbours or of its queue's ends. It is an error if they do not.
func (o *Order) around(n uint32) (c *layout.CellHeader, before, after *atomic.Uint32, err error) {
	if c, err = o.cell(n); err != nil {
		return nil, nil, nil, err
	}
	q := &o.main
	if c.Prev.Load()&layout.QueueSmall != 0 {
		q = &o.small
	}
	before, after = q.front, q.back
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
	if c.Prev.Load()&layout.QueueSmall != 0 {
		o.head.SmallCount.Add(^uint32(0))
	}
	return nil
}

// oldest returns the record at the back of q or, if that is keep, the one before
// it; 0 if there is none.
func (o *Order) oldest(q *queue, keep uint32) (uint32, error) {
	n := q.back.Load()
	if n == 0 || n != keep {
		return n, nil
	}
	c, err := o.cell(n)
	if err != nil {
		return 0, err
	}
	return newer(c), nil
}
