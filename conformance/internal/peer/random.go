package peer

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// random are commands at random, against a map.
var random = []suite.Case{
	{Name: "random-lru", Level: suite.Full, Clauses: []string{"13 Lookup", "14 Writing", "15 Claims", "17 Rebuild"}, Run: func(t *suite.T) { randomCase(t, "order=lru", false) }},
	{Name: "random-s3fifo", Level: suite.Full, Clauses: []string{"13 Lookup", "14 Writing", "15 Claims", "17 Rebuild"}, Run: func(t *suite.T) { randomCase(t, "order=s3fifo", false) }},
	{Name: "random-tiers", Level: suite.Full, Clauses: []string{"13 Lookup", "14 Writing", "15 Claims", "17 Rebuild", "20 Tiers"}, Run: func(t *suite.T) { randomCase(t, "order=lru", true) }},
}

// record is what the map knows of one.
type record struct {
	value   string // in hexadecimal
	version string
	tag     int
}

// world is a testee and the map that it has to agree with.
type world struct {
	*suite.T
	random  *rand.Rand
	records map[string]record
	claims  map[string]string // versions of claims that stand
	tiers   bool
}

const (
	randomSteps = 3000
	randomKeys  = 60
)

func randomCase(t *suite.T, order string, tiers bool) {
	w := &world{T: t, random: rand.New(rand.NewPCG(t.Options.Seed, 2)), records: make(map[string]record), claims: make(map[string]string), tiers: tiers}
	t.OK(0, "open", "shards=4", "entries=1000", "cell=64", "maxkey=20", "maxvalue=200", order)
	if tiers {
		t.OK(0, "grow", testee.Hex("below"), "400000")
	}
	for n := range randomSteps {
		w.step()
		if n%500 == 499 {
			w.compare()
		}
	}
	w.compare()
}

func (w *world) key() string { return testee.Hex(fmt.Sprintf("key%d", w.random.IntN(randomKeys))) }

func (w *world) value() string {
	return testee.Hex(strings.Repeat(string(rune('a'+w.random.IntN(26))), w.random.IntN(201)))
}

// step does one command.
func (w *world) step() {
	key := w.key()
	old, there := w.records[key]
	r := record{value: w.value(), tag: w.random.IntN(4)}
	tag := "tag=" + strconv.Itoa(r.tag)
	switch w.random.IntN(16) {
	case 0, 1, 2:
		w.put(key, r, true, "set", key, r.value, tag)
	case 3:
		w.put(key, r, !there, "add", key, r.value, tag)
	case 4:
		w.put(key, r, there, "replace", key, r.value, tag)
	case 5:
		version := old.version
		if !there || w.random.IntN(2) == 0 {
			version = "1024"
		}
		w.put(key, r, there && version == old.version, "cas", key, version, r.value, tag)
	case 6, 7:
		w.gone(key, there)
	case 8, 9, 10:
		w.look(key, old, there)
	case 11:
		w.claim(key, there)
	case 12:
		w.finish()
	case 13:
		if there {
			w.OK(0, "touch", key, "0")
		} else {
			w.No(0, "touch", key, "0")
		}
	case 14:
		w.rare()
	default:
		w.batch()
	}
}

// put is a write whose condition holds or not.
func (w *world) put(key string, r record, holds bool, words ...string) {
	if !holds {
		w.No(0, words...)
		return
	}
	a := w.OK(0, words...)
	if len(a.Words) != 1 {
		w.Fatalf("%v: %v: no version", words, a)
	}
	for _, other := range w.records {
		if other.version == a.Words[0] {
			w.Fatalf("%v: version %s was given before", words, a.Words[0])
		}
	}
	r.version = a.Words[0]
	w.records[key] = r
	delete(w.claims, key)
}

func (w *world) gone(key string, there bool) {
	if there {
		w.OK(0, "del", key)
	} else {
		w.No(0, "del", key)
	}
	delete(w.records, key)
	delete(w.claims, key)
}

func (w *world) look(key string, r record, there bool) {
	command := []string{"get", "peek"}[w.random.IntN(2)]
	if !there {
		w.No(0, command, key)
		return
	}
	want := []string{r.value, r.version, "0", "0", strconv.Itoa(r.tag)}
	if a := w.OK(0, command, key); !slices.Equal(a.Words, want) {
		w.Fatalf("%s %s: %v, not %v", command, key, a, want)
	}
}

func (w *world) claim(key string, there bool) {
	a := w.OK(0, "claim", key, "600000")
	_, held := w.claims[key]
	want := "claim"
	switch {
	case there:
		want = "value"
	case held:
		want = "held"
	}
	if len(a.Words) == 0 || a.Words[0] != want || want == "value" && (len(a.Words) != 2 || a.Words[1] != w.records[key].value) {
		w.Fatalf("claim %s: %v, not %s", key, a, want)
	}
	if want == "claim" {
		w.claims[key] = a.Words[len(a.Words)-1]
	}
}

// finish ends a claim in one of the ways.
func (w *world) finish() {
	if len(w.claims) == 0 {
		return
	}
	key := slices.Sorted(maps.Keys(w.claims))[w.random.IntN(len(w.claims))]
	version := w.claims[key]
	switch w.random.IntN(3) {
	case 0:
		w.OK(0, "release", key, version)
		delete(w.claims, key)
	case 1:
		w.OK(0, "fail", key, version, testee.Hex("why"))
		delete(w.claims, key)
	default:
		r := record{value: w.value()}
		w.put(key, r, true, "fill", key, version, r.value)
	}
}

func (w *world) batch() {
	words, want := []string{"batch"}, []string(nil)
	for range 1 + w.random.IntN(8) {
		key := w.key()
		words = append(words, key)
		if r, there := w.records[key]; there {
			want = append(want, "+ "+r.value)
		} else {
			want = append(want, "-")
		}
	}
	if a := w.OK(0, words...); !slices.Equal(a.Rows, want) {
		w.Fatalf("%v: %v, not %v", words, a, want)
	}
}

// rare is what changes much or nothing.
func (w *world) rare() {
	switch n := w.random.IntN(20); {
	case n == 0:
		w.OK(0, "clear")
		clear(w.records)
		clear(w.claims)
	case n < 4:
		w.OK(0, "rebuild")
	case n < 8:
		tag := 1 + w.random.IntN(3)
		want := 0
		for key, r := range w.records {
			if r.tag == tag {
				delete(w.records, key)
				want++
			}
		}
		if a := w.OK(0, "evicttag", strconv.Itoa(tag)); !slices.Equal(a.Words, []string{strconv.Itoa(want)}) {
			w.Fatalf("evicttag %d: %v, not ok %d", tag, a, want)
		}
	case n < 14 && w.tiers:
		w.OK(0, "age", "0", "1", "281474976710000", strconv.Itoa(w.random.IntN(20)))
	}
}

// compare compares all that is there.
func (w *world) compare() {
	var want []string
	for key, r := range w.records {
		want = append(want, fmt.Sprintf("%s %s %s 0 0 %d", key, r.value, r.version, r.tag))
	}
	slices.Sort(want)
	if a := w.OK(0, "scan"); !slices.Equal(a.Rows, want) {
		w.Fatalf("scan: %v, not\n  %s", a, strings.Join(want, "\n  "))
	}
	if a := w.OK(0, "check"); len(a.Rows) > 0 {
		w.Fatalf("check: %v", a)
	}
}
