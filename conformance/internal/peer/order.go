package peer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// orders are the cases of section 6's orders: what a shard's records are, front to
// back, after a sequence of operations that a model knows the outcome of.
func orders() (all []suite.Case) {
	for _, o := range []struct{ name, clause string }{{"lru", "6 Order lru"}, {"s3fifo", "6 Order s3fifo"}} {
		s3fifo := o.name == "s3fifo"
		all = append(all,
			suite.Case{Name: "order-" + o.name, Level: suite.Full, Clauses: []string{"14 Make room"}, Run: func(t *suite.T) { orderCase(t, s3fifo, 1) }},
			suite.Case{Name: "order-" + o.name + "-chained", Level: suite.Full, Clauses: []string{"14 Make room", "6 Records"}, Run: func(t *suite.T) { orderCase(t, s3fifo, 4) }},
		)
	}
	return all
}

const (
	orderCell     = 64
	orderMaxKey   = 8
	orderMaxValue = 150
	orderReserve  = 5 // cells of a record of 158 bytes: 16 in the head, 40 in each tail
	orderEntries  = 40
)

// orderCase runs operations with records of up to so many cells, and compares.
func orderCase(t *suite.T, s3fifo bool, cells int) {
	random := rand.New(rand.NewPCG(t.Options.Seed, uint64(cells)))
	order := "lru"
	if s3fifo {
		order = "s3fifo"
	}
	t.OK(0, "open", "shards=1", fmt.Sprintf("entries=%d", orderEntries), fmt.Sprintf("cell=%d", orderCell),
		fmt.Sprintf("maxkey=%d", orderMaxKey), fmt.Sprintf("maxvalue=%d", orderMaxValue), "order="+order, "stamp=0")
	m := &model{s3fifo: s3fifo, limit: 1 << 30}
	m.limit = measure(t)
	m.cells = m.limit + orderReserve
	t.OK(0, "close")
	t.OK(0, "destroy")
	t.OK(0, "open", "shards=1", fmt.Sprintf("entries=%d", orderEntries), fmt.Sprintf("cell=%d", orderCell),
		fmt.Sprintf("maxkey=%d", orderMaxKey), fmt.Sprintf("maxvalue=%d", orderMaxValue), "order="+order, "stamp=0")
	for n := range 600 {
		key := fmt.Sprintf("k%d", random.IntN(2*m.limit))
		what := operate(t, m, random, key, cells)
		if got, want := dumped(t), m.rows(); n%10 == 0 && !slices.Equal(got, want) {
			t.Fatalf("after operation %d, %s, the dump is\n  %s\nnot\n  %s", n, what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
		if s3fifo && m.left >= 7 {
			break // the next ghosts push others out, whose places only the hash tells
		}
	}
	if problems := t.OK(0, "check"); len(problems.Rows) > 0 {
		t.Fatalf("check: %v", problems)
	}
}

// measure finds how many records of one cell there are when the first is evicted.
func measure(t *suite.T) int {
	for n := 1; n < 100*orderEntries; n++ {
		t.OK(0, "set", testee.Hex(fmt.Sprintf("m%d", n)), "-")
		if live := len(t.OK(0, "dump").Rows) - 1; live < n {
			if live < orderEntries {
				t.Fatalf("a slab for %d records evicts with %d: section 6, Capacity", orderEntries, live)
			}
			return live
		}
	}
	t.Fatalf("a slab for %d records never evicts", orderEntries)
	return 0
}

// operate does one operation with the testee and the model.
func operate(t *suite.T, m *model, random *rand.Rand, key string, cells int) string {
	hex := testee.Hex(key)
	r := m.find(key)
	ask := func(there bool, words ...string) string {
		if there {
			t.OK(0, words...)
		} else {
			t.No(0, words...)
		}
		return strings.Join(words, " ")
	}
	switch n := random.IntN(20); {
	case n < 10:
		c := 1 + random.IntN(cells)
		value := strings.Repeat("v", 16+40*(c-1)-len(key))
		m.set(key, c)
		return ask(true, "set", hex, testee.Hex(value))
	case n < 15:
		m.hit(r)
		return ask(r != nil, "get", hex)
	case n == 15:
		return ask(r != nil, "peek", hex)
	case n == 16:
		m.hit(r)
		return ask(r != nil, "touch", hex, "0")
	case n == 17:
		m.hit(r)
		return ask(true, "batch", hex, testee.Hex("none"))
	case n == 18:
		m.remove(r)
		return ask(r != nil, "del", hex)
	}
	if r == nil {
		m.set(key, 1)
	}
	return ask(r == nil, "add", hex, testee.Hex("v"))
}

// dumped returns what a dump says of the order, without what the model leaves out.
func dumped(t *suite.T) (rows []string) {
	for _, row := range t.OK(0, "dump").Rows {
		w := strings.Split(row, " ")
		switch {
		case w[0] == "shard" && len(w) == 8:
			rows = append(rows, row)
		case w[0] == "record" && len(w) == 11:
			rows = append(rows, fmt.Sprintf("record %s %s version %s count %s", w[1], w[2], w[5], w[10]))
		default:
			t.Fatalf("dump: a row of %d words: %s", len(w), row)
		}
	}
	return rows
}
