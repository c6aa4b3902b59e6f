package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/slab"
)

var long = strings.Repeat("0123456789", 10)

// crowd returns keys that stand in the same chain of the primary slab.
func crowd(im *image, n int) (keys []string) {
	buckets := uint64(im.main().geo.Buckets)
	for i := 0; len(keys) < n; i++ {
		key := fmt.Sprintf("k%d", i)
		if h := im.st().HashOf([]byte(key)); h&0xffffffff*buckets>>32 == 0 {
			keys = append(keys, key)
		}
	}
	return keys
}

func smallImage() *image {
	im := newImage(small)
	im.set("a", "1")
	im.set("b", "22")
	im.set("c", "")
	im.put(im.st().Key([]byte("d")), slab.Item{Value: []byte("tagged"), Tag: 7})
	im.set("b", "two") // another version, in another cell
	return im
}

// wide has room for an overflow bucket and more.
var wide = slab.Options{Entries: 24, CellSize: 64, MaxKey: 16, MaxValue: 40, Shards: 1}

func crowded() (*image, []string) {
	im := newImage(wide)
	keys := crowd(im, 9)
	for _, key := range keys {
		im.set(key, "v"+key)
	}
	return im, keys
}

func expired() *image {
	im := newImage(small)
	for _, r := range []struct {
		key    string
		expiry uint64
		stale  uint16
	}{{"never", 0, 0}, {"past", past, 0}, {"pastStale", past, 65535}, {"later", future, 0}} {
		im.put(im.st().Key([]byte(r.key)), slab.Item{Value: []byte(r.key), Expiry: r.expiry, Stale: r.stale})
	}
	return im
}

func tiered() *image {
	im := newImage(small)
	im.add(0x71, primary, 1, "tier1", small)
	for _, key := range []string{"low", "lower", "mid", "top"} {
		im.set(key, "in "+key)
	}
	im.settle(begin + 2 + layout.ClockSlackMillis)
	return im
}

func namespaced() *image {
	im := newImage(small)
	id := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	im.put(im.st().NamespaceKey([]byte("n")), slab.Item{Value: id})
	im.put(im.st().ScopedKey(append(slices.Clone(id), 'a')), slab.Item{Value: []byte("inside")})
	im.put(im.st().ScopedKey([]byte("\x11\x12\x13\x14\x15\x16\x17\x18a")), slab.Item{Value: []byte("cleared")})
	im.set("a", "outside")
	return im
}

func claimed() *image {
	im := newImage(small)
	for _, key := range []string{"loading", "failed", "shortly"} {
		_, _, won, c, err := im.st().Claim(bg, nil, im.st().Key([]byte(key)), 1<<40)
		must(err)
		if !won {
			panic(key)
		}
		im.now.Add(1)
		switch key {
		case "failed":
			must(im.st().Fail(bg, im.st().Key([]byte(key)), c.Version, "no such file", future))
		case "shortly":
			must(im.st().Fail(bg, im.st().Key([]byte(key)), c.Version, "over by now", past))
		}
		im.now.Add(1)
	}
	im.died()
	return im
}

func s3fifo() *image {
	o := wide
	o.Order = slab.S3FIFO
	im := newImage(o)
	for _, key := range []string{"a", "b", "c"} {
		im.set(key, "of "+key)
	}
	im.hit("a")
	im.hit("a")
	im.hit("b")
	// The ghost of "g".
	s := im.main()
	hash := im.st().HashOf([]byte("g"))
	at := s.at.shard + s.at.ghosts + hash>>32*uint64(s.geo.Ghosts)>>32*16
	shm.At[layout.Uint64](s.seg.Window(), at).Store(hash >> 16 & 0xffff)
	return im
}

func independent() *image {
	im := smallImage()
	s := im.add(0x7a, 0x7a, 0, "other", small)
	key := s.stackOf.Key([]byte("a"))
	_, _, err := s.stackOf.Put(bg, key, &slab.Item{Value: []byte("the other a")}, slab.Anyhow)
	must(err)
	return im
}

func counters() *image {
	im := newImage(small)
	le := binary.LittleEndian
	im.put(im.st().Key([]byte("n")), slab.Item{Value: le.AppendUint64(nil, 41), Expiry: future, Stale: 9, Tag: 7})
	im.put(im.st().Key([]byte("most")), slab.Item{Value: le.AppendUint64(nil, math.MaxInt64)})
	im.put(im.st().Key([]byte("past")), slab.Item{Value: le.AppendUint64(nil, 5), Expiry: past})
	im.set("text", "no counter")
	return im
}

// full is a slab with as many records as fit.
func full(policy slab.Policy, order slab.Order) func() *image {
	return func() *image {
		o := small
		o.OnFull, o.Order = policy, order
		im := newImage(o)
		for i := range im.main().geo.Capacity {
			im.set(string(rune('a'+i)), "1")
		}
		return im
	}
}

