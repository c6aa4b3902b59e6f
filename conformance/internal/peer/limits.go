package peer

import (
	"github.com/flagstone-shm/flagstone/conformance/internal/script"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
)

// limits are the cases of section 6: geometry, records, hash keys, versions.
var limits = []suite.Case{
	script.Case("key-exact-limit", suite.Writer, "6 Records; 6 Geometry", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		set 'k'*32 'v' -> ok $v
		get 'k'*32 -> ok 'v' $v 0 0 0
		set 'k'*33 'v' -> err keytoolong
		add 'k'*33 'v' -> err keytoolong
		incr 'k'*33 1 -> err keytoolong
		claim 'k'*33 1000 -> err keytoolong
		check -> ok 0
		scan -> ok 1`),
	script.Case("key-too-long-is-not-there", suite.Writer, "6 Records; 13 Get", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		set 'k'*32 'v'
		get 'k'*33 -> no / err _
		del 'k'*33 -> no / err _
		get 'k'*32 -> ok *`),
	script.Case("value-exact-limit", suite.Writer, "6 Records; 6 Geometry", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		set 'k' 'v'*300 -> ok $v
		get 'k' -> ok 'v'*300 $v 0 0 0
		set 'k' 'v'*301 -> err valuetoolong
		add 'n' 'v'*301 -> err valuetoolong
		get 'k' -> ok 'v'*300 $v 0 0 0
		get 'n' -> no
		check -> ok 0`),
	script.Case("empty-key-and-value", suite.Writer, "6 Records", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		set 'k' - -> ok $v
		get 'k' -> ok - $v 0 0 0
		set - 'v' -> ok $w
		get - -> ok 'v' $w 0 0 0
		set - - -> ok $x
		get - -> ok - $x 0 0 0
		scan -> ok 2
		| - - $x 0 0 0
		| 'k' - $v 0 0 0
		del - -> ok
		get - -> no
		check -> ok 0`),
	// 128 - 48 = 80 bytes in the head, 128 - 24 = 104 in each tail.
	script.Case("value-fills-one-cell", suite.Writer, "6 Records", cells(80, 1)),
	script.Case("value-one-byte-into-second-cell", suite.Writer, "6 Records", cells(81, 2)),
	script.Case("value-fills-two-cells", suite.Writer, "6 Records", cells(184, 2)),
	script.Case("value-one-byte-into-third-cell", suite.Writer, "6 Records", cells(185, 3)),
	script.Case("value-fills-four-cells", suite.Writer, "6 Records", cells(392, 4)),
	script.Case("key-longer-than-a-cell", suite.Writer, "6 Records; 6 Index", `
		open shards=1 entries=64 cell=64 maxkey=200 maxvalue=100
		set 'k'*200 'one' -> ok $a
		set 'k'*199 'two' -> ok $b
		get 'k'*200 -> ok 'one' $a 0 0 0
		get 'k'*199 -> ok 'two' $b 0 0 0
		get 'k'*198 -> no
		del 'k'*200 -> ok
		get 'k'*200 -> no
		get 'k'*199 -> ok 'two' $b 0 0 0
		check -> ok 0`),
	script.Case("smallest-cell", suite.Writer, "6 Geometry; 6 Records", `
		open shards=1 entries=64 cell=64 maxkey=16 maxvalue=40
		set 'k' 'v'*40 -> ok $v
		stat -> ok 1
		| 0 _ 1 2 41
		get 'k' -> ok 'v'*40 $v 0 0 0
		check -> ok 0`),
	script.Case("version-word", suite.Writer, "6 Version word; 14 Set 4", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		set 'a' '1' -> ok 1024
		set 'b' '1' -> ok 2048
		set 'a' '2' -> ok 3072
		del 'b' -> ok
		set 'b' '2' -> ok 4096
		dump -> ok 3
		| shard 0 0 2 2 4 *
		| *`),
	script.Case("hash-key", suite.Writer, "6 Hash; 6 Record flags", `
		open shards=4 entries=400 cell=128 maxkey=32 maxvalue=300
		set #0123456789abcdef 'h' -> ok $v
		get #0123456789abcdef -> ok 'h' $v 0 0 0
		get #0123456789abcdee -> no
		set #0000000000000000 'z' -> ok $w
		get #0000000000000000 -> ok 'z' $w 0 0 0
		del #0123456789abcdef -> ok
		get #0123456789abcdef -> no
		check -> ok 0`),
	script.Case("hash-key-is-not-its-bytes", suite.Writer, "6 Hash; 6 Record flags", `
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=300
		set #0807060504030201 'h' -> ok $v
		get 0102030405060708 -> no
		set 0102030405060708 'b' -> ok $w
		get #0807060504030201 -> ok 'h' $v 0 0 0
		get 0102030405060708 -> ok 'b' $w 0 0 0
		scan -> ok 2
		| #0807060504030201 'h' $v 0 0 0
		| 0102030405060708 'b' $w 0 0 0
		dump -> ok 3
		| shard 0 0 2 *
		| record main 0102030405060708 1 'h' $v *
		| record main 0102030405060708 0 'b' $w *`),
	script.Case("impossible-geometry", suite.Full, "6 Geometry; 8 Opening a domain", `
		open shards=3 entries=64 -> err options
		open shards=512 entries=6400 -> err options
		open shards=1 entries=64 cell=100 -> err options
		open shards=1 entries=64 cell=32 -> err options
		open shards=1 entries=64 cell=2097152 -> err options
		open shards=1 entries=64 maxkey=65536 -> err options
		open shards=1 entries=64 maxvalue=1073741825 -> err options
		open regions=4097 -> err options
		list -> ok 0`),
	script.Case("many-shards", suite.Writer, "6 Hash; 6 Version word", `
		open shards=256 entries=4096 cell=64 maxkey=16 maxvalue=40
		set 'a' '1' -> ok $a
		set 'b' '2' -> ok $b
		set 'c' '3' -> ok $c
		get 'a' -> ok '1' $a 0 0 0
		get 'b' -> ok '2' $b 0 0 0
		get 'c' -> ok '3' $c 0 0 0
		stat -> ok 1
		| 0 _ 3 3 6
		scan -> ok 3
		check -> ok 0`),
}

func cells(bytes, cells int) string {
	return sprintf(`
		open shards=1 entries=64 cell=128 maxkey=32 maxvalue=400
		set 'k' 'v'*%d -> ok $v
		stat -> ok 1
		| 0 _ 1 %d %d
		get 'k' -> ok 'v'*%d $v 0 0 0
		del 'k' -> ok
		stat -> ok 1
		| 0 _ 0 0 0
		check -> ok 0`, bytes-1, cells, bytes, bytes-1)
}
