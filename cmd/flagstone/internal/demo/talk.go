package demo

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

// Parent and workers talk in JSON lines over the worker's stdin and stdout:
//
//	parent                 worker
//	order.Job        ->
//	                 <-    event.Ready
//	order.Start      ->                  when all are ready
//	                 <-    event.Computed, event.Root ...
//	                 <-    event.Archiving               the victim only
//	order.Killed     ->                  to the survivors
//	                 <-    event.Finished
//	end of input     ->                  when all have finished
//	                 <-    event.Report, exit
//
// An end of input before Finished means that the parent is gone.
//
// In the second act:
//
//	parent                 reader, or candidate for steward
//	order.Part       ->
//	                 <-    event.Ready
//	order.Reach      ->                  to readers: the keys that must be there
//	                 <-    event.Reached when no lookup goes beyond them any more
//	                 <-    event.Heard   of a slab that came or went
//	end of input     ->
//	                 <-    event.Tally of readers, exit

type order struct {
	Part   *part   `json:"part,omitempty"`
	Reach  *int    `json:"reach,omitempty"` // the first so many blocks
	Job    *job    `json:"job,omitempty"`
	Start  bool    `json:"start,omitempty"`
	Killed *killed `json:"killed,omitempty"`
}

// job is what one worker has to do.
type job struct {
	GOROOT  string   `json:"goroot"`
	Way     way      `json:"way"`
	Dir     string   `json:"dir,omitempty"`
	Domain  string   `json:"domain,omitempty"`
	Worker  int      `json:"worker"`
	Seed    uint64   `json:"seed"`
	Roots   []string `json:"roots"`             // in the worker's own order
	Archive int      `json:"archive,omitempty"` // the victim's computations before it turns to that
}

// killed says when the victim was killed and which lock it held.
type killed struct {
	At    int64 `json:"at"`
	Shard int   `json:"shard"`
}

type event struct {
	Ready     bool    `json:"ready,omitempty"`
	Computed  int     `json:"computed,omitempty"` // so far
	Root      *result `json:"root,omitempty"`
	Archiving bool    `json:"archiving,omitempty"`
	Finished  bool    `json:"finished,omitempty"`
	Report    *report `json:"report,omitempty"`
	Error     string  `json:"error,omitempty"`

	Reached *int   `json:"reached,omitempty"`
	Heard   *heard `json:"heard,omitempty"`
	Tally   *tally `json:"tally,omitempty"`
}

// part is what a process of the second act has to do.
type part struct {
	GOROOT  string   `json:"goroot,omitempty"`
	Dir     string   `json:"dir"`
	Domain  string   `json:"domain"`
	Steward bool     `json:"steward,omitempty"` // else a reader
	Hears   hears    `json:"hears,omitempty"`   // of readers: how it is to hear of changes
	Seed    uint64   `json:"seed,omitempty"`
	Paths   []string `json:"paths,omitempty"` // packages whose text is the input
	Blocks  int      `json:"blocks,omitempty"`
}

// heard is what a process heard of a slab.
type heard struct {
	Slab string `json:"slab"`
	Gone bool   `json:"gone,omitempty"` // else it came
	How  string `json:"how"`            // flagstone.How
	At   int64  `json:"at"`             // see now
}

// tally is what a reader's lookups of keys that must be there came to.
type tally struct {
	Hits    uint64        `json:"hits"`
	Misses  uint64        `json:"misses"`
	Wrong   uint64        `json:"wrong"`           // values that were not what was stored
	Busy    uint64        `json:"busy"`            // lookups that had to be tried again
	Below   uint64        `json:"below"`           // hits in a tier below the first
	Slowest time.Duration `json:"slowest_ns"`      // with its tries
	First   string        `json:"first,omitempty"` // key that was missed or wrong
}

// result is a root and all it imports, done.
type result struct {
	Path   string `json:"path"`
	Digest string `json:"digest"`
	Needs  int    `json:"needs"` // summaries that were needed
}

// report is a worker's last word.
type report struct {
	Waits waits `json:"waits"`
}

// sender writes JSON lines. Its methods may be called concurrently.
type sender struct {
	mu sync.Mutex // guards e
	e  *json.Encoder
}

func newSender(w io.Writer) *sender { return &sender{e: json.NewEncoder(w)} }

func (s *sender) send(v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.e.Encode(v)
}
