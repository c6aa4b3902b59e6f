package peer

import (
	"fmt"

	"github.com/flagstone-shm/flagstone/conformance/internal/script"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

var sprintf = fmt.Sprintf

// opening are the cases of section 8.
var opening = []suite.Case{
	script.Case("hello", suite.Reader, "3 Versions and constants", `
		hello -> ok flagstone-conformance 1 _ reader|writer|full 1 _ ef267ec975133f5f`),
	script.Case("no-handle", suite.Reader, "21 Errors", `
		get 'k' -> err closed
		scan -> err closed
		stat -> err closed
		peers -> err closed
		close -> err closed`),
	script.Case("unknown-command", suite.Reader, "22 Conformance", `
		hello
		open
		xyzzy -> unsupported
		get 'k' xyzzy=1 -> unsupported
		get 'k' -> no`),
	script.Case("must-exist", suite.Full, "8 Opening 1", `
		open create=0 -> err notfound
		list -> ok 0
		open create=1 shards=1 entries=64
		list -> ok 1
		| d
		close -> ok
		open create=0
		get 'k' -> no`),
	script.Case("reopen-keeps-records", suite.Full, "8 Opening 6; 9 Leave", `
		open shards=1 entries=64
		set 'k' 'v' tag=5 -> ok $v
		close -> ok
		get 'k' -> err closed
		open
		get 'k' -> ok 'v' $v 0 0 5
		check -> ok 0`),
	script.Case("open-twice", suite.Reader, "8 Opening a domain", `
		open
		open -> err _
		get 'k' -> no`),
	script.Case("end-of-input-leaves", suite.Full, "9 Leave", `
		open shards=1 entries=64 -> ok $region $generation
		set 'k' 'v'
		!end
		!restart
		open
		peers -> ok 1
		get 'k' -> ok 'v' *
		check -> ok 0`),
	script.Case("destroy", suite.Full, "8 Destroying", `
		open shards=1 entries=64
		set 'k' 'v'
		close
		destroy -> ok
		list -> ok 0
		open create=0 -> err notfound
		open shards=1 entries=64
		get 'k' -> no`),
	script.Case("destroy-missing", suite.Full, "8 Destroying", `
		destroy -> err notfound`),
	script.Case("destroy-under-a-handle", suite.Full, "8 Destroying; 8 Afterwards", `
		open shards=1 entries=64
		set 'k' 'v'
		destroy -> ok
		~ set 'k' 'w' -> err destroyed
		close -> ok
		open shards=1 entries=64
		get 'k' -> no`),
	script.Case("options-of-an-existing-domain", suite.Full, "8 Opening 6; 6 Geometry", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		close
		open create=0
		set 'k' 'v'*300 -> ok _
		set 'k' 'v'*301 -> err valuetoolong`),
	script.Case("gc-leaves-what-is-used", suite.Full, "8 Collecting", `
		open shards=1 entries=64
		set 'k' 'v'
		gc -> ok 0
		get 'k' -> ok 'v' *
		list -> ok 1
		close
		gc -> ok 1
		list -> ok 0
		open create=0 -> err notfound`),
	script.Case("gc-of-nothing", suite.Full, "8 Collecting", `
		gc -> ok 0
		list -> ok 0`),
	script.Case("all-regions-taken", suite.Full, "9 Claim", `
		open shards=1 entries=64 regions=1 -> ok 0 1
		1: open -> err noregion
		close
		1: open -> ok 0 2
		1: peers -> ok 1
		| 0 2 _ 1 _`),
}
