package peer

import (
	"github.com/flagstone-shm/flagstone/conformance/internal/script"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// lookups are the cases of section 13.
var lookups = []suite.Case{
	script.Case("get", suite.Writer, "13 Get 2; 13 Get 6", `
		open shards=1 entries=64
		get 'k' -> no
		set 'k' 'v' tag=4294967295 -> ok $v
		get 'k' -> ok 'v' $v 0 0 4294967295
		peek 'k' -> ok 'v' $v 0 0 4294967295
		stale 'k' -> ok 'v' $v 0 0 4294967295 0
		get 'kk' -> no
		get 'K' -> no`),
	script.Case("get-expiry-and-stale", suite.Writer, "13 Get 4; 6 Expiry and user tag", `
		open shards=1 entries=64
		now -> ok $wall _
		set 'k' 'v' expiry=$wall+100000 stale=65535 tag=1 -> ok $v
		get 'k' -> ok 'v' $v $wall+100000 65535 1
		set 'm' 'v' ttl=100000 -> ok $w
		get 'm' -> ok 'v' $w $wall+100000..$wall+130000 0 0`),
	script.Case("expired-is-missed", suite.Writer, "13 Get 5; 18 Time", `
		open shards=1 entries=64
		now -> ok $wall _
		set 'k' 'v' expiry=$wall+30
		~ get 'k' -> no
		peek 'k' -> no
		stale 'k' -> no
		batch 'k' -> ok 1
		| -
		scan -> ok 0
		del 'k' -> ok|no`),
	script.Case("already-expired", suite.Writer, "13 Get 5", `
		open shards=1 entries=64
		now -> ok $wall _
		set 'k' 'v' expiry=$wall-1
		get 'k' -> no
		add 'k' 'w' -> ok $v
		get 'k' -> ok 'w' $v 0 0 0
		check -> ok 0`),
	script.Case("stale-is-served", suite.Writer, "13 Get", `
		open shards=1 entries=64
		now -> ok $wall _
		set 'k' 'v' expiry=$wall-1 stale=60 tag=3 -> ok $v
		get 'k' -> no
		peek 'k' -> no
		stale 'k' -> ok 'v' $v $wall-1 60 3 1
		scan -> ok 0`),
	script.Case("stale-ends", suite.Writer, "13 Get", `
		open shards=1 entries=64
		now -> ok $wall _
		set 'k' 'v' expiry=$wall-900 stale=1
		~ stale 'k' -> no
		set 'm' 'v' expiry=$wall-2000 stale=1
		stale 'm' -> no`),
	script.Case("largest-expiry", suite.Writer, "6 Expiry and user tag", `
		open shards=1 entries=64
		set 'k' 'v' expiry=281474976710655 -> ok $v
		get 'k' -> ok 'v' $v 281474976710655 0 0
		set 'k' 'v' expiry=281474976710656 -> err expiry
		set 'k' 'v' stale=65536 -> err expiry|options
		get 'k' -> ok 'v' $v 281474976710655 0 0`),
	script.Case("batch", suite.Writer, "13 A batch", `
		open shards=4 entries=400
		set 'a' '1'
		set 'c' -
		batch 'a' 'b' 'c' 'a' 'd' -> ok 5
		| + '1'
		| -
		| + -
		| + '1'
		| -`),
	script.Case("batch-of-hash-keys-and-namespaces", suite.Writer, "13 A batch", `
		open shards=4 entries=400
		set #00000000000000ff 'h'
		set @'n'/'a' 's'
		set 'a' 'p'
		batch #00000000000000ff @'n'/'a' @'m'/'a' 'a' -> ok 4
		| + 'h'
		| + 's'
		| -
		| + 'p'`),
	script.Case("scan", suite.Writer, "13 Scan", `
		open shards=4 entries=400
		now -> ok $wall _
		scan -> ok 0
		set 'b' '2' tag=9 -> ok $b
		set 'a' '1' expiry=$wall+100000 stale=7 -> ok $a
		set #0000000000000001 'h' -> ok $h
		set 'gone' 'x' expiry=$wall-1
		scan -> ok 3
		| *
		| *
		| *
		del 'b' -> ok
		del #0000000000000001 -> ok
		scan -> ok 1
		| 'a' '1' $a $wall+100000 7 0`),
	script.Case("scan-leaves-out-ids-and-claims", suite.Writer, "13 Scan; 6 Record flags", `
		open shards=1 entries=64
		set @'n'/'k' 'v' -> ok $v
		claim 'c' 60000 -> ok claim _
		scan -> ok 1
		| _ 'v' $v 0 0 0
		dump -> ok 4`),
	script.Case("long-overflow-chains", suite.Writer, "6 Index; 14 Set 6; 14 Delete 4", `
		open shards=1 entries=40 cell=64 maxkey=8 maxvalue=40
		`+repeat(40, `set 'k%[1]d' 'v%[1]d'`)+`
		`+repeat(40, `get 'k%[1]d' -> ok 'v%[1]d' *`)+`
		check -> ok 0
		`+repeat(20, `del 'k%[1]d'`)+`
		check -> ok 0
		`+repeat(20, `get 'k%[1]d' -> no`)+`
		scan -> ok 20
		`+repeat(20, `set 'k%[1]d' 'w%[1]d'`)+`
		`+repeat(20, `get 'k%[1]d' -> ok 'w%[1]d' *`)+`
		check -> ok 0
		scan -> ok 40`),
}

// repeat returns a line for each number from 0 on.
func repeat(n int, line string) (lines string) {
	for i := range n {
		lines += sprintf(line, i) + "\n"
	}
	return lines
}
