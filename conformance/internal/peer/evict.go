package peer

import (
	"github.com/flagstone-shm/flagstone/conformance/internal/script"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// evictions are the cases of section 16.
var evictions = []suite.Case{
	script.Case("evict-nothing", suite.Writer, "16 Cutoff eviction", `
		open shards=4 entries=400 stamp=0
		now -> ok _ $d
		evict $d+1000 10 -> ok 0
		set 'a' '1'
		evict $d 10 -> ok 0
		evict $d+1000 0 -> ok 0
		get 'a' -> ok '1' *`),
	script.Case("evict-oldest-first", suite.Writer, "16 Cutoff eviction 3; 18 The grain of stamps", `
		open shards=4 entries=400 stamp=0
		set 'a' '1'
		set 'b' '2'
		now -> ok _ $d
		~ now -> ok _ $d+100..281474976710655
		set 'c' '3'
		get 'a'
		evict $d+1000000 1 -> ok 1
		get 'b' -> no
		peek 'a' -> ok '1' *
		peek 'c' -> ok '3' *
		evict $d+1000000 10 -> ok 2
		scan -> ok 0
		check -> ok 0`),
	script.Case("evict-keeps-what-is-younger", suite.Writer, "16 Cutoff eviction 1; 16 Cutoff eviction 4", `
		open shards=4 entries=400 stamp=0
		set 'old' '1'
		now -> ok _ $d
		~ now -> ok _ $d+200..281474976710655
		set 'new' '2'
		evict $d+150 10 -> ok 1
		get 'old' -> no
		get 'new' -> ok '2' *
		evict $d+150 10 -> ok 0`),
	script.Case("evict-cutoff-is-lowered", suite.Writer, "16 Cutoff eviction 1", `
		open shards=1 entries=64 stamp=1000
		set 'a' '1'
		dump -> ok 2
		| shard 0 0 1 1 1 1 0
		| record main 'a' 0 '1' _ 0 0 0 $s _
		evict $s+1030 10 -> ok 0
		evict $s+1031 10 -> ok 1
		get 'a' -> no`),
	script.Case("evict-limit", suite.Writer, "16 Cutoff eviction 3", `
		open shards=4 entries=400 stamp=0
		now -> ok _ $d
		`+repeat(30, `set 'k%[1]d' 'v'`)+`
		evict $d+1000000 7 -> ok 7
		scan -> ok 23
		evict $d+1000000 100 -> ok 23
		scan -> ok 0`),
	script.Case("evict-ids-and-claims-do-not-count", suite.Writer, "16 Cutoff eviction", `
		open shards=1 entries=64 stamp=0
		now -> ok _ $d
		set @'n'/'k' 'v'
		claim 'c' 60000 -> ok claim _
		evict $d+1000000 100 -> ok 1
		get @'n'/'k' -> no
		stat -> ok 1
		| 0 _ 0 0 0`),
	script.Case("evict-by-tag", suite.Writer, "16 By user tag", `
		open shards=4 entries=400
		set 'a' '1' tag=1
		set 'b' '2' tag=2
		set 'c' '3' tag=1
		set 'd' '4'
		evicttag 3 -> ok 0
		evicttag 1 -> ok 2
		get 'a' -> no
		get 'c' -> no
		get 'b' -> ok '2' _ 0 0 2
		get 'd' -> ok '4' *
		evicttag 1 -> ok 0
		check -> ok 0`),
	script.Case("evict-by-tag-in-namespaces", suite.Writer, "16 By user tag", `
		open shards=4 entries=400
		set @'n'/'a' '1' tag=4294967295
		set @'n'/'b' '2' tag=1
		evicttag 4294967295 -> ok 1
		get @'n'/'a' -> no
		get @'n'/'b' -> ok '2' *`),
	script.Case("evict-near", suite.Writer, "16 Near", `
		open shards=1 entries=64 stamp=0
		set 'a' '1'
		set 'b' '2'
		set 'c' '3'
		evictnear 'a' 1 -> ok 1
		get 'a' -> no
		scan -> ok 2
		evictnear 'a' 10 -> ok 2
		evictnear 'a' 10 -> ok 0
		check -> ok 0`),
	script.Case("evict-near-then-all-others", suite.Writer, "16 Near", `
		open shards=64 entries=640 stamp=0
		`+repeat(60, `set 'k%[1]d' 'v'`)+`
		evictnear 'k7' 1 -> ok 1
		get 'k7' -> no
		evictnear 'k7' 100 -> ok 59
		scan -> ok 0
		check -> ok 0`),
}

// rebuilds are the cases of section 17, without anybody's death.
var rebuilds = []suite.Case{
	script.Case("rebuild-changes-nothing", suite.Writer, "17 Rebuild", `
		open shards=1 entries=64 cell=64 maxkey=32 maxvalue=300
		now -> ok $wall _
		set 'a' '1'*200 tag=3 -> ok $a
		set 'b' '2' expiry=$wall+100000 stale=5 -> ok $b
		set @'n'/'k' 'v' -> ok $n
		claim 'c' 60000 -> ok claim $c
		set 'gone' 'x'
		del 'gone'
		rebuild -> ok
		get 'a' -> ok '1'*200 $a 0 0 3
		get 'b' -> ok '2' $b $wall+100000 5 0
		get @'n'/'k' -> ok 'v' $n 0 0 0
		get 'gone' -> no
		fill 'c' $c 'filled' -> ok _
		check -> ok 0
		repair -> ok 0
		set 'z' 'z' -> ok $z
		get 'z' -> ok 'z' $z 0 0 0`),
	script.Case("rebuild-keeps-the-sequence", suite.Writer, "17 Rebuild 5", `
		open shards=1 entries=64
		set 'a' '1' -> ok 1024
		set 'b' '2' -> ok 2048
		set 'c' '2' -> ok 3072
		del 'c'
		rebuild -> ok
		set 'd' '3' -> ok 4096`),
	script.Case("rebuild-keeps-the-expired", suite.Writer, "17 Rebuild 3", `
		open shards=1 entries=64
		now -> ok $wall _
		set 'a' '1' expiry=$wall-1 stale=60 -> ok $v
		rebuild -> ok
		stale 'a' -> ok '1' $v $wall-1 60 0 1`),
	script.Case("rebuild-orders-by-stamp", suite.Writer, "17 Rebuild 4", `
		open shards=1 entries=64 stamp=0
		set 'a' '1' -> ok $a
		set 'b' '2' -> ok $b
		now -> ok _ $d
		~ now -> ok _ $d+50..281474976710655
		get 'a'
		rebuild -> ok
		dump -> ok 3
		| shard 0 0 2 2 2 *
		| record main 'a' 0 '1' $a *
		| record main 'b' 0 '2' $b *`),
	script.Case("rebuild-packs-chains", suite.Writer, "17 Rebuild 4; 6 Index", `
		open shards=1 entries=60 cell=64 maxkey=8 maxvalue=40
		`+repeat(60, `set 'k%[1]d' 'v%[1]d'`)+`
		rebuild -> ok
		`+repeat(60, `get 'k%[1]d' -> ok 'v%[1]d' *`)+`
		check -> ok 0
		scan -> ok 60`),
	script.Case("rebuild-s3fifo-keeps-queues", suite.Full, "17 Rebuild 4; 6 Order (s3fifo)", `
		open shards=1 entries=20 cell=128 maxkey=8 maxvalue=40 order=s3fifo stamp=0
		`+repeat(20, `set 'k%[1]d' 'v' -> ok *`)+`
		get 'k0'
		get 'k0'
		set 'more' 'v'
		set 'evenmore' 'v'
		dump -> ok _
		| shard 0 0 20 20 22 0 19
		| *
		rebuild -> ok
		dump -> ok _
		| shard 0 0 20 20 22 0 19
		| *
		get 'k0' -> ok 'v' *
		check -> ok 0`),
}

// clocks are the cases of section 18.
var clocks = []suite.Case{
	script.Case("clock-goes-on", suite.Writer, "18 Time", `
		open
		now -> ok $wall $domain
		~ now -> ok $wall+50..281474976710655 $domain+50..281474976710655`),
	script.Case("stamps-are-domain-time", suite.Writer, "18 Time; 6 Recency", `
		open shards=1 entries=64 stamp=0
		now -> ok _ $d
		set 'k' 'v'
		dump -> ok 2
		| *
		| record main 'k' 0 'v' _ 0 0 0 $d..$d+20000 0`),
	script.Case("hit-stamps", suite.Writer, "13 Get 8; 18 The grain of stamps", `
		open shards=1 entries=64 stamp=0
		set 'k' 'v'
		now -> ok _ $d
		~ now -> ok _ $d+100..281474976710655
		peek 'k'
		dump
		| *
		| record main 'k' 0 'v' _ 0 0 0 0..$d 0
		get 'k'
		dump
		| *
		| record main 'k' 0 'v' _ 0 0 0 $d+70..$d+40000 0`),
	script.Case("hit-within-the-grain-does-not-stamp", suite.Full, "13 Get 8; 18 The grain of stamps", `
		open shards=1 entries=64 stamp=3000000
		set 'k' 'v'
		now -> ok _ $d
		~ now -> ok _ $d+100..281474976710655
		get 'k'
		dump
		| *
		| record main 'k' 0 'v' _ 0 0 0 0..$d 0
		touch 'k' 0
		dump
		| *
		| record main 'k' 0 'v' _ 0 0 0 $d+70..$d+40000 0`),
}
