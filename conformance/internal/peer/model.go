package peer

import (
	"fmt"
	"slices"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// model is one shard's order, as section 6 says it.
type model struct {
	s3fifo bool
	limit  int // cells that may be used: Cells - Reserve
	cells  int

	main, small    []*entry // newest first
	ghosts         []string
	left           int // ghosts ever left
	used, sequence int
	turn, turnLeft int
}

type entry struct {
	key     string
	cells   int
	version int
	turn    int
	count   int
}

func (m *model) find(key string) *entry {
	for _, q := range [][]*entry{m.main, m.small} {
		if i := slices.IndexFunc(q, func(e *entry) bool { return e.key == key }); i >= 0 {
			return q[i]
		}
	}
	return nil
}

// place returns the queue of a record, and where it is there.
func (m *model) place(e *entry) (*[]*entry, int) {
	if i := slices.Index(m.small, e); i >= 0 {
		return &m.small, i
	}
	return &m.main, slices.Index(m.main, e)
}

func (m *model) take(e *entry) {
	q, i := m.place(e)
	*q = slices.Delete(*q, i, i+1)
}

func push(q *[]*entry, e *entry) { *q = slices.Insert(*q, 0, e) }

// hit is a use of a record by a lookup.
func (m *model) hit(e *entry) {
	switch {
	case e == nil:
	case m.s3fifo:
		e.count = min(e.count+1, 3)
	case e.turn != m.turn:
		m.take(e)
		push(&m.main, e)
		e.turn = m.turn
	}
}

func (m *model) remove(e *entry) {
	if e != nil {
		m.take(e)
		m.used -= e.cells
	}
}

// set writes a record.
func (m *model) set(key string, cells int) {
	old := m.find(key)
	had := 0
	if old != nil {
		had = old.cells
	}
	for m.used+cells-had > m.limit {
		v := m.victim(old)
		if slices.Contains(m.small, v) {
			m.ghosts = append(m.ghosts, v.key)
			m.left++
		}
		m.remove(v)
	}
	m.sequence++
	e := &entry{key: key, cells: cells, version: m.sequence << 10, turn: m.turn}
	m.used += cells - had
	switch {
	case m.s3fifo && old != nil:
		e.count = min(old.count+1, 3)
		q, i := m.place(old)
		(*q)[i] = e
	case m.s3fifo:
		if i := slices.Index(m.ghosts, key); i >= 0 {
			m.ghosts = slices.Delete(m.ghosts, i, i+1)
			push(&m.main, e)
		} else {
			push(&m.small, e)
		}
	default:
		if old != nil {
			m.take(old)
		}
		push(&m.main, e)
	}
	if m.s3fifo {
		return
	}
	if m.turnLeft == 0 {
		m.turn++
		m.turnLeft = m.cells/10 + 1
	}
	m.turnLeft--
}

// victim returns the record that goes, any but keep.
func (m *model) victim(keep *entry) *entry {
	for moves := 0; ; moves++ {
		e := oldest(m.small, keep)
		if e == nil || len(m.small)*10 <= len(m.small)+len(m.main) {
			e = oldest(m.main, keep)
		}
		small := slices.Contains(m.small, e)
		if moves == 32 || small && e.count < 2 || !small && e.count == 0 {
			return e
		}
		m.take(e)
		push(&m.main, e)
		if e.count--; small {
			e.count = 0
		}
	}
}

func oldest(q []*entry, keep *entry) *entry {
	for _, e := range slices.Backward(q) {
		if e != keep {
			return e
		}
	}
	return nil
}

// rows are what dumped returns.
func (m *model) rows() []string {
	rows := []string{fmt.Sprintf("shard 0 0 %d %d %d %d %d", len(m.main)+len(m.small), m.used, m.sequence, m.turn, len(m.small))}
	for _, q := range []struct {
		name string
		of   []*entry
	}{{"small", m.small}, {"main", m.main}} {
		for _, e := range q.of {
			rows = append(rows, fmt.Sprintf("record %s %s version %d count %d", q.name, testee.Hex(e.key), e.version, e.count))
		}
	}
	return rows
}
