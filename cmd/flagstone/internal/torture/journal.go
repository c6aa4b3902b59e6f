package torture

import (
	"fmt"
	"sync/atomic"
	"time"
)

// operation is a kind of what processes do.
type operation uint8

const (
	opOpen operation = iota
	opClose
	opRead
	opReadBatch
	opScan
	opLook
	opWrite
	opDelete
	opWriteBatch
	opTouch
	opIncrement
	opSwap
	opLoad
	opPrivate
	opExec
	opChild
	opGrow
	opDrain
	opMove
	opEvict
	opSlab
	opLead
	opCheck
	opRebuild
	operations
)

var operationNames = [operations]string{
	"open", "close", "read", "read batch", "scan", "look", "write", "delete", "write batch", "touch",
	"increment", "swap", "load", "private", "exec", "child", "grow", "drain", "move", "evict", "slab",
	"lead", "check", "rebuild",
}

func (o operation) String() string { return operationNames[o] }

// holds reports whether others may have to wait for a process inside, though it holds
// no shard's lock: it opens, makes or removes a slab, leads, or computes a value.
func (o operation) holds() bool {
	switch o {
	case opOpen, opClose, opLoad, opGrow, opDrain, opMove, opSlab, opLead:
		return true
	}
	return false
}

// journal is what a slot's processes have done, in shared memory of its own file.
type journal struct {
	Life, Pid atomic.Uint64

	// The operation under way: which + 1, since when, and when its wait has to end.
	Inside, Began, Deadline atomic.Uint64

	Operations [operations]atomic.Uint64
	Busy       atomic.Uint64
	Refused    atomic.Uint64

	Longest, Stopped, Overdue longest

	Written atomic.Uint64 // entries so far
	Ring    [1024]entry   // the last ones
}

// entry is an operation, and its parts.
type entry struct {
	Began, Took atomic.Uint64 // Took is 0 until it is over
	Key, Number atomic.Uint64
	What        atomic.Uint64 // operation, life << 8, outcome << 56
}

// Outcomes.
const (
	underWay = iota
	done
	missed
	busy
	refused
	failed
)

// longest is the longest wait of a kind.
type longest struct {
	Time, Operation atomic.Uint64
}

func (l *longest) note(d time.Duration, op operation) {
	if d > 0 && uint64(d) > l.Time.Load() {
		l.Time.Store(uint64(d))
		l.Operation.Store(uint64(op))
	}
}

func (l *longest) wait() Wait {
	w := Wait{Time: time.Duration(l.Time.Load())}
	if w.Time != 0 {
		w.Operation = operation(l.Operation.Load() % uint64(operations)).String()
	}
	return w
}

// begin notes what is about to be done: before it, so that it is known of who dies.
func (j *journal) begin(life uint64, op operation, k key, number, at uint64) *entry {
	e := &j.Ring[j.Written.Add(1)%uint64(len(j.Ring))]
	e.Took.Store(0)
	e.What.Store(uint64(op) | life<<8&(1<<56-1))
	e.Key.Store(k.id())
	e.Number.Store(number)
	e.Began.Store(at)
	return e
}

func (e *entry) end(outcome, took uint64) {
	e.What.Store(e.What.Load()&(1<<56-1) | outcome<<56)
	e.Took.Store(max(took, 1))
}

// lines returns the last entries, oldest first, those of the key only if it is not
// zero.
func (j *journal) lines(start uint64, most int, only uint64) (out []string) {
	written := j.Written.Load()
	for n := written; n > 0 && written-n < uint64(len(j.Ring)) && len(out) < most; n-- {
		e := &j.Ring[n%uint64(len(j.Ring))]
		if only == 0 || e.Key.Load() == only {
			out = append(out, e.line(start))
		}
	}
	for i, k := 0, len(out)-1; i < k; i, k = i+1, k-1 {
		out[i], out[k] = out[k], out[i]
	}
	return out
}

func (e *entry) line(start uint64) string {
	what := e.What.Load()
	outcome := [...]string{"under way", "done", "missed", "busy", "refused", "failed"}[min(what>>56, failed)]
	return fmt.Sprintf("%10.6f s, %8.3f ms  life %s  %-11s %-16s %6d  %s",
		(time.Duration(e.Began.Load() - start)).Seconds(), float64(e.Took.Load())/1e6, lifeName(what>>8&(1<<48-1)),
		operation(what&0xff%uint64(operations)), keyOf(e.Key.Load()), e.Number.Load(), outcome)
}

// A life is a process of a slot: how many were started in it, and how often this one
// has called exec.
func newLife(started uint64) uint64 { return started << 16 }

func lifeName(life uint64) string { return fmt.Sprintf("%d.%d", life>>16, life&0xffff) }