func fullTiers() *image {
	im := newImage(small)
	im.add(0x71, primary, 1, "tier1", small)
	for i := range 2 * im.main().geo.Capacity {
		im.set(string(rune('a'+i)), "1")
	}
	return im
}

func sharded() *image {
	o := small
	o.Shards, o.Entries = 4, 16
	im := newImage(o)
	for i := range 9 {
		im.set(string(rune('a'+i)), "1")
	}
	return im
}

// sound are images at rest.
func sound() []plan {
	_, keys := crowded()
	crowdPeeks := peeks(append(slices.Clone(keys), "k")...)
	return []plan{
		{
			name: "empty", about: "A domain whose slab nobody has written to.", clauses: "5 Control segment; 6 Slab; 8 Opening; 13 Lookup",
			make:    func() *image { return newImage(small) },
			scripts: levels(script(append(peeks("a"), "entries", "evict 18446744073709551615 9", "set 61 31", "get 61")...), peeks("a")...),
		},
		{
			name: "small", about: "Five writes of four keys: an empty value, a user tag, and a replacement, whose old cell is free.",
			clauses: "6 Records; 13 Lookup; 14 Set; 16 Cutoff eviction",
			make:    smallImage,
			scripts: levels(script(append(peeks("a", "b", "c", "d", "e"), "batch 61 62 65",
				// Stamps are from 1000 on; the cutoff is lowered by ClockSlackMillis.
				"evict 1000 9", "evict 1032 1", "dump", "evicttag 7", "dump", "add 61 78", "add 62 78", "cas 62 5120 79", "dump")...), peeks("a", "b", "c", "d", "e")...),
		},
		{
			name: "chained", about: "Values in chains of cells, and a free list of one that was replaced.", clauses: "6 Records; 14 Set; 14 Free",
			make: func() *image {
				im := newImage(small)
				im.set("one", long)
				im.set("two", long[:60])
				im.set("one", long[:16])
				return im
			},
			scripts: levels(script(append(peeks("one", "two"), "set 33 "+k(long), "dump", "del 33", "dump")...), peeks("one", "two")...),
		},
		{
			name: "overflow", about: "Nine keys of one bucket: seven stand in it and two in an overflow bucket.", clauses: "6 Index; 13 Lookup; 14 Delete",
			make: func() *image { im, _ := crowded(); return im },
			scripts: levels(script(append(slices.Clone(crowdPeeks), "del "+k(keys[0]), "peek "+k(keys[8]), "del "+k(keys[8]), "del "+k(keys[7]),
				"dump", "set "+k(keys[0])+" 31")...), crowdPeeks...),
		},
		{
			name: "expired", about: "Records that expired in 1970, one of which may be served as stale for 65,535 s, which are over; one without expiry; one of the year 8000.",
			clauses: "6 Expiry and user tag; 13 Lookup; 18 Time", make: expired,
			scripts: levels(script(append(peeks("never", "past", "pastStale", "later"), "stale "+k("pastStale"), "stale "+k("later"),
				"touch "+k("past")+" 0", "touch "+k("never")+" 190288396800001", "add "+k("past")+" 31", "dump")...), peeks("never", "past", "pastStale", "later")...),
		},
		{
			name: "byhash", about: "A record whose key is the application's hash, and one with the same eight bytes as plain key.", clauses: "6 Hash; 6 Record flags",
			make: func() *image {
				im := newImage(small)
				im.put(im.st().HashKey(0x1122334455667788, new([8]byte)), slab.Item{Value: []byte("by hash")})
				im.set("\x88\x77\x66\x55\x44\x33\x22\x11", "by bytes")
				return im
			},
			scripts: levels(script("peek #1122334455667788", "peek 8877665544332211", "peek #1122334455667789"),
				"peek #1122334455667788", "peek 8877665544332211", "peek #1122334455667789"),
		},
		{
			name: "namespace", about: "The id of namespace n, a record in it, one in a namespace that was cleared, and a plain one of the same key.",
			clauses: "6 Record flags; 14 Namespaces", make: namespaced,
			scripts: levels(script("peek @6e/61", "peek 61", "peek @6f/61", "clearns 6e", "peek @6e/61", "clearns 6e"), "peek @6e/61", "peek 61", "peek @6f/61"),
		},
		{
			name: "claimed", about: "Claims: of a process that is dead, though its deadline is far; a failed one that holds for all until the year 8000; a failed one whose time is over.",
			clauses: "15 Judging; 15 Claim; 9 Reap", make: claimed,
			scripts: levels(script(append(peeks("loading", "failed", "shortly"),
				"scan", "stat", "check", "dump", "claim "+k("failed")+" 60000",
				"claim "+k("loading")+" 60000", "claim "+k("loading")+" 60000", "dump", "fill "+k("loading")+" 6144 31", "peek "+k("loading"),
				"claim "+k("shortly")+" 60000", "release "+k("shortly")+" 8192", "release "+k("shortly")+" 8192", "set "+k("failed")+" 32",
			)...), peeks("loading", "failed", "shortly")...),
		},
		{
			name: "s3fifo", about: "The s3fifo order: a and b were used in the small queue, c was not; the key g has left a ghost.",
			clauses: "6 Order (s3fifo); 6 Ghosts", make: s3fifo,
			scripts: levels(script(append(peeks("a", "b", "c", "g"), "dump", "get 63", "set 67 31", "dump", "set 62 32", "dump")...), peeks("a", "b", "c", "g")...),
		},
		{
			name: "tiers", about: "A stack of two tiers: low and lower have moved down.", clauses: "20 Tiers; 20 Moves; 13 Lookup",
			make: tiered,
			scripts: levels(script(append(peeks("low", "lower", "mid", "top"), "get "+k("mid"), "dump", "get "+k("lower"), "dump",
				"del "+k("lower"), "set "+k("low")+" 31", "dump", "age 0 1 1034 1", "dump", "peek "+k("top"))...), peeks("low", "lower", "mid", "top")...),
		},
		{
			name: "counters", about: "Counters: one with expiry and tag, one that can be no larger, one that has expired; and a text.", clauses: "14 Counters",
			make: counters,
			scripts: levels(script("incr "+k("n")+" -2", "peek "+k("n"), "incr "+k("most")+" 1", "incr "+k("past")+" 1 initial=100", "peek "+k("past"),
				"incr "+k("text")+" 1", "incr "+k("fresh")+" 2 initial=-5", "dump"), peeks("n", "most", "past", "text")...),
		},
		{
			name: "full-evict", about: "A full slab in the lru order: what was not used for longest makes room.", clauses: "14 Make room; 6 Order (lru)",
			make: full(slab.Evict, slab.LRU), scripts: levels(script(append(peeks("a", "h"), "set 7a 31", "dump", "set 7a "+k(long[:40]), "dump", "set 79 "+k(long), "dump")...), peeks("a", "h")...),
		},
		{
			name: "full-s3fifo", about: "A full slab in the s3fifo order: the oldest of the small queue makes room, and leaves a ghost, by which it comes back to the main queue.",
			clauses: "14 Make room; 6 Order (s3fifo); 6 Ghosts",
			make:    full(slab.Evict, slab.S3FIFO), scripts: levels(script(append(peeks("a", "h"), "set 7a 31", "dump", "set 61 32", "dump", "set 79 31", "dump")...), peeks("a", "h")...),
		},
		{
			name: "full-refuse", about: "A full slab that refuses: what is there can be replaced, and nothing is added.", clauses: "14 Make room; 21 Errors",
			make: full(slab.Refuse, slab.LRU), scripts: levels(script(append(peeks("a", "h"), "set 7a 31", "set 61 32", "add 79 31", "claim 79 60000", "del 62", "set 7a 31", "dump")...), peeks("a", "h")...),
		},
		{
			name: "full-tiers", about: "Two full tiers: what makes room above goes down, and what makes room below is evicted.", clauses: "14 Make room; 20 Moves",
			make: fullTiers, scripts: levels(script("get 62", "dump", "set 7a 31", "dump"), peeks("a", "b", "p")...),
		},
		{
			name: "shards", about: "Four shards: the hash says which has a key.", clauses: "6 Hash; 13 Scan; 17 Rebuild",
			make: sharded, scripts: levels(script(append(peeks("a", "b", "c", "d", "e", "f", "g", "h", "i"), "set 6a 31", "del 61", "dump")...), peeks("a", "i", "j")...),
		},
		{
			name: "draining", about: "Tier 1 is being drained: it is read, and takes nothing; whoever goes on with it empties and retires it.",
			clauses: "10 Draining a segment; 20 Draining",
			make: func() *image {
				im := tiered()
				im.entry(1).State.Store(1<<layout.EntryDrainsShift | layout.EntryDraining)
				return im
			},
			scripts: levels(script(append(peeks("low", "lower", "mid", "top"), "entries", "age 0 1 99999999 9 => err full | ok 0",
				"drain 1", "refresh")...), peeks("low", "lower", "mid", "top")...),
		},
		{
			name: "independent", about: "An independent slab beside the primary one, with a key of the same bytes.", clauses: "10 Slabs of a domain; 20 Moves between stacks",
			make: independent,
			scripts: levels(script(append(peeks("a"),
				"entries", "close", openIt+" slab=6f74686572", "peek 61", "scan", "dump",
				"close", openIt, "move 6f74686572 - 9", "peek 61", "dump", "retire 6f74686572",
				"close", openIt+" slab=6f74686572 => err noslab", openIt, "peek 61",
			)...), peeks("a")...),
		},
	}
}
