package peers

import (
	"slices"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/script"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// stewards are the cases of section 7's steward.
var stewards = []suite.Case{
	script.Case("one-steward", suite.Full, "7 Steward", `
		0: open -> ok $r _
		1: open -> ok $s _
		0: lead -> ok
		1: lead -> no
		1: steward -> ok $r
		1: resign -> no
		0: resign -> ok
		1: steward -> no
		1: lead -> ok
		0: steward -> ok $s
		0: lead -> no
		1: close
		0: steward -> no
		0: lead -> ok`),
	script.Case("steward-killed", suite.Full, "7 Steward", `
		0: open -> ok $r _
		1: open -> ok $s _
		0: lead -> ok
		!kill 0
		1: steward -> no
		1: ~ lead -> ok
		1: steward -> ok $s
		2: open
		2: steward -> ok $s
		2: lead -> no`),
	script.Case("stopped-steward-stays", suite.Full, "7 Steward", `
		0: open -> ok $r _
		1: open -> ok $s _
		0: lead -> ok
		!stop 0
		1: lead -> no
		1: steward -> ok $r
		!continue 0
		0: resign -> ok
		1: lead -> ok`),
	{Name: "steward-offers-itself", Level: suite.Full, Clauses: []string{"7 Steward", "20 Steward"}, Run: func(t *suite.T) {
		t.OK(1, "open")
		first := t.OK(0, "open", "steward=1").Words[0]
		leads(t, 0, first)
		second := t.OK(2, "open", "steward=1").Words[0]
		kill(t, 0)
		leads(t, 2, second)
		kill(t, 2)
		t.OK(1, "lead")
	}},
}

// leads waits until the testee, which works, is the steward that testee 1 sees.
func leads(t *suite.T, i int, region string) {
	for end := time.Now().Add(t.Options.Patience); time.Now().Before(end); {
		t.OK(i, "set", testee.Hex("k"), "-")
		if a := t.Do(1, "steward"); a.Kind == testee.OK && slices.Equal(a.Words, []string{region}) {
			return
		}
	}
	t.Fatalf("testee %d, which offers itself as steward and works, is not: %v", i, t.Do(1, "steward"))
}

func kill(t *suite.T, i int) {
	if err := t.Testee(i).Kill(); err != nil {
		t.Fatalf("%v", err)
	}
}

// shapes are the cases of domains that change under those who use them.
var shapes = []suite.Case{
	script.Case("growth-is-seen", suite.Full, "20 Growing; 20 View", pair+`
		2: open
		0: set 'a' '1' -> ok $a
		1: grow 'more' 65536
		2: refresh -> ok 2
		0: refresh -> ok 2
		0: now -> ok _ $d
		0: age 0 1 $d+100000 10 -> ok 1
		2: peek 'a' -> ok '1' $a 0 0 0
		1: peek 'a' -> ok '1' $a 0 0 0
		`+repeat(12, "2: set 'k%d' 'v'")+repeat(12, "0: peek 'k%d' -> ok 'v' *\n1: peek 'k%d' -> ok 'v' *")+`
		0: check -> ok 0
		1: check -> ok 0`),
	script.Case("a-miss-looks-for-new-tiers", suite.Full, "13 Get 7; 10 View", pair+`
		0: set 'a' '1'
		1: get 'a' -> ok '1' *
		0: grow 'more' 65536
		0: now -> ok _ $d
		0: age 0 1 $d+100000 10 -> ok 1
		1: get 'a' -> ok '1' *`),
	script.Case("a-writer-looks-for-new-tiers", suite.Full, "14 Taking the lock 2; 14 Set 9", pair+`
		0: set 'a' '1'
		0: grow 'more' 65536
		0: now -> ok _ $d
		0: age 0 1 $d+100000 10 -> ok 1
		1: add 'a' '2' -> no
		1: set 'a' '2' -> ok $v
		0: get 'a' -> ok '2' $v 0 0 0
		0: stat -> ok 2
		| 0 _ 1 *
		| 1 _ 0 *
		0: check -> ok 0`),
	script.Case("drain-is-seen", suite.Full, "20 Draining; 10 Retiring a segment; 20 Closing a slab", pair+`
		2: open read=1
		0: grow 'more' 65536
		`+repeat(8, "0: set 'k%d' 'v' tier=1")+`
		`+repeat(8, "1: peek 'k%d' -> ok 'v' *\n2: get 'k%d' -> ok 'v' *")+`
		1: drain 1 -> ok 8
		`+repeat(8, "0: peek 'k%d' -> ok 'v' *\n2: get 'k%d' -> ok 'v' *")+`
		0: refresh -> ok 1
		1: ~ entries -> ok 1
		| *
		0: set 'new' 'v' -> ok _
		1: get 'new' -> ok 'v' *
		0: grow 'again' 65536 -> ok _
		1: refresh -> ok 2
		0: check -> ok 0
		1: check -> ok 0`),
	script.Case("entry-is-free-when-all-have-left", suite.Full, "10 Retiring a segment 6", pair+`
		0: grow 'more' 65536
		1: refresh -> ok 2
		0: drain 1 -> ok 0
		1: refresh -> ok 1
		0: ~ entries -> ok 1
		0: check -> ok 0`),
	script.Case("drainer-killed", suite.Full, "20 Draining; 10 Draining a segment", pair+`
		0: grow 'more' 65536
		`+repeat(8, "0: set 'k%d' 'v%d' tier=1 -> ok *")+`
		1: refresh
		0: crashafter 60 -> ok
		0: & drain 1
		!gone 0
		`+repeat(8, "1: peek 'k%d' -> ok 'v%d' *")+`
		1: drain 1 -> ok _ / err _
		`+repeat(8, "1: peek 'k%d' -> ok 'v%d' *")+`
		1: ~ check -> ok 0`),
	script.Case("publisher-killed", suite.Full, "10 Publishing a segment; 9 Reap 2", pair+`
		0: crashafter 12 -> ok
		0: & grow 'more' 65536
		!gone 0
		1: ~ reap -> ok 0|1
		1: set 'k' 'v' -> ok _
		1: grow 'mine' 65536 -> ok _
		1: get 'k' -> ok 'v' *
		1: ~ check -> ok 0`),
	script.Case("independent-slab-of-the-other", suite.Full, "10 Slabs of a domain; 20 Retiring a stack", pair+`
		0: slab 'other' 65536
		1: slab 'other' 65536 -> err slabexists
		2: open slab='other'
		2: set 'k' 'v'
		0: get 'k' -> no
		1: move 'other' - 10 -> ok 1
		0: get 'k' -> ok 'v' *
		2: get 'k' -> no
		1: retire 'other' -> ok
		2: get 'k' -> err retired
		2: set 'k' 'v' -> err retired
		0: slab 'other' 65536 -> ok _
		0: check -> ok 0`),
	script.Case("application-segment", suite.Full, "10 Publishing a segment", pair+`
		0: publish 'mine' 8192 -> ok $seg
		1: entries -> ok 2
		| *
		1: check -> ok 0`),
	script.Case("rebuild-by-the-other", suite.Full, "17 Rebuild", both+`
		`+repeat(20, "0: set 'k%d' 'v'*%d tag=%d")+`
		1: rebuild -> ok
		`+repeat(20, "0: peek 'k%d' -> ok * ")+`
		0: rebuild -> ok
		1: check -> ok 0
		0: check -> ok 0
		1: repair -> ok 0`),
	script.Case("gc-spares-the-living", suite.Full, "8 Collecting", both+`
		0: set 'k' 'v'
		2: gc -> ok 0
		0: close
		2: gc -> ok 0
		!kill 1
		2: ~ gc -> ok 1
		2: list -> ok 0`),
}
