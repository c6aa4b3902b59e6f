package torture

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/slab"
)

// crew is a run, seen from the parent.
type crew struct {
	Options
	*ledger
	name, scratch    string
	start            uint64
	random           *mathrand.Rand
	cache            *flagstone.Cache // of the parent
	pond, west, east *flagstone.Slab
	journals         []*journal
	children         []*child // by slot
	ends             chan *child
	running          int
	report           Report
}

// child is a process, seen from the parent.
type child struct {
	slot    int
	life    uint64
	cmd     *exec.Cmd
	errs    *os.File
	killed  bool
	goesOn  uint64 // when a stopped one is to go on; 0 runs
	stop    int    // index of its stop in the ledger
	err     error  // of its exit
	hanging bool   // and told
}

// Run makes a domain, tortures it, judges what is left, and removes it, unless there
// are violations. An error says that it could not be done.
func Run(ctx context.Context, o Options) (Report, error) {
	c := &crew{
		Options: o, name: "torture-" + strings.ToLower(rand.Text()[:10]), start: now(),
		random: mathrand.New(mathrand.NewPCG(o.Seed, 0)), ends: make(chan *child),
		children: make([]*child, o.Procs),
	}
	c.report = Report{Seed: o.Seed, Procs: o.Procs, Name: c.name, First: []Violation{}}
	c.scratch = filepath.Join(o.Dir, c.name+".journals")
	if err := os.Mkdir(c.scratch, 0o700); err != nil {
		return c.report, err
	}
	err := c.run(ctx)
	if c.cache != nil {
		err = errors.Join(err, c.cache.Close())
	}
	first, all, unread := readViolations(c.scratch, 10)
	c.report.First, c.report.Violations, err = append(c.report.First, first...), all, errors.Join(err, unread)
	if c.report.Violations > 0 {
		c.report.Kept = c.scratch
		return c.report, errors.Join(err, c.render())
	}
	gone := flagstone.Destroy(context.WithoutCancel(ctx), o.Dir, c.name)
	if errors.Is(gone, flagstone.ErrNotFound) {
		gone = nil
	}
	return c.report, errors.Join(err, gone, os.RemoveAll(c.scratch))
}

func (c *crew) run(ctx context.Context) error {
	if err := c.prepare(ctx); err != nil {
		return err
	}
	// A child is killed when the thread ends that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := errors.Join(c.torture(ctx), c.finish()); err != nil {
		return err
	}
	return c.verdict()
}

// Sizes of the slabs, in bytes. The cache has room for all keys several times over, so
// that nothing leaves it for want of room; the pond has not.
func cacheSize(procs int) uint64 { return uint64(8+procs) << 20 }

const pondSize = 1 << 20

func tierSize(procs int, ofPond bool) uint64 {
	if ofPond {
		return pondSize / 4
	}
	return cacheSize(procs) / 4
}

// prepare makes the domain with its slabs, and the files beside it.
func (c *crew) prepare(ctx context.Context) (err error) {
	if c.ledger, err = mapped[ledger](c.scratch, "ledger", true); err != nil {
		return err
	}
	for slot := range c.Procs {
		j, err := mapped[journal](c.scratch, fmt.Sprintf("journal-%d", slot), true)
		if err != nil {
			return err
		}
		c.journals = append(c.journals, j)
	}
	ctx, cancel := context.WithTimeout(ctx, generous)
	defer cancel()
	c.cache, err = flagstone.Open(ctx, c.name, flagstone.Options{
		Dir: c.Dir, Size: cacheSize(c.Procs), MaxKey: 256, MaxValue: 4096, Shards: 4,
		Steward: flagstone.StewardOptions{Off: true},
	})
	if err != nil {
		return err
	}
	small := flagstone.Shape{Size: uint64(1+c.Procs/8) << 20, MaxKey: 256, MaxValue: 4096, Shards: 2}
	full := small
	full.Size, full.Order = pondSize, flagstone.S3FIFO
	for _, s := range []struct {
		name  string
		shape flagstone.Shape
		slab  **flagstone.Slab
	}{{"pond", full, &c.pond}, {"west", small, &c.west}, {"east", small, &c.east}} {
		if *s.slab, err = c.cache.CreateSlab(ctx, s.name, s.shape); err != nil {
			return err
		}
	}
	return nil
}

