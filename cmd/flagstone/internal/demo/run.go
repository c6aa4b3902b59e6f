package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// way is how the job is done.
type way string

const (
	noCache       way = "no cache"
	privateMaps   way = "private maps"
	withFlagstone way = "flagstone"
)

// Workers do the job side by side; worker 0 is the victim of the third way.
const (
	workers = 4
	victim  = 0
)

// outcome is what one way took and gave.
type outcome struct {
	Way          way           `json:"way"`
	Wall         time.Duration `json:"wall_ns"`
	CPU          time.Duration `json:"cpu_ns"`
	Needs        int           `json:"needs"`        // summaries that were needed, by the roots that were completed
	Computations int           `json:"computations"` // the victim's included
	Duplicates   int           `json:"duplicates"`   // computations beyond one for each package
	PeakRSS      int64         `json:"peak_rss_bytes"`
	Processes    int           `json:"processes"`
	digests      [workers]map[string]string
	survivors    waits // the longest of all that were not killed
	death        *death
	replacement  int // the pid of the victim's successor
}

// child is a worker process, seen from the parent.
type child struct {
	slot     int
	cmd      *exec.Cmd
	stdin    io.Closer
	to       *sender
	computed int
	survivor bool // it was there before the kill and is not the victim
	finished bool
	reported bool
}

// happening is an event, or the end, of a child.
type happening struct {
	*child
	event
	ended bool
	err   error // of the exit, or of its words
}

// assignment is what a crew is to do.
type assignment struct {
	exe   []string          // how to start a worker
	job   job               // what they have in common
	roots [workers][]string // of each worker, in its order
	cache *flagstone.Cache  // watched for the kill; nil if nobody is to die
	early int               // computations of the victim before that
	tell  func(done, computed int)
}

// crew is the workers of one way at work.
type crew struct {
	assignment
	happens chan happening
	deaths  chan death
	hunt    sync.WaitGroup
	running int
	starts  int            // workers that must be ready before any starts
	at      map[int]*child // by slot
	corpse  bool           // the victim has ended
	began   time.Time
	out     outcome
}

// run does the job one way. Every process it started has ended when it returns.
func (a assignment) run(ctx context.Context) (outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &crew{
		assignment: a, happens: make(chan happening), deaths: make(chan death, 1),
		starts: workers, at: map[int]*child{}, out: outcome{Way: a.job.Way},
	}
	defer func() {
		cancel() // kills who still runs
		for c.running > 0 {
			if (<-c.happens).ended {
				c.running--
			}
		}
		c.hunt.Wait()
	}()
	for slot := range workers {
		c.out.digests[slot] = map[string]string{}
		if err := c.start(ctx, slot, c.roots[slot], c.cache != nil && slot == victim); err != nil {
			return c.out, err
		}
	}
	for c.running > 0 {
		var err error
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case d := <-c.deaths:
			err = c.died(ctx, d)
		case h := <-c.happens:
			err = c.handle(ctx, h)
		}
		if err != nil {
			return c.out, err
		}
	}
	return c.out, nil
}

// spawn starts a process, whose words go to a channel.
func spawn(ctx context.Context, exe []string, slot int, to chan<- happening) (*child, error) {
	cmd := exec.CommandContext(ctx, exe[0], exe[1:]...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start worker %d: %w", slot, err)
	}
	w := &child{slot: slot, cmd: cmd, stdin: stdin, to: newSender(stdin)}
	go w.listen(stdout, to)
	return w, nil
}

// start starts a worker in a slot and gives it its job.
func (c *crew) start(ctx context.Context, slot int, roots []string, dies bool) error {
	w, err := spawn(ctx, c.exe, slot, c.happens)
	if err != nil {
		return err
	}
	c.running++
	c.out.Processes++
	c.at[slot] = w

	j := c.job
	j.Worker, j.Roots = slot, roots
	if dies {
		j.Archive = c.early
	}
	return w.to.send(order{Job: &j})
}

// listen passes on what the child says, and at last that it ended.
func (w *child) listen(stdout io.Reader, to chan<- happening) {
	words := json.NewDecoder(stdout)
	var err error
	for {
		var e event
		if err = words.Decode(&e); err != nil {
			break
		}
		to <- happening{child: w, event: e}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // cut off by the kill, or the exit says it
	}
	_, _ = io.Copy(io.Discard, stdout)
	to <- happening{child: w, ended: true, err: errors.Join(err, w.cmd.Wait())}
}

