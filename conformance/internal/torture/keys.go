package torture

import (
	"fmt"
	"strings"
	"sync"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// family is a kind of key.
type family uint8

// The families up to nomad have one writer for each key, the process in the key's slot.
const (
	own     family = iota // they stay
	named                 // they stay, in a namespace
	timed                 // they expire
	tagged                // they are evicted by tag
	pond                  // they may be evicted, for room too, and cleared
	cleared               // as pond, in a namespace that is cleared
	nomad                 // they are set in one slab and moved to another
	counter               // from here on all write all of them
	chain
	claimed
	families
)

// place is a slab that a handle is opened with.
type place uint8

const (
	primary place = iota
	ponds
	west
	east
	places
)

var placeNames = [places]string{"primary", "pond", "west", "east"}

var traits = [families]struct {
	name      string
	keys      int // of each slot, or of all
	place     place
	namespace string
	vanishes  bool // others remove them: a miss says nothing
	ages      bool // an older value may come back, and with another version
}{
	own:     {name: "own", keys: 24},
	named:   {name: "named", keys: 8, namespace: "stays"},
	timed:   {name: "timed", keys: 8},
	tagged:  {name: "tagged", keys: 8},
	pond:    {name: "pond", keys: 32, place: ponds, vanishes: true},
	cleared: {name: "cleared", keys: 8, place: ponds, namespace: "goes", vanishes: true},
	nomad:   {name: "nomad", keys: 12, place: west, vanishes: true, ages: true},
	counter: {name: "counter", keys: 16},
	chain:   {name: "chain", keys: 8},
	claimed: {name: "claimed", keys: 24},
}

// tags of tagged keys are 1 to tags.
const tags = 4

// subject is a key, and all that is known of it.
type subject struct {
	family  family
	slot, n int
	id      uint64
	key     string // its bytes, in a namespace without the id
	word    string // as commands name it
	tag     uint64 // that its records have

	mu        sync.Mutex
	writes    []*write // that a lookup may still tell of, see register.go
	number    uint64   // of the last write that was begun
	pruneFrom int      // how many writes there are when it is worth while
	claims    []*claim
	enders    int // commands under way that end claims
	count     count
	links     links
	west      bool // of a nomad: it was there in the end
	notes     notes
}

func (s *subject) String() string {
	if s.family < counter {
		return fmt.Sprintf("%s-%d-%d", traits[s.family].name, s.slot, s.n)
	}
	return fmt.Sprintf("%s-%d", traits[s.family].name, s.n)
}

// newSubject makes a key. Every fifth is longer than a cell.
func newSubject(f family, slot, n int, id uint64) *subject {
	s := &subject{family: f, slot: slot, n: n, id: id}
	s.key = s.String()
	if n%5 == 4 {
		s.key += strings.Repeat("-", 120)
	}
	s.word = testee.Hex(s.key)
	if ns := traits[f].namespace; ns != "" {
		s.word = "@" + testee.Hex(ns) + "/" + s.word
	}
	if f == tagged {
		s.tag = uint64(1 + n%tags)
	}
	s.links.of = map[uint64]uint64{}
	s.writes = []*write{{event: event{sent: -1, done: -1}, absent: true, certain: true}} // it begins with nothing
	return s
}

// subjects are all keys of a run.
type subjects struct {
	by  [families][][]*subject // by slot, which is 0 where all write all
	all map[string]*subject    // by their bytes
}

func newSubjects(slots int) *subjects {
	k := &subjects{all: map[string]*subject{}}
	for f := range families {
		of := slots
		if f >= counter {
			of = 1
		}
		for slot := range of {
			var some []*subject
			for n := range traits[f].keys {
				s := newSubject(f, slot, n, uint64(len(k.all)+1))
				some, k.all[s.key] = append(some, s), s
			}
			k.by[f] = append(k.by[f], some)
		}
	}
	return k
}

// scanned returns the subject of a scanned key: one in a namespace has an id before it.
func (k *subjects) scanned(key []byte) *subject {
	if s := k.all[string(key)]; s != nil && traits[s.family].namespace == "" {
		return s
	}
	if len(key) > 8 {
		if s := k.all[string(key[8:])]; s != nil && traits[s.family].namespace != "" {
			return s
		}
	}
	return nil
}
