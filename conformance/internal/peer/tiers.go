package peer

import (
	"github.com/flagstone-shm/flagstone/conformance/internal/script"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

const small = `open shards=1 entries=8 cell=128 maxkey=32 maxvalue=40 stamp=0`

// tiers are the cases of section 20, and of what section 10 says of segments.
var tiers = []suite.Case{
	script.Case("grow", suite.Full, "20 Growing; 10 Publishing a segment", `
		`+small+`
		~ entries -> ok 1
		| open 1 0 $top $top _ 'primary'
		refresh -> ok 1
		grow 'more' 65536 -> ok $seg
		refresh -> ok 2
		entries -> ok 2
		| open 1 0 $top $top _ 'primary'
		| open 1 1 $seg $top _ 'more'
		grow 'most' 65536 -> ok $third
		stat -> ok 3
		| 0 $top 0 0 0
		| 1 $seg 0 0 0
		| 2 $third 0 0 0
		check -> ok 0`),
	script.Case("victims-move-down", suite.Full, "14 Make room 1; 20 Moves", `
		`+small+`
		grow 'more' 65536 -> ok $seg
		`+repeat(12, `set 'k%[1]d' 'v' tag=%[1]d -> ok *`)+`
		stat -> ok 2
		| 0 _ 8 8 *
		| 1 $seg 4 4 *
		`+repeat(12, `peek 'k%[1]d' -> ok 'v' _ 0 0 %[1]d`)+`
		scan -> ok 12
		check -> ok 0`),
	script.Case("move-keeps-the-record", suite.Full, "20 Moves 4", `
		`+small+`
		now -> ok $wall _
		grow 'more' 65536
		set 'k' 'v' expiry=$wall+100000 stale=3 tag=4 -> ok $v
		now -> ok _ $d
		age 0 1 $d+100000 10 -> ok 1
		peek 'k' -> ok 'v' $v $wall+100000 3 4
		stat -> ok 2
		| 0 _ 0 0 0
		| 1 _ 1 1 2
		check -> ok 0`),
	script.Case("hit-promotes", suite.Full, "13 Get 9; 20 Moves 7", `
		`+small+`
		now -> ok _ $d
		grow 'more' 65536
		set 'k' 'v' -> ok $v
		age 0 1 $d+100000 10 -> ok 1
		peek 'k' -> ok 'v' $v 0 0 0
		stat -> ok 2
		| 0 _ 0 *
		| 1 _ 1 *
		get 'k' -> ok 'v' $v 0 0 0
		stat -> ok 2
		| 0 _ 1 *
		| 1 _ 0 *
		get 'k' -> ok 'v' $v 0 0 0
		check -> ok 0`),
	script.Case("no-promotion", suite.Full, "13 Get 9", `
		`+small+` promote=0
		now -> ok _ $d
		grow 'more' 65536
		set 'k' 'v' -> ok $v
		age 0 1 $d+100000 10 -> ok 1
		get 'k' -> ok 'v' $v 0 0 0
		stat -> ok 2
		| 0 _ 0 *
		| 1 _ 1 *`),
	script.Case("promotion-makes-room-by-going-down", suite.Full, "13 Get 9; 14 All are to stay", `
		`+small+`
		grow 'more' 65536
		`+repeat(12, `set 'k%[1]d' 'v' -> ok *`)+`
		get 'k0' -> ok 'v' *
		stat -> ok 2
		| 0 _ 8 8 *
		| 1 _ 4 4 *
		`+repeat(12, `peek 'k%[1]d' -> ok 'v' *`)+`
		check -> ok 0`),
	script.Case("set-supersedes-the-one-below", suite.Full, "14 Set 9; 20 Column", `
		`+small+`
		now -> ok _ $d
		grow 'more' 65536
		set 'k' 'old'
		age 0 1 $d+100000 10 -> ok 1
		set 'k' 'new' -> ok $v
		get 'k' -> ok 'new' $v 0 0 0
		stat -> ok 2
		| 0 _ 1 *
		| 1 _ 0 *
		del 'k' -> ok
		get 'k' -> no
		check -> ok 0`),
	script.Case("operations-on-records-below", suite.Full, "14 Find; 14 Delete 1; 14 Touch; 14 Counters", `
		`+small+` promote=0
		now -> ok $wall $d
		grow 'more' 65536
		set 'a' '1' -> ok $a
		set 'b' '2'
		set 'c' {5} tag=6
		set 't' '3' -> ok $t
		age 0 1 $d+100000 10 -> ok 4
		add 'a' 'x' -> no
		cas 'a' $a '11' -> ok _
		del 'b' -> ok
		incr 'c' 1 -> ok 6
		touch 't' $wall+90000 -> ok
		get 'a' -> ok '11' *
		get 'b' -> no
		get 'c' -> ok {6} _ 0 0 6
		get 't' -> ok '3' $t $wall+90000 0 0
		stat -> ok 2
		| 0 _ 2 *
		| 1 _ 1 *
		check -> ok 0`),
	script.Case("expired-above-hides-what-is-below", suite.Full, "13 Get 5", `
		`+small+`
		now -> ok $wall $d
		grow 'more' 65536
		set 'k' 'old'
		age 0 1 $d+100000 10 -> ok 1
		set 'k' 'new' expiry=$wall-1
		get 'k' -> no
		batch 'k' -> ok 1
		| -`),
	script.Case("set-to-a-tier", suite.Full, "14 Set", `
		`+small+`
		grow 'more' 65536
		set 'k' 'v' tier=1 -> ok $v
		stat -> ok 2
		| 0 _ 0 *
		| 1 _ 1 *
		peek 'k' -> ok 'v' $v 0 0 0
		set 'k' 'w' tier=0 -> ok _
		set 'k' 'x' tier=1 -> ok _
		peek 'k' -> ok 'x' *
		stat -> ok 2
		| 0 _ 0 *
		| 1 _ 1 *
		check -> ok 0`),
	script.Case("claims-and-namespaces-below", suite.Full, "15 Claims; 14 Namespaces; 20 Column", `
		`+small+`
		now -> ok _ $d
		grow 'more' 65536
		claim 'k' 60000 -> ok claim $c
		set @'n'/'k' 'v'
		age 0 1 $d+100000 10 -> ok _
		claim 'k' 60000 -> ok held
		fill 'k' $c 'filled' -> ok _
		get 'k' -> ok 'filled' *
		get @'n'/'k' -> ok 'v' *
		check -> ok 0`),
	script.Case("age-limit-and-cutoff", suite.Full, "16 Cutoff eviction; 20 Moves 2", `
		`+small+`
		grow 'more' 65536
		set 'a' '1'
		now -> ok _ $d
		~ now -> ok _ $d+200..281474976710655
		set 'b' '2'
		set 'c' '3'
		age 0 1 $d+150 10 -> ok 1
		age 0 1 $d+150 10 -> ok 0
		age 0 1 $d+1000000 1 -> ok 1
		age 1 0 $d+1000000 10 -> ok 2
		stat -> ok 2
		| 0 _ 3 *
		| 1 _ 0 *
		check -> ok 0`),
	script.Case("drain", suite.Full, "20 Draining; 10 Retiring a segment", `
		`+small+`
		grow 'more' 65536
		`+repeat(8, `set 'k%[1]d' 'v' tier=1 -> ok *`)+`
		drain 1 -> ok 8
		~ entries -> ok 1
		| open 1 0 * 
		stat -> ok 1
		| 0 _ 8 *
		`+repeat(8, `get 'k%[1]d' -> ok 'v' *`)+`
		refresh -> ok 1
		check -> ok 0`),
	script.Case("drain-without-room", suite.Full, "20 Draining 4; 10 Reopening", `
		`+small+`
		grow 'more' 65536 -> ok $seg
		`+repeat(12, `set 'k%[1]d' 'v' -> ok *`)+`
		drain 1 -> err full
		entries -> ok 2
		| *
		scan -> ok 12
		set 'one' 'more' -> ok _
		scan -> ok 13
		check -> ok 0`),
	script.Case("drain-removes-the-expired", suite.Full, "20 Draining 2", `
		`+small+`
		now -> ok $wall _
		grow 'more' 65536
		set 'gone' 'v' expiry=$wall-1 tier=1
		set 'stale' 'v' expiry=$wall-1 stale=600 tier=1
		drain 1 -> ok 1
		stat -> ok 1
		| 0 _ 1 *
		stale 'stale' -> ok 'v' *`),
	script.Case("drain-of-tier-0", suite.Full, "20 Draining", `
		`+small+`
		set 'k' 'v'
		drain 0 -> err _
		drain 5 -> err _
		get 'k' -> ok 'v' *`),
	script.Case("independent-slab", suite.Full, "10 Slabs of a domain; 20 Stack", `
		`+small+`
		set 'k' 'primary'
		slab 'other' 65536 -> ok $seg
		entries -> ok 2
		| open 1 0 $top $top _ 'primary'
		| open 1 0 $seg $seg _ 'other'
		slab 'other' 65536 -> err slabexists
		get 'k' -> ok 'primary' *
		close
		open slab='other'
		get 'k' -> no
		set 'k' 'other' -> ok _
		get 'k' -> ok 'other' *
		close
		open
		get 'k' -> ok 'primary' *
		close
		open slab='none' -> err noslab
		check -> err closed`),
	script.Case("retire-an-independent-slab", suite.Full, "20 Retiring a stack", `
		`+small+`
		slab 'other' 65536 -> ok $seg
		move - 'other' 10 -> ok 0
		retire 'other' -> ok
		~ entries -> ok 1
		| open 1 0 _ _ _ 'primary'
		retire 'other' -> err noslab
		retire 'primary' -> err _
		slab 'other' 65536 -> ok $again
		check -> ok 0`),
	script.Case("retired-under-a-handle", suite.Full, "20 Retiring a stack 1", `
		`+small+`
		slab 'other' 65536
		1: open slab='other'
		1: set 'k' 'v'
		retire 'other' -> ok
		1: get 'k' -> err retired
		1: set 'k' 'v' -> err retired
		1: close -> ok`),
	script.Case("move-between-stacks", suite.Full, "20 Moves between stacks", `
		`+small+`
		now -> ok $wall _
		set 'a' '1' tag=3 expiry=$wall+100000
		set 'b' '2'
		claim 'c' 60000 -> ok claim $c
		slab 'other' 65536
		move - 'other' 10 -> ok 2
		scan -> ok 0
		fill 'c' $c '3' -> ok _
		close
		open slab='other'
		get 'a' -> ok '1' _ $wall+100000 0 3
		get 'b' -> ok '2' _ 0 0 0
		check -> ok 0
		close
		open
		move 'other' - 1 -> ok 1
		move 'other' - 10 -> ok 1
		move 'other' - 10 -> ok 0
		scan -> ok 3
		move 'none' - 1 -> err noslab
		check -> ok 0`),
	script.Case("move-between-stacks-keeps-namespaces", suite.Full, "20 Moves between stacks", `
		`+small+`
		set @'n'/'k' 'v' tag=2
		set @'m'/'k' 'gone'
		clearns 'm'
		slab 'other' 65536
		move - 'other' 10 -> ok 1..2
		close
		open slab='other'
		get @'n'/'k' -> ok 'v' _ 0 0 2
		get @'m'/'k' -> no
		check -> ok 0`),
	script.Case("publish-an-application-segment", suite.Full, "10 Publishing a segment; 4 Files", `
		`+small+`
		publish 'mine' 8192 -> ok $seg
		entries -> ok 2
		| *
		stat -> ok 1
		set 'k' 'v' -> ok _
		check -> ok 0`),
	script.Case("full-directory", suite.Full, "10 Directory", `
		`+small+`
		`+repeat(63, `publish 'p%[1]d' 4096 -> ok *`)+`
		publish 'over' 4096 -> err noentry
		grow 'over' 65536 -> err noentry
		set 'k' 'v' -> ok _
		check -> ok 0`),
	script.Case("clear-with-tiers", suite.Full, "14 Clear", `
		`+small+`
		grow 'more' 65536
		`+repeat(12, `set 'k%[1]d' 'v' -> ok *`)+`
		clear -> ok 12
		scan -> ok 0
		stat -> ok 2
		| 0 _ 0 0 0
		| 1 _ 0 0 0
		check -> ok 0`),
	script.Case("evict-with-tiers", suite.Full, "16 Cutoff eviction; 17 Rebuild", `
		`+small+`
		now -> ok _ $d
		grow 'more' 65536
		`+repeat(12, `set 'k%[1]d' 'v' tag=%[1]d -> ok *`)+`
		evicttag 1 -> ok 1
		evicttag 11 -> ok 1
		rebuild -> ok
		check -> ok 0
		evict $d+1000000 100 -> ok 10
		scan -> ok 0`),
}
