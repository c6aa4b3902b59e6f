package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone/table"
)

// regionJSON is an open handle of some process.
type regionJSON struct {
	Region       int        `json:"region"`
	Generation   uint32     `json:"generation"`
	Pid          uint32     `json:"pid"`
	PidNamespace uint64     `json:"pid_namespace"`
	UID          uint32     `json:"uid"`
	Alive        bool       `json:"alive"`
	Quarantined  bool       `json:"quarantined"` // its process is gone, a child that it forked without exec keeps its lease
	Joined       time.Time  `json:"joined"`
	Wake         string     `json:"wake"`
	Flags        uint32     `json:"flags"`
	Acknowledged uint64     `json:"acknowledged"` // changes that it has seen
	Held         []heldJSON `json:"held"`
	Mapped       []hex      `json:"mapped"` // segment ids
}

type heldJSON struct {
	Mutex uint32 `json:"mutex"`
	Owned bool   `json:"owned"` // else waited for
}

func newRegion(r table.Region) regionJSON {
	out := regionJSON{
		Region: r.Index, Generation: r.Generation, Pid: r.Pid, PidNamespace: r.PidNamespace, UID: r.UID,
		Alive: r.Alive, Quarantined: r.Quarantined, Joined: r.Joined, Wake: r.Wake, Flags: r.Flags, Acknowledged: r.Acknowledged,
		Held: []heldJSON{}, Mapped: []hex{},
	}
	for _, h := range r.Held {
		out.Held = append(out.Held, heldJSON{h.ID, h.Owned})
	}
	for _, id := range r.Mapped {
		out.Mapped = append(out.Mapped, hex(id))
	}
	return out
}

// alive says whether its process is, or is kept in quarantine.
func (r regionJSON) alive() string {
	if r.Quarantined {
		return "kept"
	}
	return yesNo(r.Alive)
}

// held prints mutexes, those only waited for with a question mark.
func (r regionJSON) held() string {
	names := []string{}
	for _, h := range r.Held {
		name := fmt.Sprint(h.Mutex)
		if !h.Owned {
			name += "?"
		}
		names = append(names, name)
	}
	return orDash(strings.Join(names, ","))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// entryJSON is a segment in the directory.
type entryJSON struct {
	Entry      int       `json:"entry"`
	Generation uint32    `json:"generation"`
	State      string    `json:"state"`
	Kind       uint32    `json:"kind"`
	Name       string    `json:"name"`
	Tier       uint32    `json:"tier"`
	Drains     uint16    `json:"drains"` // how often it was drained, or begun to be
	Segment    hex       `json:"segment"`
	Stack      hex       `json:"stack"` // slabs: segment id of the first one of the cache; else 0
	Size       uint64    `json:"size"`  // bytes
	Mutex      uint32    `json:"mutex"`
	Created    time.Time `json:"created"`
}

func newEntry(e table.Entry) entryJSON {
	return entryJSON{
		Entry: e.Index, Generation: e.Generation, State: strings.ToLower(e.State.String()), Kind: e.Kind, Name: e.Name,
		Tier: e.Tier, Drains: e.Drains, Stack: hex(e.Stack), Segment: hex(e.SegmentID), Size: e.Size, Mutex: e.MutexID, Created: e.Created,
	}
}

// stack names the slab's stack: itself or another.
func (e entryJSON) stack() string {
	switch e.Stack {
	case 0:
		return "-"
	case e.Segment:
		return "its own"
	}
	return e.Stack.String()
}

// what names a segment in a line of text.
func (e entryJSON) what() string {
	if e.Kind == table.KindSlab {
		return fmt.Sprintf("slab %s, tier %d", plain(e.Name), e.Tier)
	}
	return fmt.Sprintf("%s %s", e.kind(), plain(e.Name))
}

// kind names the kind of a segment.
func (e entryJSON) kind() string {
	if e.Kind == table.KindSlab {
		return "slab"
	}
	return fmt.Sprintf("%#x", e.Kind)
}
