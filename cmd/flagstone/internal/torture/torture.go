// Package torture lets processes work on a cache with values that verify themselves,
// while it kills, stops and execs them at random, and judges by their journals what must
// be there.
//
// The parent (crew.go) starts the processes, disturbs them, and in the end looks at
// what is left (verdict.go). A process (process.go) is a worker or a meddler. What all
// know of each other stands in the ledger, and what a process does in its journal: both
// are mapped files, so that they outlast SIGKILL at any instruction.
package torture

import "time"

// Options are what the command line says.
type Options struct {
	Dir      string // where the domain and the journals are made
	Procs    int    // 1 to MaxProcs
	Time     time.Duration
	Kills    float64 // per second
	Seed     uint64
	Command  []string // starts a process, with its Spec in JSON as one more argument
	Sabotage string   // "forget", "tear" or "exec": something wrong that must be found, for tests
	Progress func(elapsed time.Duration, ops, kills uint64)
}

// Report is what came of it.
type Report struct {
	Seed       uint64            `json:"seed"`
	Procs      int               `json:"procs"`
	Seconds    float64           `json:"seconds"`
	Processes  uint64            `json:"processes"` // started, execs in place not counted
	Operations map[string]uint64 `json:"operations"`
	Total      uint64            `json:"operations_total"`
	Busy       uint64            `json:"busy"`    // operations that gave up at their deadline, or lookups within their bound
	Refused    uint64            `json:"refused"` // ErrFull, ErrRetired and the like, where they may occur
	Kills      uint64            `json:"kills"`
	Stops      uint64            `json:"stops"`
	Holders    uint64            `json:"stops_of_holders"` // of processes that held a lock, or may have
	Execs      uint64            `json:"execs"`            // in place
	Children   uint64            `json:"children"`         // forked and exec'ed by processes of the run
	Steals     uint64            `json:"steals"`
	Rebuilds   uint64            `json:"rebuilds"`
	Dropped    uint64            `json:"dropped"` // records given up as damaged
	Longest    Wait              `json:"longest_wait"`
	Stopped    Wait              `json:"longest_wait_holder_stopped"`
	Overdue    Wait              `json:"longest_past_deadline"`
	Violations uint64            `json:"violations_total"`
	First      []Violation       `json:"violations"`
	Kept       string            `json:"kept,omitempty"` // where the journals are; after violations only
	Name       string            `json:"name"`           // of the domain
}

// Wait is how long an operation took, less what its process was held up itself.
type Wait struct {
	Operation string        `json:"operation,omitempty"`
	Time      time.Duration `json:"ns"`
}

// Violation is something that must not be.
type Violation struct {
	At    float64  `json:"at"` // seconds since the run began
	Slot  int      `json:"slot"`
	Life  string   `json:"life"` // which process in that slot, and which exec of it
	Op    string   `json:"operation,omitempty"`
	Key   string   `json:"key,omitempty"`
	What  string   `json:"what"`
	Trace []string `json:"trace,omitempty"` // the process's last operations
}
