package demo

import (
	"encoding/json"
	"io"
	"sync"
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

type order struct {
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
