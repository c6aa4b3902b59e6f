package peers

import (
	"github.com/flagstone-shm/flagstone/conformance/internal/script"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// locking are the cases of locks that exclude, and of those who stand still.
var locking = []suite.Case{
	script.Case("mutex-excludes", suite.Full, "12 Lock", both+`
		0: lock 100 -> ok
		1: lock 100 wait=100 -> err busy
		1: lock 101 -> ok
		0: unlock 100 -> ok
		1: lock 100 -> ok
		0: lock 100 wait=100 -> err busy
		1: unlock 101 -> ok
		1: unlock 100 -> ok
		0: lock 100 -> ok
		1: unlock 100 -> err notheld
		0: unlock 100 -> ok`),
	script.Case("mutex-is-handed-on", suite.Full, "12 Lock 4; 12 Unlock", both+`
		2: open
		0: lock 100
		1: & lock 100 wait=10000
		2: lock 100 wait=100 -> err busy
		0: unlock 100
		1: = -> ok
		2: & lock 100 wait=10000
		0: lock 100 wait=100 -> err busy
		1: unlock 100
		2: = -> ok
		2: unlock 100
		0: lock 100 -> ok`),
	script.Case("column-excludes-writers", suite.Full, "12 Lock; 14 Taking the lock; 2 Assumptions and guarantees 5", both+`
		0: set 'k' 'v'
		0: hold 'k' -> ok
		1: set 'k' 'w' wait=100 -> err busy
		1: del 'k' wait=100 -> err busy
		1: add 'n' 'w' wait=100 -> err busy
		1: claim 'n' 1000 wait=100 -> err busy
		1: hold 'k' wait=100 -> err busy
		1: get 'k' -> ok 'v' *
		1: get 'n' -> no
		1: & set 'k' 'w' wait=10000
		0: drop -> ok
		1: = -> ok _
		0: get 'k' -> ok 'w' *
		0: check -> ok 0`),
	script.Case("holder-killed", suite.Full, "12 Lock 3; 12 Dead; 17 Rebuild", both+`
		0: set 'k' 'v'*200 -> ok $v
		0: hold 'k' -> ok
		!kill 0
		1: get 'k' -> ok 'v'*200 $v 0 0 0
		1: set 'k' 'w' wait=2000 -> ok _
		1: get 'k' -> ok 'w' *
		1: check -> ok 0
		2: open
		2: get 'k' -> ok 'w' *
		2: check -> ok 0`),
	script.Case("holder-crashes-by-itself", suite.Full, "12 Lock 3; 12 Dead", both+`
		1: hold 'k' -> ok
		0: & set 'k' 'w' wait=10000
		1: & crash
		!gone 1
		0: = -> ok _
		0: check -> ok 0`),
	script.Case("mutex-holder-killed", suite.Full, "12 Lock 3; 12 Dead", both+`
		0: lock 100
		1: & lock 100 wait=10000
		!kill 0
		1: = -> ok
		1: unlock 100 -> ok
		2: open
		2: lock 100 -> ok
		1: check -> ok 0`),
	script.Case("holder-stopped", suite.Full, "12 Dead; 2 Assumptions and guarantees 4", both+`
		0: set 'k' 'v'
		0: hold 'k' -> ok
		!stop 0
		1: set 'k' 'w' wait=300 -> err busy
		1: get 'k' -> ok 'v' *
		1: reap -> ok 0
		!continue 0
		0: drop -> ok
		1: set 'k' 'w' -> ok _
		0: get 'k' -> ok 'w' *
		0: check -> ok 0`),
	script.Case("stopped-holder-killed", suite.Full, "12 Dead", both+`
		0: hold 'k' -> ok
		!stop 0
		1: & set 'k' 'w' wait=10000
		!kill 0
		1: = -> ok _
		1: check -> ok 0`),
	script.Case("waiter-killed", suite.Full, "12 Lock 4", both+`
		0: hold 'k' -> ok
		1: & set 'k' 'w' wait=10000
		2: open
		2: & set 'k' 'x' wait=10000
		!kill 1
		0: drop -> ok
		2: = -> ok _
		0: set 'k' 'y' -> ok _
		0: check -> ok 0`),
}

// deaths are the cases of what the killed leave.
var deaths = []suite.Case{
	script.Case("region-reaped", suite.Full, "9 Reap", `
		0: open -> ok $r $g
		1: open -> ok $s $h
		1: peers -> ok 2
		!kill 0
		1: ~ reap -> ok 1
		1: peers -> ok 1
		| $s $h _ 1 _
		1: reap -> ok 0
		1: check -> ok 0`),
	script.Case("region-of-the-dead-claimed", suite.Full, "9 Claim 1; 9 Claim 3", `
		0: open regions=2 -> ok $r $g
		1: open -> ok $s $h
		2: open -> err noregion
		!kill 0
		2: ~ open -> ok $r $g+1
		1: peers -> ok 2`),
	script.Case("dead-region-shown", suite.Full, "9 Reap; 7 Lock bytes", both+`
		!kill 0
		1: peers -> ok 2
		1: ~ reap -> ok 1
		1: peers -> ok 1`),
	script.Case("claim-of-the-dead", suite.Full, "15 Judging; 12 Dead", both+`
		0: claim 'k' 600000 -> ok claim $c
		1: claim 'k' 60000 -> ok held
		!kill 0
		1: ~ claim 'k' 60000 -> ok claim $d
		1: fill 'k' $c 'old' -> err claimlost
		1: fill 'k' $d 'v' -> ok _
		1: check -> ok 0`),
	script.Case("claim-of-the-stopped-stands", suite.Full, "15 Judging", both+`
		0: claim 'k' 600000 -> ok claim $c
		!stop 0
		1: claim 'k' 60000 -> ok held
		!continue 0
		0: fill 'k' $c 'v' -> ok _
		1: claim 'k' 60000 -> ok value 'v'`),
	script.Case("data-outlives-its-writer", suite.Full, "2 Assumptions and guarantees 4", both+`
		`+repeat(30, "0: set 'k%d' 'v%d' tag=%d")+`
		!kill 0
		`+repeat(30, "1: get 'k%d' -> ok 'v%d' _ 0 0 %d")+`
		1: check -> ok 0
		!kill 1
		2: open
		2: scan -> ok 30
		2: check -> ok 0`),
	script.Case("killed-in-the-middle", suite.Full, "14 Crash points; 2 Assumptions and guarantees 4", both+`
		1: set 'k' 'first'
		0: crashafter 9 -> ok
		0: & set 'k' 'second'*20
		!gone 0
		1: get 'k' -> ok 'first'|'second'*20 *
		1: set 'n' 'v' -> ok _
		1: get 'k' -> ok 'first'|'second'*20 *
		1: check -> ok 0`),
	script.Case("killed-in-the-middle-of-replacing-below", suite.Full, "20 Crash points", pair+`
		0: grow 'more' 65536
		1: refresh
		`+repeat(12, "0: set 'k%d' 'v%d'")+`
		0: crashafter 15 -> ok
		0: & set 'new' 'v'
		!gone 0
		`+repeat(12, "1: peek 'k%d' -> ok 'v%d' *")+`
		1: set 'newer' 'v' -> ok _
		`+repeat(12, "1: peek 'k%d' -> ok 'v%d' *")+`
		1: check -> ok 0`),
	script.Case("child-keeps-the-lease", suite.Full, "9 Quarantine; 7 Forked children", `
		0: open `+plain+` -> ok $r $g
		1: open -> ok $s $h
		0: set 'k' 'v'
		0: fork -> ok _ forked
		0: hold 'k' -> ok
		!kill 0
		1: set 'k' 'w' wait=10000 -> ok _
		1: get 'k' -> ok 'w' *
		1: check -> ok 0`),
}
