package peers

import (
	"github.com/flagstone-shm/flagstone/conformance/internal/script"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// doorbells are the cases of section 11, for each mode of waking, both ways.
func doorbells() (all []suite.Case) {
	for _, mode := range []string{"poll", "futex", "signal"} {
		clauses := "11 Doorbell"
		if mode == "signal" {
			clauses = "11 Waking by signal"
		}
		all = append(all,
			script.Case("doorbell-"+mode, suite.Full, clauses, `
				0: open wake=`+mode+` -> ok $r _
				1: open wake=`+mode+` -> ok $s _
				1: & await 3
				0: ring $s 3 -> ok
				1: = -> ok
				0: & await 31 wait=10000
				1: ring $r 31 -> ok
				0: = -> ok
				1: await 4 wait=100 -> err busy
				0: ring $s 0 -> ok
				0: ring $s 1 -> ok
				0: ring $s 1 -> ok
				1: await 1 -> ok
				1: await 0 -> ok`),
			script.Case("changes-are-rung-"+mode, suite.Full, clauses+"; 10 View", `
				0: open `+short+` wake=`+mode+`
				1: open wake=`+mode+`
				1: heard -> ok 0 $c
				0: grow 'more' 65536
				1: ~ heard -> ok 0 $c+1..$c+1000`),
		)
	}
	return append(all,
		script.Case("doorbell-of-mixed-modes", suite.Full, "11 Doorbell; 11 Waking by signal", `
			0: open wake=signal -> ok $r _
			1: open wake=futex -> ok $s _
			2: open wake=poll -> ok $t _
			0: & await 1
			1: & await 2
			2: ring $r 1
			0: = -> ok
			0: ring $s 2
			1: = -> ok
			2: & await 3
			1: ring $t 3
			2: = -> ok`),
		script.Case("doorbell-of-the-stopped", suite.Full, "11 Doorbell", `
			0: open wake=signal -> ok $r _
			1: open wake=futex -> ok $s _
			!stop 0
			1: ring $r 5 -> ok
			!continue 0
			0: await 5 -> ok
			!stop 1
			0: ring $s 6 -> ok
			!continue 1
			1: await 6 -> ok`),
		script.Case("doorbell-of-the-dead", suite.Full, "11 Waking by signal; 9 Reap", `
			0: open wake=signal -> ok $r _
			1: open -> ok $s _
			!kill 0
			1: ring $r 5 -> ok / no / err _
			1: ~ reap -> ok 1
			1: ring $r 5 -> ok / no / err _
			1: check -> ok 0`),
	)
}
