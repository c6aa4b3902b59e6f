package peers

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/flagstone-shm/flagstone/conformance/internal/script"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

var sprintf = fmt.Sprintf

// repeat returns a line for each number from 0 on.
func repeat(n int, line string) (lines string) {
	for i := range n {
		lines += strings.ReplaceAll(line, "%d", strconv.Itoa(i)) + "\n"
	}
	return lines
}

const (
	plain = `shards=1 entries=64 cell=64 maxkey=40 maxvalue=300 stamp=0`
	both  = "0: open " + plain + "\n1: open " + plain + "\n"
	short = `shards=1 entries=8 cell=128 maxkey=32 maxvalue=40 stamp=0`
	pair  = "0: open " + short + "\n1: open " + short + "\n"
)

// sharing are cases of what one writes and others find, both ways.
var sharing = []suite.Case{
	script.Case("set-and-get", suite.Writer, "2 Assumptions and guarantees 1; 13 Get; 14 Set", both+`
		0: set 'a' '1' tag=3 -> ok $a
		1: get 'a' -> ok '1' $a 0 0 3
		1: set 'a' '2'*300 -> ok $b
		0: get 'a' -> ok '2'*300 $b 0 0 0
		0: del 'a' -> ok
		1: get 'a' -> no
		1: add 'a' '3' -> ok _
		0: add 'a' '4' -> no
		1: del 'a' -> ok
		0: get 'a' -> no
		0: check -> ok 0
		1: check -> ok 0`),
	script.Case("hashes-agree", suite.Writer, "6 Hash", `
		0: open shards=64 entries=4000 cell=64 maxkey=300 maxvalue=40
		1: open
		`+lengths("0: set 'k'*%d 'v' -> ok _")+lengths("1: get 'k'*%d -> ok 'v' *")+`
		`+lengths("1: set 'q'*%d 'v' -> ok _")+lengths("0: get 'q'*%d -> ok 'v' *")+`
		0: check -> ok 0
		1: check -> ok 0`),
	script.Case("hash-keys-agree", suite.Writer, "6 Hash", `
		0: open shards=64 entries=4000
		1: open
		`+hashes("0: set #%016x 'v'")+hashes("1: get #%016x -> ok 'v' *")+`
		1: set #ffffffffffffffff 'last'
		0: get #ffffffffffffffff -> ok 'last' *
		0: check -> ok 0
		1: check -> ok 0`),
	script.Case("chained-values", suite.Writer, "6 Records", `
		0: open shards=1 entries=1000 cell=64 maxkey=40 maxvalue=1300
		1: open
		`+repeat(30, "0: set 'a%d' 'v'*1%d0 -> ok _")+repeat(30, "1: get 'a%d' -> ok 'v'*1%d0 *")+`
		`+repeat(30, "1: set 'a%d' 'w'*2%d -> ok _")+repeat(30, "0: get 'a%d' -> ok 'w'*2%d *")+`
		0: check -> ok 0
		1: check -> ok 0`),
	script.Case("compare-and-swap", suite.Writer, "14 Conditions", both+`
		0: set 'k' '1' -> ok $a
		1: cas 'k' $a '2' -> ok $b
		0: cas 'k' $a '3' -> no
		0: cas 'k' $b '3' -> ok $c
		1: get 'k' -> ok '3' $c 0 0 0`),
	script.Case("counters-add-up", suite.Full, "14 Counters", both+`
		`+repeat(20, "0: & incr 'c' 3\n1: & incr 'c' -1")+repeat(20, "0: = -> ok _\n1: = -> ok _")+`
		0: incr 'c' 0 -> ok 40
		1: incr 'c' 0 -> ok 40`),
	script.Case("expiry-and-stale", suite.Writer, "13 Get 4; 14 Touch", both+`
		0: now -> ok $wall _
		0: set 'k' 'v' expiry=$wall+100000 stale=9 tag=1 -> ok $v
		1: get 'k' -> ok 'v' $v $wall+100000 9 1
		1: touch 'k' $wall-1 -> ok
		0: get 'k' -> no
		0: stale 'k' -> ok 'v' $v $wall-1 9 1 1
		1: stale 'k' -> ok 'v' $v $wall-1 9 1 1
		0: set 'm' 'v' ttl=200
		1: ~ get 'm' -> no`),
	script.Case("namespaces", suite.Full, "14 Namespaces", both+`
		0: set @'n'/'a' '1' -> ok $a
		1: get @'n'/'a' -> ok '1' $a 0 0 0
		1: set @'n'/'b' '2'
		0: get @'n'/'b' -> ok '2' *
		1: clearns 'n' -> ok
		0: get @'n'/'a' -> no
		0: set @'n'/'c' '3'
		1: get @'n'/'c' -> ok '3' *
		1: get @'n'/'a' -> no`),
	script.Case("claims", suite.Full, "15 Claim; 15 Fill; 15 Fail", both+`
		0: claim 'k' 60000 -> ok claim $c
		1: claim 'k' 60000 -> ok held
		0: fill 'k' $c 'v' -> ok _
		1: claim 'k' 60000 -> ok value 'v'
		1: claim 'm' 60000 -> ok claim $d
		1: now -> ok $wall _
		1: fail 'm' $d 'reason' until=$wall+60000 -> ok
		0: claim 'm' 60000 -> ok failed 'reason'
		0: set 'm' 'v' -> ok _
		1: claim 'm' 60000 -> ok value 'v'
		0: claim 'x' 60000 -> ok claim $e
		1: set 'x' 'set' -> ok _
		0: fill 'x' $e 'filled' -> err claimlost
		0: claim 'y' 60000 -> ok claim $f
		1: del 'y' -> no
		0: fill 'y' $f 'filled' -> err claimlost
		0: claim 'z' 60000 -> ok claim $g
		1: fill 'z' $g 'by the other' -> ok _ / err claimlost
		0: check -> ok 0
		1: check -> ok 0`),
	script.Case("claim-overdue", suite.Full, "15 Judging", both+`
		0: claim 'k' 200 -> ok claim $c
		1: ~ claim 'k' 60000 -> ok claim $d
		0: fill 'k' $c 'late' -> err claimlost
		1: fill 'k' $d 'v' -> ok _
		0: get 'k' -> ok 'v' *`),
	script.Case("clear", suite.Full, "14 Clear", both+`
		`+repeat(10, "0: set 'k%d' 'v'")+`
		0: claim 'c' 60000 -> ok claim $c
		1: clear -> ok _
		0: scan -> ok 0
		0: fill 'c' $c 'v' -> err claimlost
		0: set 'k' 'v'
		1: scan -> ok 1`),
	script.Case("eviction-by-all", suite.Full, "16 Cutoff eviction; 6 Order (lru)", pair+`
		`+repeat(10, "0: set 'a%d' 'v' tag=1\n1: set 'b%d' 'v' tag=2")+`
		0: scan -> ok 8
		1: scan -> ok 8
		0: evicttag 2 -> ok 4
		1: scan -> ok 4
		1: now -> ok _ $d
		1: evict $d+100000 10 -> ok 4
		0: scan -> ok 0
		0: check -> ok 0
		1: check -> ok 0`),
	script.Case("reader-beside-writers", suite.Writer, "9 Readers without a region", both+`
		2: open read=1 -> ok - -
		0: set 'k' 'v'
		2: get 'k' -> ok 'v' *
		1: set 'k' 'w'
		2: get 'k' -> ok 'w' *
		1: del 'k'
		2: get 'k' -> no
		2: close`),
	script.Case("destroy-is-seen", suite.Full, "8 Destroying; 8 Afterwards", both+`
		0: set 'k' 'v'
		1: destroy -> ok
		0: ~ set 'k' 'w' -> err destroyed
		0: close -> ok
		1: ~ get 'k' -> err destroyed / ok 'v' *
		1: close -> ok
		0: open `+plain+`
		1: open
		0: get 'k' -> no
		0: set 'k' 'new'
		1: get 'k' -> ok 'new' *`),
	script.Case("made-by-the-other", suite.Full, "8 Opening a domain; 6 Geometry", `
		1: open shards=4 entries=500 cell=192 maxkey=50 maxvalue=1000 order=s3fifo full=refuse stamp=7
		0: open
		0: set 'k'*50 'v'*1000 -> ok $v
		1: get 'k'*50 -> ok 'v'*1000 $v 0 0 0
		0: set 'k'*51 'v' -> err keytoolong
		0: set 'k' 'v'*1001 -> err valuetoolong
		0: check -> ok 0
		1: check -> ok 0`),
	script.Case("opened-at-once", suite.Full, "8 Opening 3; 8 Opening 5; 10 Slabs of a domain", `
		0: & open shards=1 entries=64
		1: & open shards=1 entries=64
		2: & open shards=1 entries=64
		3: & open shards=1 entries=64
		0: = -> ok _ _
		1: = -> ok _ _
		2: = -> ok _ _
		3: = -> ok _ _
		0: peers -> ok 4
		1: entries -> ok 1
		3: set 'k' 'v'
		2: get 'k' -> ok 'v' *
		0: check -> ok 0
		1: check -> ok 0`),
}

// hashes are numbers that an application might give.
func hashes(line string) (lines string) {
	for i := range uint64(40) {
		lines += sprintf(line, i*0x0123456789abcdef) + "\n"
	}
	return lines
}

// lengths are the lengths of keys at which XXH3 changes its ways.
func lengths(line string) (lines string) {
	for _, n := range []int{1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 160, 200, 239, 240, 241, 255, 256, 257, 300} {
		lines += sprintf(line, n) + "\n"
	}
	return lines
}