// torture disturbs the processes until the time is over, or something is wrong.
func (c *crew) torture(ctx context.Context) error {
	for slot := range c.Procs {
		if err := c.spawn(slot); err != nil {
			return err
		}
	}
	const stopsPerSecond = 2 // of all
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	over := c.start + uint64(c.Time)
	nextKill, nextStop, nextLook := c.after(now(), c.Kills), c.after(now(), stopsPerSecond), now()
	for now() < over {
		select {
		case <-ctx.Done():
			return nil // what was done counts
		case ended := <-c.ends:
			if err := c.bury(ended); err != nil {
				return err
			}
			if err := c.spawn(ended.slot); err != nil {
				return err
			}
		case <-tick.C:
		}
		c.goOn(now())
		if now() >= nextKill {
			nextKill = c.after(nextKill, c.Kills)
			if w := c.anyone(); w == nil {
			} else if c.random.IntN(2) == 0 {
				c.kill(w)
			} else {
				c.killHolder(w)
			}
		}
		if now() >= nextStop {
			nextStop = c.after(nextStop, stopsPerSecond)
			if w := c.anyone(); w != nil {
				c.halt(w)
			}
		}
		if now() >= nextLook {
			nextLook = now() + uint64(200*time.Millisecond)
			c.hangs()
			c.Progress(time.Duration(now()-c.start), c.operations(), c.report.Kills)
			if _, n, err := readViolations(c.scratch, 0); n > 0 || err != nil {
				return err
			}
		}
	}
	return nil
}

// after returns a time after another, so that there are so many per second on average.
func (c *crew) after(last uint64, perSecond float64) uint64 {
	if perSecond <= 0 {
		return 1 << 63
	}
	return last + uint64((0.5+c.random.Float64())/perSecond*float64(time.Second))
}

// anyone returns one that was not killed yet, nil if there is none.
func (c *crew) anyone() *child {
	living := slices.DeleteFunc(slices.Clone(c.children), func(w *child) bool { return w.killed })
	if len(living) == 0 {
		return nil
	}
	return living[c.random.IntN(len(living))]
}

// kindOf says what the slot's processes are.
func (c *crew) kindOf(slot int) string {
	if slot%8 == 0 && c.Procs > 1 {
		return kindMeddler
	}
	return kindWorker
}

