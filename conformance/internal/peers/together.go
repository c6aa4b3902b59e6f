package peers

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// together are commands at random of several testees by turns, which all see alike
// after each few.
var together = []suite.Case{
	{Name: "agree-lru", Level: suite.Full, Clauses: []string{"22 Agreement", "6 Order (lru)"}, Run: func(t *suite.T) { agree(t, "lru", false) }},
	{Name: "agree-s3fifo", Level: suite.Full, Clauses: []string{"22 Agreement", "6 Order (s3fifo)"}, Run: func(t *suite.T) { agree(t, "s3fifo", false) }},
	{Name: "agree-tiers", Level: suite.Full, Clauses: []string{"22 Agreement", "20 Moves"}, Run: func(t *suite.T) { agree(t, "lru", true) }},
	{Name: "same-alone", Level: suite.Full, Clauses: []string{"22 Agreement"}, Run: func(t *suite.T) { alike(t, "lru") }},
	{Name: "same-alone-s3fifo", Level: suite.Full, Clauses: []string{"22 Agreement"}, Run: func(t *suite.T) { alike(t, "s3fifo") }},
	{Name: "counting-at-once", Level: suite.Full, Clauses: []string{"14 Counters", "12 Lock"}, Run: counting},
}

// commands returns n commands at random; those of one seed are the same.
func commands(random *rand.Rand, n int, tiers bool) (lines [][]string) {
	for range n {
		key := testee.Hex(fmt.Sprintf("key%d", random.IntN(60)))
		value := testee.Hex(strings.Repeat("v", random.IntN(140)))
		words := []string{"set", key, value, "tag=" + strconv.Itoa(random.IntN(5))}
		switch random.IntN(16) {
		case 0:
			words = []string{"add", key, value}
		case 1:
			words = []string{"replace", key, value}
		case 2, 3:
			words = []string{"del", key}
		case 4, 5, 6, 7:
			words = []string{"get", key}
		case 8:
			words = []string{"batch", key, testee.Hex("key1"), testee.Hex("key2")}
		case 9:
			words = []string{"touch", key, "0"}
		case 10:
			words = []string{"incr", testee.Hex("counter"), "1"}
		case 11:
			words = []string{"set", "#00000000000000" + fmt.Sprintf("%02x", random.IntN(8)), value}
		case 12:
			if tiers {
				words = []string{"set", key, value, "tier=1"}
			}
		}
		lines = append(lines, words)
	}
	return lines
}

const agreeOptions = "shards=2 entries=60 cell=64 maxkey=20 maxvalue=140 stamp=0"

// agree has testees work by turns on one domain, and compares what they see.
func agree(t *suite.T, order string, tiers bool) {
	n := max(len(t.Mix), 3)
	for i := range n {
		t.OK(i, append([]string{"open", "order=" + order}, strings.Fields(agreeOptions)...)...)
	}
	if tiers {
		t.OK(0, "grow", testee.Hex("more"), "65536")
		for i := range n {
			t.OK(i, "refresh")
		}
	}
	random := rand.New(rand.NewPCG(t.Options.Seed, 3))
	for m, words := range commands(random, 1200, tiers) {
		if a := t.Do(random.IntN(n), words...); a.Kind == testee.Err {
			t.Fatalf("%v: %v", words, a)
		}
		if m%40 != 39 {
			continue
		}
		for _, look := range []string{"dump", "scan", "stat", "check"} {
			first := t.OK(0, look)
			for i := 1; i < n; i++ {
				if other := t.OK(i, look); !slices.Equal(first.Rows, other.Rows) {
					t.Fatalf("after %d commands, %s: testee 0: %v\ntestee %d: %v", m+1, look, first, i, other)
				}
			}
			if look == "check" && len(first.Rows) > 0 {
				t.Fatalf("after %d commands, check: %v", m+1, first)
			}
		}
	}
}

// alike has each testee do the same in a domain of its own. But for what is random,
// the hash's seed and stamps, they end alike: one shard does not depend on hashes.
func alike(t *suite.T, order string) {
	var first [][]string
	for i := range len(t.Mix) {
		t.OK(i, append([]string{"open", "order=" + order}, strings.Fields(strings.Replace(agreeOptions, "shards=2", "shards=1", 1))...)...)
		var rows [][]string
		for m, words := range commands(rand.New(rand.NewPCG(t.Options.Seed, 4)), 800, false) {
			if order == "s3fifo" && m == 150 {
				break // which ghosts are pushed out depends on hashes
			}
			a := t.Do(i, words...)
			rows = append(rows, a.Fields())
			if m%20 == 19 {
				rows = append(rows, stampless(t.OK(i, "dump").Rows))
			}
		}
		t.OK(i, "close")
		t.OK(i, "destroy")
		if i == 0 {
			first = rows
			continue
		}
		for n := range rows {
			if !slices.Equal(rows[n], first[n]) {
				t.Fatalf("answer %d of testee %d (%s):\n  %s\nof testee 0 (%s):\n  %s", n, i, t.Mix[i].Name, strings.Join(rows[n], "\n  "), t.Mix[0].Name, strings.Join(first[n], "\n  "))
			}
		}
	}
}

// stampless leaves the stamps out of a dump.
func stampless(rows []string) (out []string) {
	for _, row := range rows {
		w := strings.Split(row, " ")
		if w[0] == "record" && len(w) == 11 {
			w[9] = "stamp"
		}
		out = append(out, strings.Join(w, " "))
	}
	return out
}

// counting has all count at once.
func counting(t *suite.T) {
	const n, each = 4, 200
	var calls []*testee.Call
	for i := range n {
		t.OK(i, append([]string{"open"}, strings.Fields(agreeOptions)...)...)
	}
	for range each {
		for i := range n {
			calls = append(calls, t.Send(i, "incr", testee.Hex("c"), "1"))
		}
	}
	seen := make(map[string]bool)
	for _, c := range calls {
		a := t.Answer(c)
		if a.Kind != testee.OK || seen[a.Fields()[1]] {
			t.Fatalf("%s: %v, which was given before", c.Line, a)
		}
		seen[a.Fields()[1]] = true
	}
	if a := t.OK(0, "incr", testee.Hex("c"), "0"); a.Fields()[1] != strconv.Itoa(n*each) {
		t.Fatalf("the sum: %v, not %d", a, n*each)
	}
	if a := t.OK(1, "check"); len(a.Rows) > 0 {
		t.Fatalf("check: %v", a)
	}
}
