// Package hostile has processes use a cache while another one writes wrong numbers into
// all its segments, and repairs it afterwards: flagstone torture --hostile.
package hostile

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/vandal"
	"github.com/flagstone-shm/flagstone/table"
)

// Options of a run.
type Options struct {
	Dir     string
	Procs   int // that use the cache, besides the vandal
	Time    time.Duration
	Seed    uint64
	Command []string // what starts Process with a spec
}

// Report is what a run found.
type Report struct {
	Seed       uint64   `json:"seed"`
	Seconds    float64  `json:"seconds"`
	Processes  int      `json:"processes"`
	Operations int64    `json:"operations"`
	Writes     int64    `json:"writes"`   // wrong numbers
	Problems   int      `json:"problems"` // that Check found afterwards
	Remaining  []string `json:"remaining"`
	Violations []string `json:"violations"`
	Name       string   `json:"name"`           // of the cache
	Kept       bool     `json:"kept,omitempty"` // it was not destroyed, to be looked at
}

// spec is what a process is to be.
type spec struct {
	Vandal    bool
	Dir, Name string // Dir is the domain's own for a vandal
	Seed      uint64
}

// told is what it says in the end.
type told struct {
	Number          int64 // of operations or writes
	Said, Violation string
}

// Process is the main function of a run's processes. It ends with its input.
func Process(text string) error {
	var s spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return fmt.Errorf("hostile: what to be: %w", err)
	}
	signal.Ignore(os.Interrupt, syscall.SIGTERM) // the parent ends us
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // the parent closes it, or is gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var out told
	var err error
	if s.Vandal {
		out.Number, err = Ravage(ctx, s.Dir, s.Seed, vandal.Everything)
	} else {
		out.Number, out.Said, err = Work(ctx, s.Dir, s.Name, s.Seed)
	}
	if err != nil {
		out.Violation = err.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// Ravage is a vandal's life until ctx ends. Dir is the domain's own.
func Ravage(ctx context.Context, dir string, seed uint64, what vandal.What) (writes int64, err error) {
	v, err := vandal.Open(vandal.Options{Dir: dir, Seed: seed, What: what, Pause: 200 * time.Microsecond})
	if err != nil {
		return 0, err
	}
	n, err := v.Run(ctx, 0)
	return int64(n), err
}

// Run has processes work beside a vandal, then repairs the cache and uses it.
func Run(ctx context.Context, o Options) (r Report, err error) {
	r = Report{Seed: o.Seed, Processes: o.Procs + 1, Remaining: []string{}, Violations: []string{}, Name: fmt.Sprintf("torture-%08x", rand.Uint32())}
	first, err := flagstone.Open(ctx, r.Name, Cache(o.Dir))
	if err != nil {
		return r, err
	}
	segments := first.Table().Dir()
	if err := first.Close(); err != nil {
		return r, err
	}
	began := time.Now()
	var all []*child
	defer func() {
		for _, c := range all {
			c.kill()
		}
	}()
	for i := range o.Procs + 1 {
		s := spec{Dir: o.Dir, Name: r.Name, Seed: o.Seed + uint64(i)}
		if i == o.Procs {
			s.Vandal, s.Dir = true, segments
		}
		c, err := begin(o.Command, s)
		if err != nil {
			return r, err
		}
		all = append(all, c)
	}
	select {
	case <-time.After(o.Time):
	case <-ctx.Done():
	}
	for i := len(all) - 1; i >= 0; i-- { // the vandal first
		said, violation := all[i].end()
		if violation != "" {
			r.Violations = append(r.Violations, violation)
		}
		if i == o.Procs {
			r.Writes = said.Number
		} else {
			r.Operations += said.Number
		}
	}
	r.Seconds = time.Since(began).Seconds()
	if err := r.repair(o.Dir); err != nil {
		r.Violations = append(r.Violations, fmt.Sprintf("after the repair: %v", err))
	}
	if r.Kept = len(r.Violations)+len(r.Remaining) > 0; r.Kept {
		return r, nil
	}
	return r, flagstone.Destroy(context.Background(), o.Dir, r.Name)
}

// repair does what check --repair does, and uses the cache.
func (r *Report) repair(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	t, err := table.Open(ctx, table.Options{Dir: dir, Name: r.Name, MustExist: true})
	if err != nil {
		return err
	}
	defer t.Close()
	found, err := t.Check()
	if err != nil {
		return err
	}
	remaining, err := t.Repair(ctx)
	r.Remaining = append(r.Remaining, remaining...)
	if err != nil {
		return err
	}
	o := Cache(dir)
	o.Steward.Off = true
	c, err := flagstone.Open(ctx, r.Name, o)
	if err != nil {
		return err
	}
	defer c.Close()
	inside, err := c.Check(ctx)
	if err != nil {
		return err
	}
	r.Problems = len(found) + len(inside)
	if err := c.Repair(ctx); err != nil {
		return err
	}
	problems, err := c.Check(ctx)
	r.Remaining = append(r.Remaining, problems...)
	if err != nil {
		return err
	}
	for i := range 200 {
		k := fmt.Append(nil, "after", i)
		if err := c.Set(ctx, k, k, 0); err != nil {
			return err
		}
		if v, ok, err := c.Get(nil, k); err != nil || !ok || !bytes.Equal(v, k) {
			return fmt.Errorf("%s is %q, %v, %w", k, v, ok, err)
		}
	}
	return nil
}

// child is a process of the run.
type child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	errs  bytes.Buffer
}

func begin(command []string, s spec) (*child, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(command[0], append(command[1:len(command):len(command)], string(text))...)}
	c.cmd.Stderr = &c.errs
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, c.cmd.Start()
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // or it has ended
	_ = c.cmd.Wait()
}

// end has the process end, and returns what it says then, and what was wrong.
func (c *child) end() (said told, violation string) {
	_ = c.stdin.Close()
	hung := time.AfterFunc(2*bound, c.kill)
	defer hung.Stop()
	line, _ := c.out.ReadString('\n')
	err := c.cmd.Wait()
	if json.Unmarshal([]byte(line), &said) != nil || err != nil {
		text := c.errs.String()
		return said, fmt.Sprintf("process %d ended with %v, and said %q: %s", c.cmd.Process.Pid, err, strings.TrimSpace(line), text[:min(len(text), 4000)])
	}
	return said, said.Violation
}
