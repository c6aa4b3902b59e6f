package peer

import (
	"github.com/flagstone-shm/flagstone/conformance/internal/script"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// control are the cases of the control segment: regions, mutexes, doorbell, steward.
var control = []suite.Case{
	script.Case("peers", suite.Full, "9 Claim; 9 Leave", `
		open wake=poll -> ok $r $g
		peers -> ok 1
		| $r $g _ 1 poll
		close
		open wake=futex -> ok $r2 $g2
		peers -> ok 1
		| $r2 $g2 _ 1 futex
		reap -> ok 0`),
	script.Case("waking-by-signal", suite.Full, "9 Regions; 11 Waking by signal", `
		open wake=signal -> ok $r $g
		peers -> ok 1
		| $r $g _ 1 signal`),
	script.Case("generation-goes-on", suite.Full, "9 Claim 3", `
		open regions=1 -> ok 0 1
		close
		open -> ok 0 2
		close
		open -> ok 0 3`),
	script.Case("region-flags", suite.Full, "5 Control segment", `
		open
		flags 4294967295 -> ok
		flags 0 -> ok
		check -> ok 0`),
	script.Case("mutex", suite.Full, "12 Lock; 12 Unlock", `
		open
		lock 100 -> ok
		unlock 100 -> ok
		unlock 100 -> err notheld
		lock 127 -> ok
		lock 128 -> err nomutex
		unlock 128 -> err nomutex|notheld
		unlock 127 -> ok`),
	script.Case("mutexes-at-once", suite.Full, "5 Control segment; 12 Lock", `
		open
		lock 100
		lock 101
		lock 102
		lock 103
		lock 104
		lock 105
		lock 106
		lock 107
		lock 108
		lock 109
		lock 110
		lock 111
		lock 112
		lock 113
		lock 114
		lock 115
		lock 116 -> err toomanyheld
		unlock 103 -> ok
		lock 116 -> ok
		check -> ok 0`),
	script.Case("hold", suite.Full, "12 Lock; 2 Assumptions and guarantees 5", `
		open shards=1 entries=64
		set 'k' 'v'
		hold 'k' -> ok
		get 'k' -> ok 'v' *
		get 'none' -> no
		1: open
		1: get 'k' -> ok 'v' *
		1: set 'k' 'w' wait=150 -> err busy
		drop -> ok
		1: set 'k' 'w' -> ok _
		get 'k' -> ok 'w' *`),
	script.Case("doorbell-of-ones-own", suite.Full, "11 Doorbell", `
		open wake=futex -> ok $r _
		heard -> ok 0 _
		ring $r 3 -> ok
		~ heard -> ok 8 _
		heard -> ok 0 _
		ring $r 31 -> ok
		await 31 -> ok
		heard -> ok _ _
		await 4 wait=100 -> err busy`),
	script.Case("doorbell-of-nobody", suite.Full, "11 Doorbell; 19 Untrusted numbers", `
		open regions=4 -> ok $r _
		ring 4 0 -> err _
		ring $r 32 -> err _
		heard -> ok 0 _`),
	script.Case("steward", suite.Full, "7 Steward", `
		open -> ok $r _
		steward -> no
		resign -> no
		lead -> ok
		steward -> ok $r
		lead -> ok / no
		steward -> ok $r
		resign -> ok
		steward -> no
		lead -> ok
		close
		open
		steward -> no`),
	script.Case("fork", suite.Full, "7 Forked children", `
		open shards=1 entries=64
		set 'k' 'v'
		fork -> ok _ forked
		get 'k' -> ok 'v' *
		set 'k' 'w' -> ok _
		lock 100 -> ok
		unlock 100 -> ok
		check -> ok 0`),
	script.Case("killed-at-any-store", suite.Full, "14 Crash points; 12 Lock 3", crashes()),
}

// crashes kills a writer at some stores of a Set; the next one finds the old value or
// the new one.
func crashes() (text string) {
	text = "open shards=1 entries=64 cell=64 maxkey=8 maxvalue=300\n"
	for n := 1; n <= 40; n += 3 {
		text += sprintf(`
			1: open
			1: set 'k' 'old'*50 -> ok _
			1: crashafter %d -> ok
			1: & set 'k' 'new'*80
			!gone 1
			!restart 1
			get 'k' -> ok 'old'*50|'new'*80 *
			set 'other' 'v' -> ok _
			check -> ok 0
		`, n)
	}
	return text
}

// reading are the cases of a handle without a region.
var reading = []suite.Case{
	script.Case("reader-missing", suite.Reader, "8 Opening a domain; 9 Readers without a region", `
		open read=1 create=0 -> err notfound
		list -> ok 0 / unsupported`),
	script.Case("reader", suite.Reader, "9 Readers without a region; 13 Get", `
		M: open shards=1 entries=64 cell=64 maxkey=32 maxvalue=300
		M: set 'k' 'v'*200 tag=3 -> ok $v
		0: open read=1 -> ok - -
		0: get 'k' -> ok 'v'*200 $v 0 0 3
		0: get 'none' -> no
		M: set 'k' 'w' -> ok $w
		0: get 'k' -> ok 'w' $w 0 0 0
		M: del 'k'
		0: get 'k' -> no
		0: set 'k' 'v' -> err readonly / unsupported
		0: del 'k' -> err readonly / unsupported
		0: close -> ok
		M: check -> ok 0`),
	script.Case("reader-takes-no-region", suite.Reader, "9 Readers without a region", `
		M: open regions=1 shards=1 entries=64
		M: set 'k' 'v'
		0: open read=1 -> ok - -
		0: get 'k' -> ok 'v' *
		M: peers -> ok 1
		M: close
		M: gc -> ok 1
		0: close -> ok`),
	script.Case("reader-changes-nothing", suite.Reader, "9 Readers without a region; 13 Get 8", `
		M: open shards=1 entries=64 stamp=0
		M: set 'k' 'v'
		M: now -> ok _ $d
		M: ~ now -> ok _ $d+100..281474976710655
		0: open read=1
		0: get 'k' -> ok 'v' *
		0: get 'k' -> ok 'v' *
		M: dump
		| *
		| record main 'k' 0 'v' _ 0 0 0 0..$d 0`),
	script.Case("reader-expiry", suite.Reader, "9 Readers without a region; 13 Get 5", `
		M: open shards=1 entries=64
		M: now -> ok $wall _
		M: set 'k' 'v' expiry=$wall+300
		M: set 'm' 'v' expiry=$wall-1
		0: open read=1
		0: get 'm' -> no
		0: ~ get 'k' -> no`),
	script.Case("reader-with-tiers", suite.Reader, "9 Readers without a region; 20 View", `
		M: `+small+`
		M: now -> ok _ $d
		M: set 'k' 'v'
		0: open read=1
		0: get 'k' -> ok 'v' *
		M: grow 'more' 65536
		M: age 0 1 $d+1000000 10 -> ok 1
		0: get 'k' -> ok 'v' *
		M: drain 1 -> ok 1
		0: get 'k' -> ok 'v' *
		0: get 'none' -> no`),
	script.Case("reader-while-a-writer-holds", suite.Reader, "2 Assumptions and guarantees 5; 13 Get", `
		M: open shards=1 entries=64
		M: set 'k' 'v'
		M: hold 'k'
		0: open read=1
		0: get 'k' -> ok 'v' *
		0: get 'none' -> no
		M: drop`),
	script.Case("reader-scans-and-looks", suite.Reader, "13 Scan; 22 Conformance", `
		M: open shards=4 entries=400
		M: set 'a' '1' -> ok $a
		M: set 'b' '2' -> ok $b
		0: open read=1
		0: scan -> ok 2
		| 'a' '1' $a 0 0 0
		| 'b' '2' $b 0 0 0
		0: batch 'a' 'c' -> ok 2
		| + '1'
		| -
		0: stat -> ok 1
		| 0 _ 2 2 4
		0: peers -> ok 1
		| *`),
	script.Case("reader-refuses", suite.Reader, "22 Conformance", `
		M: open shards=1 entries=64
		M: set 'k' {1}
		0: open read=1
		0: incr 'k' 1 -> err readonly / unsupported
		0: touch 'k' 0 -> err readonly / unsupported
		0: claim 'n' 100 -> err readonly / unsupported
		0: clear -> err readonly / unsupported
		0: rebuild -> err readonly / unsupported
		0: lock 100 -> err readonly / unsupported
		0: grow 'n' 65536 -> err readonly / unsupported
		M: get 'k' -> ok {1} *`),
}