// spawn starts the slot's next process.
func (c *crew) spawn(slot int) error {
	c.report.Processes++
	started := uint64(1)
	if before := c.children[slot]; before != nil {
		started = before.life>>16 + 1
	}
	w := &child{slot: slot, life: newLife(started)}
	spec, err := json.Marshal(Spec{
		Kind: c.kindOf(slot), Dir: c.Dir, Name: c.name, Scratch: c.scratch, Slot: slot, Procs: c.Procs,
		Life: w.life, Seed: c.Seed, Start: c.start, Command: c.Command, Sabotage: c.Sabotage,
	})
	if err != nil {
		return err
	}
	if w.errs, err = os.OpenFile(filepath.Join(c.scratch, fmt.Sprintf("stderr-%d", slot)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	w.cmd = exec.Command(c.Command[0], append(c.Command[1:len(c.Command):len(c.Command)], string(spec))...)
	w.cmd.Stderr = w.errs
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := w.cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start process %d: %w", slot, err), w.errs.Close())
	}
	c.children[slot] = w
	c.running++
	go func() {
		w.err = errors.Join(w.cmd.Wait(), w.errs.Close())
		c.ends <- w
	}()
	return nil
}

// bury looks at how a process has ended.
func (c *crew) bury(w *child) error {
	c.running--
	c.endStop(w)
	state := w.cmd.ProcessState
	switch {
	case w.killed && !state.Exited() || state.ExitCode() == exitTold:
	case state.Success() && c.Over.Load() == 1:
	default:
		return c.tell(w, fmt.Sprintf("the process ended by itself: %v; its last words: %q", state, c.lastWords(w.slot)))
	}
	return nil
}

// lastWords are the end of what the slot's processes have written.
func (c *crew) lastWords(slot int) string {
	b, err := os.ReadFile(filepath.Join(c.scratch, fmt.Sprintf("stderr-%d", slot)))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// tell writes a violation of the parent's down.
func (c *crew) tell(w *child, what string) error {
	j := c.journals[w.slot]
	v := Violation{
		At: (time.Duration(now() - c.start)).Seconds(), Slot: w.slot, Life: lifeName(j.Life.Load()), What: what,
		Trace: j.lines(c.start, 8, 0),
	}
	if inside := j.Inside.Load(); inside > 0 && inside <= uint64(operations) {
		v.Op = operation(inside - 1).String()
	}
	return v.write(c.scratch)
}

// kill kills a process wherever it stands.
func (c *crew) kill(w *child) {
	w.killed = true
	raise(&c.Dead[w.slot], w.life|0xffff)
	_ = w.cmd.Process.Kill() // it may have ended by itself
	c.report.Kills++
}

// killHolder kills a process that holds a shard's lock, if it is found to within some
// stops: at random it seldom is.
func (c *crew) killHolder(w *child) {
	const tries = 10
	for range tries {
		if w.goesOn != 0 || stop(w.cmd.Process) != nil {
			break
		}
		if c.holds(w) {
			break
		}
		_ = w.cmd.Process.Signal(unix.SIGCONT)
	}
	c.kill(w)
}

// halt stops a process wherever it stands, for some time, and notes whether it holds a
// lock.
func (c *crew) halt(w *child) {
	if w.goesOn != 0 {
		return
	}
	w.stop = int(c.NextStop.Add(1) % stops)
	s := &c.Stops[w.stop]
	s.Began.Store(0)
	s.Holds.Store(0)
	s.Ended.Store(0)
	s.Slot.Store(uint64(w.slot))
	s.Began.Store(now())
	if err := stop(w.cmd.Process); err != nil {
		s.Ended.Store(now())
		return // it has ended
	}
	c.report.Stops++
	if c.mayHold(w) {
		s.Holds.Store(1)
		c.report.Holders++
	}
	// 10 ms to 2 s, the shorter ones more often.
	for d := 10 * time.Millisecond; ; d *= 2 {
		if d >= time.Second || c.random.IntN(3) == 0 {
			w.goesOn = now() + uint64(d) + c.random.Uint64N(uint64(d))
			return
		}
	}
}

// goOn lets those go on whose time has come.
func (c *crew) goOn(at uint64) {
	for _, w := range c.children {
		if w.goesOn != 0 && w.goesOn <= at {
			_ = w.cmd.Process.Signal(unix.SIGCONT) // it may have been killed meanwhile
			c.endStop(w)
		}
	}
}

func (c *crew) endStop(w *child) {
	if w.goesOn != 0 {
		c.Stops[w.stop].Ended.Store(now())
		w.goesOn = 0
	}
}

// stop stops a child and waits until it stands. An exec in the child may swallow the
// stop: then it is given up, after a while.
func stop(p *os.Process) error {
	if err := p.Signal(unix.SIGSTOP); err != nil {
		return err
	}
	const stopped = 5 // CLD_STOPPED
	for began := time.Now(); time.Since(began) < 200*time.Millisecond; {
		var info unix.Siginfo
		// WNOWAIT leaves an exit to be collected by Wait.
		err := unix.Waitid(unix.P_PID, p.Pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		switch {
		case err != nil && err != unix.EINTR:
			return err
		case err == nil && info.Signo != 0 && info.Code != stopped:
			return fmt.Errorf("pid %d has ended", p.Pid)
		case err == nil && info.Signo != 0:
			return nil
		}
		time.Sleep(50 * time.Microsecond)
	}
	return errors.Join(errors.New("it did not stop"), p.Signal(unix.SIGCONT))
}

// mayHold reports whether a process that stands still holds a shard's lock, or is where
// others may have to wait for it though it holds none.
func (c *crew) mayHold(w *child) bool {
	inside := c.journals[w.slot].Inside.Load()
	return inside == 0 || inside > uint64(operations) || operation(inside-1).holds() || c.holds(w)
}

// holds reports whether a process that stands still holds a shard's lock.
func (c *crew) holds(w *child) bool {
	mine := map[uint32]bool{} // regions
	for _, r := range c.cache.Table().Regions() {
		mine[uint32(r.Index)] = r.Pid == uint32(w.cmd.Process.Pid)
	}
	for _, cache := range []*flagstone.Cache{c.cache, c.pond.Cache(), c.west.Cache(), c.east.Cache()} {
		holders, err := cache.Holders()
		if err != nil || slices.ContainsFunc(holders, func(h slab.Holder) bool { return mine[h.Region] }) {
			return true
		}
	}
	return false
}

// hang is how long past its deadline an operation that does not end is told.
const hang = 10 * time.Second

// hangs looks for operations that do not end. Such a process is made to print its
// goroutines.
func (c *crew) hangs() {
	for slot, w := range c.children {
		j := c.journals[slot]
		began, deadline := j.Began.Load(), j.Deadline.Load()
		if w.killed || w.hanging || w.goesOn != 0 || j.Inside.Load() == 0 || j.Life.Load()>>16 != w.life>>16 || began > deadline || now() < deadline+uint64(hang) {
			continue
		}
		w.hanging = true
		_ = c.tell(w, fmt.Sprintf("hangs for %v, %v past its deadline: its goroutines are in stderr-%d",
			time.Duration(now()-began), time.Duration(now()-deadline), slot))
		_ = w.cmd.Process.Signal(unix.SIGQUIT)
	}
}

func (c *crew) operations() (sum uint64) {
	for _, j := range c.journals {
		for i := range j.Operations {
			sum += j.Operations[i].Load()
		}
	}
	return sum
}

// finish lets all processes close their handles and end.
func (c *crew) finish() (err error) {
	c.Over.Store(1)
	c.goOn(1<<64 - 1)
	late := time.NewTimer(2*generous + hang)
	defer late.Stop()
	for c.running > 0 {
		select {
		case ended := <-c.ends:
			err = errors.Join(err, c.bury(ended))
		case <-late.C:
			for _, w := range c.children {
				if w.cmd.ProcessState == nil {
					err = errors.Join(err, c.tell(w, "does not end"))
					c.kill(w)
				}
			}
		}
	}
	return err
}
