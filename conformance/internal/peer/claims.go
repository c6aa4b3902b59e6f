package peer

import (
	"github.com/flagstone-shm/flagstone/conformance/internal/script"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// claims are the cases of section 15.
var claims = []suite.Case{
	script.Case("claim-fill", suite.Writer, "15 Claim; 15 Fill", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		now -> ok $wall _
		claim 'k' 60000 -> ok claim $c
		get 'k' -> no
		claim 'k' 60000 -> ok held
		fill 'k' $c 'v' expiry=$wall+100000 stale=4 tag=5 -> ok $v
		get 'k' -> ok 'v' $v $wall+100000 4 5
		claim 'k' 60000 -> ok value 'v'
		fill 'k' $c 'w' -> err claimlost
		stat -> ok 1
		| 0 _ 1 1 2
		check -> ok 0`),
	script.Case("claim-of-a-value", suite.Writer, "15 Claim 1", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		set 'k' 'v'
		claim 'k' 60000 -> ok value 'v'
		stat -> ok 1
		| 0 _ 1 1 2`),
	script.Case("claim-release", suite.Writer, "15 Release", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		claim 'k' 60000 -> ok claim $c
		release 'k' $c -> ok
		release 'k' $c -> err claimlost
		get 'k' -> no
		claim 'k' 60000 -> ok claim $d
		fill 'k' $c 'v' -> err claimlost
		fill 'k' $d 'v' -> ok _
		stat -> ok 1
		| 0 _ 1 1 2`),
	script.Case("claim-wrong-version", suite.Writer, "15 Fill 1", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		fill 'k' 1024 'v' -> err claimlost
		claim 'k' 60000 -> ok claim $c
		fill 'k' $c+1024 'v' -> err claimlost
		release 'k' $c+1024 -> err claimlost
		fail 'k' $c+1024 'text' -> err claimlost
		get 'k' -> no
		fill 'k' $c 'v' -> ok _`),
	script.Case("claim-deadline", suite.Writer, "15 Judging", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		claim 'k' 100 -> ok claim $c
		~ claim 'k' 60000 -> ok claim $d
		fill 'k' $c 'old' -> err claimlost
		fill 'k' $d 'new' -> ok _
		get 'k' -> ok 'new' *`),
	script.Case("claim-overdue-still-fills", suite.Writer, "15 Fill 1", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		claim 'k' 1 -> ok claim $c
		claim 'other' 100 -> ok claim _
		~ claim 'other' 60000 -> ok claim _
		fill 'k' $c 'v' -> ok _
		get 'k' -> ok 'v' *`),
	script.Case("claim-fail", suite.Writer, "15 Fail", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		now -> ok $wall _
		claim 'k' 60000 -> ok claim $c
		fail 'k' $c 'no such thing' until=$wall+60000 -> ok
		get 'k' -> no
		claim 'k' 60000 -> ok failed 'no such thing'
		fail 'k' $c 'again' -> err claimlost
		fill 'k' $c 'v' -> err claimlost
		set 'k' 'v' -> ok _
		claim 'k' 60000 -> ok value 'v'
		check -> ok 0`),
	script.Case("claim-fail-for-nobody-else", suite.Writer, "15 Fail; 15 Claim 2", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		claim 'k' 60000 -> ok claim $c
		fail 'k' $c 'broken' -> ok
		claim 'k' 60000 -> ok claim $d
		fill 'k' $d 'v' -> ok _`),
	script.Case("claim-fail-until", suite.Writer, "15 Claim 2", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		now -> ok $wall _
		claim 'k' 60000 -> ok claim $c
		fail 'k' $c 'broken' until=$wall+150 -> ok
		~ claim 'k' 60000 -> ok claim $d
		fill 'k' $d 'v' -> ok _`),
	script.Case("set-ends-the-claim", suite.Writer, "15 Whatever writes a key ends the claim on it", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		claim 'k' 60000 -> ok claim $c
		set 'k' 'set' -> ok $v
		fill 'k' $c 'loaded' -> err claimlost
		get 'k' -> ok 'set' $v 0 0 0
		stat -> ok 1
		| 0 _ 1 1 4`),
	script.Case("delete-ends-the-claim", suite.Writer, "15 Whatever writes a key ends the claim on it", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		claim 'k' 60000 -> ok claim $c
		del 'k' -> no
		fill 'k' $c 'loaded' -> err claimlost
		get 'k' -> no
		stat -> ok 1
		| 0 _ 0 0 0`),
	script.Case("increment-ends-the-claim", suite.Writer, "15 Whatever writes a key ends the claim on it; 14 Counters", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		claim 'k' 60000 -> ok claim $c
		incr 'k' 3 -> ok 3
		fill 'k' $c {9} -> err claimlost
		get 'k' -> ok {3} *`),
	script.Case("failed-condition-keeps-the-claim", suite.Writer, "15 Whatever writes a key ends the claim on it; 14 Conditions", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		claim 'k' 60000 -> ok claim $c
		replace 'k' 'v' -> no
		cas 'k' 1024 'v' -> no
		touch 'k' 0 -> no
		fill 'k' $c 'loaded' -> ok _
		get 'k' -> ok 'loaded' *`),
	script.Case("clear-ends-claims", suite.Writer, "15 Whatever writes a key ends the claim on it; 14 Clear", `
		open shards=4 entries=400 cell=128 maxkey=32 maxvalue=300
		claim 'k' 60000 -> ok claim $c
		clear -> ok _
		fill 'k' $c 'loaded' -> err claimlost
		stat -> ok 1
		| 0 _ 0 0 0`),
	script.Case("claim-keeps-the-expired", suite.Writer, "15 Claim 3; 15 Waiting", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		now -> ok $wall _
		set 'k' 'old' expiry=$wall-1 stale=60
		claim 'k' 60000 -> ok claim $c
		stale 'k' -> ok 'old' _ $wall-1 60 0 1
		fill 'k' $c 'new' -> ok _
		stale 'k' -> ok 'new' _ 0 0 0 0
		stat -> ok 1
		| 0 _ 1 1 4`),
	script.Case("claim-record", suite.Writer, "15 Claim 3; 6 Record flags", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		claim 'k' 60000 -> ok claim $c
		dump -> ok 2
		| shard 0 0 1 1 1 *
		| record main 'k' 2 _ $c 0 0 0 *
		claim #0000000000000009 60000 -> ok claim $h
		dump -> ok 3
		| shard 0 0 2 2 2 *
		| record main 0900000000000000 3 _ $h 0 0 0 *
		| record main 'k' 2 _ $c 0 0 0 *`),
	script.Case("claim-in-a-full-slab", suite.Full, "15 Claim 4; 14 Make room", `
		open shards=1 entries=8 cell=128 maxkey=8 maxvalue=40 full=refuse
		`+repeat(8, `set 'k%[1]d' 'v' -> ok *`)+`
		claim 'new' 60000 -> err full
		claim 'k0' 60000 -> ok value 'v'
		del 'k0' -> ok
		claim 'new' 60000 -> ok claim $c
		fill 'new' $c 'v' -> ok _
		check -> ok 0`),
	script.Case("claim-takes-the-place-of-the-expired", suite.Full, "15 Claim 3", `
		open shards=1 entries=8 cell=128 maxkey=8 maxvalue=40 full=refuse
		now -> ok $wall _
		`+repeat(7, `set 'k%[1]d' 'v' -> ok *`)+`
		set 'old' 'v' expiry=$wall-1 stale=60
		claim 'old' 60000 -> ok claim $c
		fill 'old' $c 'new' -> ok _
		get 'old' -> ok 'new' *
		check -> ok 0`),
	script.Case("fill-too-long", suite.Writer, "15 Fail; 6 Records", `
		open shards=1 entries=64 cell=128 maxkey=8 maxvalue=100
		claim 'k' 60000 -> ok claim $c
		fill 'k' $c 'v'*101 -> err valuetoolong
		get 'k' -> no`),
	script.Case("fail-with-a-long-text", suite.Writer, "15 Fail", `
		open shards=1 entries=64 cell=128 maxkey=8 maxvalue=40
		now -> ok $wall _
		claim 'k' 60000 -> ok claim $c
		fail 'k' $c 'text'*25 until=$wall+60000 -> ok
		claim 'k' 60000 -> ok failed _
		check -> ok 0`),
}
