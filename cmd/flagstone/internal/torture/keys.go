package torture

import (
	"fmt"
	"strings"
)

// family is a kind of key.
type family uint8

// The first ones have one writer for each key, the process in the key's slot.
const (
	own      family = iota // they stay
	named                  // they stay, in a namespace
	nomad                  // they are set in one slab and moved to another, never missing, but perhaps older
	tagged                 // they may be evicted by tag, or expire
	pond                   // they may be evicted, for room too
	families               // that have one writer

	counter family = iota - 1 // from here on all write all of them
	chain
	loaded
	allFamilies
)

var familyTraits = [allFamilies]struct {
	name     string
	keys     int  // of each slot, or of all
	vanishes bool // others remove them: a miss says nothing
	ages     bool // an older value may come back: Cache.Move says when
	deletes  bool // some of its writes are deletions
}{
	own:     {name: "own", keys: 32, deletes: true},
	named:   {name: "named", keys: 16, deletes: true},
	nomad:   {name: "nomad", keys: 16, ages: true},
	tagged:  {name: "tagged", keys: 32, vanishes: true},
	pond:    {name: "pond", keys: mostKeys, vanishes: true},
	counter: {name: "counter", keys: counters},
	chain:   {name: "chain", keys: chains},
	loaded:  {name: "loaded", keys: loads, vanishes: true},
}

// key is one of the keys of a run; slot is 0 where there is no one writer.
type key struct {
	family family
	slot   int
	n      int
}

// id is the key in a number, never 0.
func (k key) id() uint64 { return uint64(k.family+1)<<32 | uint64(k.slot)<<16 | uint64(k.n) }

func keyOf(id uint64) key { return key{family(id>>32) - 1, int(id >> 16 & 0xffff), int(id & 0xffff)} }

// none is the key of operations without one.
var none = keyOf(0)

func (k key) String() string {
	if k.family >= allFamilies {
		return "-"
	}
	return fmt.Sprintf("%s-%d-%d", familyTraits[k.family].name, k.slot, k.n)
}

// bytes is the key in the cache. Every fifth is longer than a cell.
func (k key) bytes() []byte {
	s := k.String()
	if k.n%5 == 4 {
		s += strings.Repeat("-", 120)
	}
	return []byte(s)
}

// absent reports whether, after that write, there is nothing under the key. What a write
// does follows from its number, so that one number says all.
func (k key) absent(number uint64) bool {
	return number == 0 || familyTraits[k.family].deletes && mix(k.id()<<32^number)%5 == 0
}

// floor is the word of a key with one writer.
func (l *ledger) floor(k key) uint64 { return l.Floors[k.family][k.slot][k.n].Load() }

// judge compares what a lookup of a key with one writer found with what it may: floor
// was loaded before the lookup. It returns what is wrong.
func (l *ledger) judge(k key, found []byte, ok bool, floor uint64) (wrong string) {
	traits := familyTraits[k.family]
	word := &l.Floors[k.family][k.slot][k.n]
	if !ok {
		if traits.vanishes {
			return ""
		}
		last := word.Load() + 1
		for number := floor; number <= last; number++ {
			if k.absent(number) {
				raise(word, number)
				return ""
			}
		}
		return fmt.Sprintf("missing: write %d was acknowledged or seen before, and none from there to %d deletes", floor, last)
	}
	v, wrong := parse(found)
	last := word.Load() + 1
	switch {
	case wrong != "":
		return wrong
	case v.id != k.id():
		return fmt.Sprintf("another key's: number %d of %s", v.number, keyOf(v.id))
	case v.number < floor && !traits.ages:
		return fmt.Sprintf("older: number %d, though %d was acknowledged or seen before", v.number, floor)
	case v.number > last || k.absent(v.number):
		return fmt.Sprintf("never written: number %d, the last that can be is %d", v.number, last)
	}
	raise(word, v.number)
	return ""
}
