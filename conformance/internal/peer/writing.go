package peer

import (
	"github.com/flagstone-shm/flagstone/conformance/internal/script"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// writing are the cases of section 14.
var writing = []suite.Case{
	script.Case("set-replaces-all", suite.Writer, "14 Set; 6 Expiry and user tag", `
		open shards=1 entries=64
		now -> ok $wall _
		set 'k' 'v' expiry=$wall+100000 stale=5 tag=6 -> ok $v
		set 'k' 'longer value' -> ok $w
		get 'k' -> ok 'longer value' $w 0 0 0
		stat -> ok 1
		| 0 _ 1 1 13
		check -> ok 0`),
	script.Case("set-grows-and-shrinks", suite.Writer, "14 Set 9; 14 Free", `
		open shards=1 entries=64 cell=64 maxkey=8 maxvalue=1000
		set 'k' 'a'*1000 -> ok _
		set 'k' 'b' -> ok _
		set 'k' 'c'*500 -> ok $v
		get 'k' -> ok 'c'*500 $v 0 0 0
		del 'k' -> ok
		stat -> ok 1
		| 0 _ 0 0 0
		check -> ok 0`),
	script.Case("add", suite.Writer, "14 Conditions", `
		open shards=1 entries=64
		add 'k' 'v' tag=2 -> ok $v
		add 'k' 'w' -> no
		get 'k' -> ok 'v' $v 0 0 2
		del 'k' -> ok
		add 'k' 'w' -> ok $w
		get 'k' -> ok 'w' $w 0 0 0`),
	script.Case("replace", suite.Writer, "14 Conditions", `
		open shards=1 entries=64
		now -> ok $wall _
		replace 'k' 'v' -> no
		get 'k' -> no
		set 'k' 'v'
		replace 'k' 'w' tag=1 -> ok $w
		get 'k' -> ok 'w' $w 0 0 1
		set 'x' 'v' expiry=$wall-1
		replace 'x' 'w' -> no
		get 'x' -> no`),
	script.Case("cas", suite.Writer, "14 Conditions", `
		open shards=1 entries=64
		cas 'k' 1024 'v' -> no
		set 'k' 'v' -> ok $v
		cas 'k' $v 'w' tag=3 -> ok $w
		cas 'k' $v 'x' -> no
		get 'k' -> ok 'w' $w 0 0 3
		set 'k' 'w' -> ok $x
		cas 'k' $w 'y' -> no
		del 'k' -> ok
		set 'k' 'w'
		cas 'k' $x 'y' -> no`),
	script.Case("cas-of-no-version", suite.Writer, "14 Conditions", `
		open shards=1 entries=64
		set 'k' 'v' -> ok $v
		cas 'k' 0 'w' -> no
		cas 'n' 0 'w' -> no
		cas 'k' $v+1 'w' -> no
		cas 'k' 18446744073709551615 'w' -> no
		get 'k' -> ok 'v' $v 0 0 0
		get 'n' -> no`),
	script.Case("delete", suite.Writer, "14 Delete", `
		open shards=1 entries=64
		now -> ok $wall _
		del 'k' -> no
		set 'k' 'v'
		del 'k' -> ok
		get 'k' -> no
		del 'k' -> no
		stat -> ok 1
		| 0 _ 0 0 0
		check -> ok 0`),
	script.Case("counter", suite.Writer, "14 Counters", `
		open shards=1 entries=64
		incr 'c' 5 -> ok 5
		incr 'c' -7 -> ok -2
		get 'c' -> ok {-2} _ 0 0 0
		incr 'd' 1 initial=100 -> ok 101
		incr 'd' 1 initial=100 -> ok 102
		incr 'e' 3 initial=-10 -> ok -7
		set 's' {41}
		incr 's' 1 -> ok 42
		incr 's' 0 -> ok 42
		get 's' -> ok {42} _ 0 0 0`),
	script.Case("counter-passes-on", suite.Writer, "14 Counters", `
		open shards=1 entries=64
		now -> ok $wall _
		set 'c' {1} expiry=$wall+100000 stale=8 tag=9
		incr 'c' 1 ttl=5 -> ok 2
		get 'c' -> ok {2} _ $wall+100000 8 9
		incr 'n' 1 ttl=100000 -> ok 1
		get 'n' -> ok {1} _ $wall+100000..$wall+130000 0 0`),
	script.Case("counter-refuses", suite.Writer, "14 Counters", `
		open shards=1 entries=64
		set 'k' 'seven77' -> ok $v
		incr 'k' 1 -> err notcounter
		get 'k' -> ok 'seven77' $v 0 0 0
		set 'n' 'ninebytes' -> ok _
		incr 'n' 1 -> err notcounter
		set 'z' - -> ok _
		incr 'z' 1 -> err notcounter
		set 'm' {9223372036854775807} -> ok $w
		incr 'm' 1 -> err overflow
		get 'm' -> ok {9223372036854775807} $w 0 0 0
		incr 'm' -1 -> ok 9223372036854775806
		incr 'l' -9223372036854775808 -> ok -9223372036854775808
		incr 'l' -1 -> err overflow
		incr 'l' 9223372036854775807 -> ok -1
		incr 'o' 1 initial=9223372036854775807 -> err overflow
		get 'o' -> no`),
	script.Case("counter-expired-begins-anew", suite.Writer, "14 Counters; 14 Conditions", `
		open shards=1 entries=64
		now -> ok $wall _
		set 'c' {7} expiry=$wall-1 tag=4
		incr 'c' 1 initial=10 -> ok 11
		get 'c' -> ok {11} _ 0 0 0`),
	script.Case("touch", suite.Writer, "14 Touch", `
		open shards=1 entries=64
		now -> ok $wall _
		touch 'k' 0 -> no
		set 'k' 'v' expiry=$wall+50000 stale=9 tag=2 -> ok $v
		touch 'k' $wall+90000 -> ok
		get 'k' -> ok 'v' $v $wall+90000 9 2
		touch 'k' 0 -> ok
		get 'k' -> ok 'v' $v 0 _ 2
		get 'k' -> ok 'v' $v 0 9 2
		set 'x' 'v' expiry=$wall-1
		touch 'x' 0 -> no
		get 'x' -> no
		touch 'k' 281474976710656 -> err expiry`),
	script.Case("touch-ends-a-record", suite.Writer, "14 Touch; 13 Get 5", `
		open shards=1 entries=64
		now -> ok $wall _
		set 'k' 'v' stale=60 -> ok $v
		touch 'k' $wall-1 -> ok
		get 'k' -> no
		stale 'k' -> ok 'v' $v $wall-1 60 0 1`),
	script.Case("refuse-when-full", suite.Full, "14 Make room 1; 6 Geometry", `
		open shards=1 entries=8 cell=128 maxkey=8 maxvalue=40 full=refuse
		`+repeat(8, `set 'k%[1]d' 'v' -> ok`+" *")+`
		set 'one' 'more' -> err full
		add 'one' 'more' -> err full
		incr 'one' 1 -> err full
		get 'one' -> no
		set 'k3' 'new' -> ok $v
		get 'k3' -> ok 'new' $v 0 0 0
		del 'k1' -> ok
		set 'one' 'more' -> ok _
		set 'two' 'more' -> err full
		scan -> ok 8
		check -> ok 0`),
	script.Case("refuse-leaves-cells-for-replacing", suite.Full, "14 Make room 1; 6 Geometry", `
		open shards=1 entries=16 cell=64 maxkey=8 maxvalue=100 full=refuse
		`+repeat(16, `set 'k%[1]d' 'v' -> ok *`)+`
		set 'x' 'v' -> err full
		set 'k0' 'w'*100 -> err full
		get 'k0' -> ok 'v' *
		set 'k0' 'w' -> ok _
		get 'k0' -> ok 'w' *
		check -> ok 0`),
	script.Case("evict-when-full", suite.Full, "14 Make room 1; 6 Order (lru)", `
		open shards=1 entries=8 cell=128 maxkey=8 maxvalue=40
		`+repeat(20, `set 'k%[1]d' 'v' -> ok *`)+`
		get 'k11' -> no
		`+repeat(11, `get 'k%[1]d' -> no`)+`
		scan -> ok 8
		get 'k19' -> ok 'v' *
		get 'k12' -> ok 'v' *
		check -> ok 0`),
	script.Case("large-record-evicts-several", suite.Full, "14 Make room 1", `
		open shards=1 entries=32 cell=64 maxkey=8 maxvalue=400
		`+repeat(32, `set 'k%[1]d' 'v' -> ok *`)+`
		set 'big' 'w'*400 -> ok $v
		get 'big' -> ok 'w'*400 $v 0 0 0
		get 'k0' -> no
		get 'k1' -> no
		get 'k31' -> ok 'v' *
		check -> ok 0`),
	script.Case("clear", suite.Writer, "14 Clear", `
		open shards=4 entries=400
		clear -> ok 0
		set 'a' '1'
		set 'b' '2'
		set #0000000000000005 '3'
		claim 'c' 60000 -> ok claim $c
		clear -> ok _
		scan -> ok 0
		get 'a' -> no
		get #0000000000000005 -> no
		fill 'c' $c 'v' -> err claimlost
		stat -> ok 1
		| 0 _ 0 0 0
		check -> ok 0
		set 'a' '1' -> ok $v
		get 'a' -> ok '1' $v 0 0 0`),
	script.Case("clear-counts-records", suite.Writer, "14 Clear", `
		open shards=4 entries=400
		`+repeat(17, `set 'k%[1]d' 'v'`)+`
		clear -> ok 17
		clear -> ok 0`),
	script.Case("locks-of-writers-free-after-errors", suite.Writer, "14 Taking the lock; 12 Unlock", `
		open shards=1 entries=64 maxkey=16 maxvalue=100
		set 'k' 'seven77'
		incr 'k' 1 -> err notcounter
		set 'k' 'v'*101 -> err valuetoolong
		cas 'k' 4 'v' -> no
		add 'k' 'v' -> no
		hold 'k' -> ok
		drop -> ok
		set 'k' 'v' -> ok _`),
}

// namespaces are the cases of namespaces, section 14.
var namespaces = []suite.Case{
	script.Case("namespace", suite.Writer, "14 Namespaces", `
		open shards=1 entries=64
		get @'n'/'k' -> no
		set @'n'/'k' 'v' tag=3 -> ok $v
		get @'n'/'k' -> ok 'v' $v 0 0 3
		get @'m'/'k' -> no
		get 'k' -> no
		set @'m'/'k' 'w' -> ok $w
		get @'n'/'k' -> ok 'v' $v 0 0 3
		get @'m'/'k' -> ok 'w' $w 0 0 0
		del @'n'/'k' -> ok
		get @'n'/'k' -> no
		get @'m'/'k' -> ok 'w' $w 0 0 0`),
	script.Case("namespace-clear", suite.Writer, "14 Namespaces", `
		open shards=1 entries=64
		clearns 'n' -> no
		set @'n'/'a' '1'
		set @'n'/'b' '2'
		set @'m'/'a' '3'
		clearns 'n' -> ok
		get @'n'/'a' -> no
		get @'n'/'b' -> no
		get @'m'/'a' -> ok '3' *
		clearns 'n' -> no
		set @'n'/'a' '4' -> ok $v
		get @'n'/'a' -> ok '4' $v 0 0 0
		get @'n'/'b' -> no
		check -> ok 0`),
	script.Case("namespace-id", suite.Writer, "14 Namespaces; 6 Record flags", `
		open shards=1 entries=64
		set @'n'/'k' 'v' -> ok $v
		dump -> ok 3
		| shard 0 0 2 2 *
		| record main _ 8 'v' $v *
		| record main 'n' 4 $id *`),
	script.Case("namespace-key-limit", suite.Writer, "14 Namespaces; 6 Records", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		set @'n'/'k'*24 'v' -> ok _
		set @'n'/'k'*25 'v' -> err keytoolong
		set @'n'*32/'k' 'v' -> ok _
		set @'n'*33/'k' 'v' -> err keytoolong
		get @'n'/'k'*24 -> ok 'v' *`),
	script.Case("namespace-operations", suite.Writer, "14 Namespaces; 15 Claim", `
		open shards=1 entries=64
		add @'n'/'k' '1' -> ok $v
		add @'n'/'k' '2' -> no
		cas @'n'/'k' $v '2' -> ok _
		replace @'n'/'x' '2' -> no
		incr @'n'/'c' 5 -> ok 5
		touch @'n'/'k' 0 -> ok
		claim @'n'/'l' 60000 -> ok claim $c
		fill @'n'/'l' $c 'loaded' -> ok _
		get @'n'/'l' -> ok 'loaded' *
		check -> ok 0`),
	script.Case("namespace-empty-name", suite.Writer, "14 Namespaces", `
		open shards=1 entries=64
		set @-/'k' 'v' -> ok $v
		get @-/'k' -> ok 'v' $v 0 0 0
		get 'k' -> no
		clearns - -> ok
		get @-/'k' -> no`),
}