func (c *crew) handle(ctx context.Context, h happening) error {
	switch {
	case h.ended:
		return c.ended(ctx, h)
	case h.Error != "":
		return fmt.Errorf("worker %d: %s", h.slot, h.Error)
	case h.Ready:
		return c.ready(h.child)
	case h.Computed != 0:
		c.out.Computations += h.Computed - h.computed
		h.computed = h.Computed
	case h.Root != nil:
		c.out.digests[h.slot][h.Root.Path] = h.Root.Digest
		c.out.Needs += h.Root.Needs
	case h.Archiving:
		c.hunt.Go(func() { c.deaths <- killHolder(ctx, c.cache, h.cmd.Process) })
	case h.Finished:
		h.finished = true
		return c.goodbye()
	case h.Report != nil:
		h.reported = true
		if h.survivor {
			c.out.survivors.add(h.Report.Waits)
		}
	}
	done := 0
	for _, d := range c.out.digests {
		done += len(d)
	}
	c.tell(done, c.out.Computations)
	return nil
}

// ready starts all workers together once the last one is ready, and one that
// comes later at once.
func (c *crew) ready(w *child) error {
	if c.starts--; c.starts > 0 {
		return nil
	}
	if c.starts < 0 {
		return w.to.send(order{Start: true})
	}
	c.began = time.Now()
	for _, w := range c.at {
		if err := w.to.send(order{Start: true}); err != nil {
			return fmt.Errorf("start worker %d: %w", w.slot, err)
		}
	}
	return nil
}

// goodbye ends the workers when all have finished.
func (c *crew) goodbye() error {
	for _, w := range c.at {
		if !w.finished {
			return nil
		}
	}
	c.out.Wall = time.Since(c.began)
	for _, w := range c.at {
		if err := w.stdin.Close(); err != nil {
			return fmt.Errorf("end worker %d: %w", w.slot, err)
		}
	}
	return nil
}

// add keeps the longest waits and the first of the first sets.
func (w *waits) add(v waits) {
	w.Before, w.After = w.Before.add(v.Before), w.After.add(v.After)
	if v.FirstSet != 0 && (w.FirstSet == 0 || v.FirstSet < w.FirstSet) {
		w.FirstSet = v.FirstSet
	}
}

// died tells the survivors.
func (c *crew) died(ctx context.Context, d death) error {
	if d.err != nil {
		return d.err
	}
	c.out.death = &d
	for slot, w := range c.at {
		if w.survivor = slot != victim; w.survivor {
			if err := w.to.send(order{Killed: &d.killed}); err != nil {
				return fmt.Errorf("tell worker %d: %w", slot, err)
			}
		}
	}
	return c.replace(ctx)
}

// ended takes note of a child's end. Only the victim may end without a report.
func (c *crew) ended(ctx context.Context, h happening) error {
	c.running--
	state := h.cmd.ProcessState
	c.out.CPU += state.UserTime() + state.SystemTime()
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		c.out.PeakRSS = max(c.out.PeakRSS, usage.Maxrss<<10)
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case h.reported && h.err == nil:
		return nil
	case c.cache != nil && h.slot == victim && !c.corpse && ok && status.Signal() == syscall.SIGKILL:
		c.corpse = true
		return c.replace(ctx)
	}
	return fmt.Errorf("worker %d ended early: %s: %w", h.slot, state, errors.Join(h.err, errEarly))
}

// errEarly says that a worker ended without its last word.
var errEarly = errors.New("no report")

// replace starts the victim's successor once the victim is known to be dead, and
// how it died.
func (c *crew) replace(ctx context.Context) error {
	if c.out.death == nil || !c.corpse {
		return nil
	}
	if err := c.start(ctx, victim, c.left(), false); err != nil {
		return err
	}
	c.out.replacement = c.at[victim].cmd.Process.Pid
	return nil
}

// left returns the victim's roots that it has not done.
func (c *crew) left() []string {
	return slices.DeleteFunc(slices.Clone(c.roots[victim]), func(root string) bool {
		_, done := c.out.digests[victim][root]
		return done
	})
}

// equal reports whether two ways gave the same results to every worker.
func (o *outcome) equal(other *outcome) bool {
	for slot := range o.digests {
		if !maps.Equal(o.digests[slot], other.digests[slot]) {
			return false
		}
	}
	return true
}
