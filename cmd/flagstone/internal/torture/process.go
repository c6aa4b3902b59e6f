package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/flagstone-shm/flagstone"
	wake "github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/table"
)

// Spec is what a process of a run is to be.
type Spec struct {
	Kind     string   `json:"kind"`
	Dir      string   `json:"dir,omitempty"`
	Name     string   `json:"name,omitempty"`
	Scratch  string   `json:"scratch,omitempty"` // directory of ledger and journals
	Slot     int      `json:"slot"`
	Procs    int      `json:"procs"`
	Life     uint64   `json:"life"`
	Seed     uint64   `json:"seed"`
	Start    uint64   `json:"start"` // of the run, see now
	Command  []string `json:"command"`
	Sabotage string   `json:"sabotage,omitempty"`
}

// kinds are what processes do, step by step, between opening the cache and the end of
// the run. A further kind is an entry here, and slots in crew.kindOf. Whatever is wrong
// with a key passes process.violation or crew.wrong, so what a kind may spoil is
// excused there.
var kinds = map[string]func(*process) []task{
	kindWorker:  worker,
	kindMeddler: meddler,
}

// Kinds of processes; a child is none of the run's, but what these fork and exec.
const (
	kindWorker  = "worker"
	kindMeddler = "meddler"
	kindChild   = "child"
)

// task is something that a process does now and then.
type task struct {
	weight int
	do     func()
}

// exitTold is the exit code of a process that has written down why.
const exitTold = 4

// process is a process of a run.
type process struct {
	Spec
	*ledger
	journal *journal
	pace    pace
	random  *rand.Rand
	told    int // violations

	cache            *flagstone.Cache
	named            *flagstone.Namespace
	pond, west, east *flagstone.Slab
	entry            *entry // of the operation under way
	swaps            uint64
}

// Process is the main function of the processes of a run.
func Process(spec string) error {
	p := &process{}
	err := json.Unmarshal([]byte(spec), &p.Spec)
	switch {
	case err != nil:
		return fmt.Errorf("torture: what to be: %w", err)
	case p.Kind == kindChild:
		return nil
	case kinds[p.Kind] == nil:
		return fmt.Errorf("torture: no kind %q", p.Kind)
	}
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) // the parent ends us
	if err := dieWithParent(); err != nil {
		return fmt.Errorf("torture: %w", err)
	}
	if p.ledger, err = mapped[ledger](p.Scratch, "ledger", false); err != nil {
		return err
	}
	if p.journal, err = mapped[journal](p.Scratch, fmt.Sprintf("journal-%d", p.Slot), false); err != nil {
		return err
	}
	p.journal.Inside.Store(0)
	p.journal.Life.Store(p.Life)
	p.journal.Pid.Store(uint64(os.Getpid()))
	p.random = rand.New(rand.NewPCG(p.Seed, uint64(p.Slot)<<48|p.Life))
	p.pace.begin()
	return p.live()
}

// live does tasks until the run is over.
func (p *process) live() error {
	if !p.open() {
		os.Exit(exitTold)
	}
	tasks := kinds[p.Kind](p)
	sum := 0
	for _, t := range tasks {
		sum += t.weight
	}
	for p.Over.Load() == 0 {
		n := p.random.IntN(sum)
		for _, t := range tasks {
			if n -= t.weight; n < 0 {
				t.do()
				break
			}
		}
	}
	p.close()
	return nil
}

// Deadlines of operations that may wait. The longer one is longer than nobody but a
// stopped holder keeps others waiting.
const (
	short    = 100 * time.Millisecond
	usual    = 2 * time.Second
	generous = 10 * time.Second
)

// patience is how long a write waits.
func (p *process) patience() time.Duration {
	if p.random.IntN(10) == 0 {
		return short
	}
	return usual
}

// options are other ones in each life.
func (p *process) options() flagstone.Options {
	o := flagstone.Options{Dir: p.Dir, MustExist: true}
	o.Wake.Mode = []wake.Mode{wake.ModeSignal, wake.ModeFutex, wake.ModePoll}[p.random.IntN(3)]
	if p.random.IntN(2) == 0 {
		o.Wake.Signal = syscall.SIGUSR2
	}
	o.Search = []flagstone.Search{flagstone.Interleaved, flagstone.InOrder, flagstone.Parallel}[p.random.IntN(3)]
	o.NoPromotion = p.random.IntN(4) == 0
	o.Steward.Off = p.random.IntN(2) == 0
	if p.Kind == kindMeddler {
		o.Steward.KeepFor = time.Hour
	}
	return o
}

// open opens the cache and its independent slabs. It reports whether it could.
func (p *process) open() bool {
	for p.Over.Load() == 0 {
		err := p.do(opOpen, none, 0, generous, func(ctx context.Context) (err error) {
			if p.cache, err = flagstone.Open(ctx, p.Name, p.options()); err != nil {
				return err
			}
			for name, slab := range map[string]**flagstone.Slab{"pond": &p.pond, "west": &p.west, "east": &p.east} {
				if *slab, err = p.cache.OpenSlab(ctx, name); err != nil {
					return errors.Join(err, p.cache.Close())
				}
			}
			return nil
		})
		if err == nil {
			p.named = p.cache.Namespace("torture")
			return true
		}
		if !errors.Is(err, flagstone.ErrBusy) {
			return false
		}
	}
	os.Exit(0) // the run is over
	return false
}

func (p *process) close() {
	_ = p.do(opClose, none, 0, generous, func(context.Context) error { return p.cache.Close() })
}

// reopen closes the handle and opens another one.
func (p *process) reopen() {
	p.close()
	if !p.open() {
		os.Exit(exitTold)
	}
}

// become is this process again after an exec: a new life, which has not closed the
// handle of the old one.
func (p *process) become() {
	next := p.Spec
	next.Life++
	if next.Life&0xffff == 0 {
		return
	}
	_ = p.do(opExec, none, 0, generous, func(context.Context) error {
		spec, err := json.Marshal(next)
		if err != nil {
			return err
		}
		p.journal.Operations[opExec].Add(1) // nobody returns to count it
		raise(&p.Dead[p.Slot], p.Life)
		return syscall.Exec(p.Command[0], append(p.Command[:len(p.Command):len(p.Command)], string(spec)), os.Environ())
	})
}

// bear forks and execs a child, which has nothing to do with the cache.
func (p *process) bear() {
	_ = p.do(opChild, none, 0, generous, func(ctx context.Context) error {
		spec, err := json.Marshal(Spec{Kind: kindChild})
		if err != nil {
			return err
		}
		return exec.CommandContext(ctx, p.Command[0], append(p.Command[1:len(p.Command):len(p.Command)], string(spec))...).Run()
	})
}

// allowed are the errors, beside ErrBusy, that operations may return here.
var allowed = map[operation][]error{
	opGrow:  {flagstone.ErrNoSpace},
	opDrain: {flagstone.ErrFull, flagstone.ErrRetired, flagstone.ErrState},
	opMove:  {flagstone.ErrFull, flagstone.ErrRetired},
	opEvict: {flagstone.ErrRetired},
	opSlab:  {flagstone.ErrNoSpace, flagstone.ErrRetired, flagstone.ErrSlabExists, flagstone.ErrNoSlab, table.ErrNoEntry},
	opLoad:  {flagstone.ErrLoad, errLoader},
}

// What is past a deadline by so much is a violation.
const overdue = time.Second

// do does an operation that has to be over with its patience, 0 being at once, notes it
// in the journal, and judges how long it took and what it returned.
func (p *process) do(op operation, k key, number uint64, patience time.Duration, f func(ctx context.Context) error) error {
	// Before the deadline is set: this process may be stopped anywhere.
	j, held, began := p.journal, p.pace.held(), now()
	ctx := context.Background()
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	e := j.begin(p.Life, op, k, number, began)
	p.entry = e
	j.Deadline.Store(began + uint64(patience))
	j.Began.Store(began)
	j.Inside.Store(uint64(op) + 1)
	err := f(ctx)
	j.Inside.Store(0)
	ended := now()
	outcome := uint64(done)
	switch {
	case errors.Is(err, flagstone.ErrBusy):
		outcome = busy
		j.Busy.Add(1)
	case err != nil && isOneOf(err, allowed[op]):
		outcome = refused
		j.Refused.Add(1)
	case err != nil:
		outcome = failed
	}
	e.end(outcome, ended-began)
	j.Operations[op].Add(1)
	p.judgeTime(op, k, patience, began, ended, held, err)
	if outcome == failed {
		p.violation(op, k, fmt.Sprintf("unexpected error: %v", err))
	}
	return err
}

func isOneOf(err error, errs []error) bool {
	for _, e := range errs {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// judgeTime notes how long an operation has waited, and what of that must not be.
func (p *process) judgeTime(op operation, k key, patience time.Duration, began, ended uint64, held time.Duration, err error) {
	took := time.Duration(ended - began)
	wasBusy := errors.Is(err, flagstone.ErrBusy)
	if took < beat && !wasBusy {
		return
	}
	if took >= heldUp {
		p.pace.settle()
		took -= min(took, p.pace.held()-held)
	}
	behind := p.holderStopped(p.Slot, began, ended)
	switch {
	case op == opLead, op == opChild: // which last as long as they are to, and wait for none of us
		return
	case behind:
		p.journal.Stopped.note(took, op)
	default:
		p.journal.Longest.note(took, op)
	}
	p.journal.Overdue.note(took-patience, op)
	if took > patience+overdue {
		p.violation(op, k, fmt.Sprintf("past its deadline of %v: it took %v, of which this process was held up itself for %v; it returned %v",
			patience, time.Duration(ended-began), time.Duration(ended-began)-took, err))
	}
	if early := time.Duration(ended-began) < patience-50*time.Millisecond; wasBusy && early && op != opEvict && op != opScan {
		p.violation(op, k, fmt.Sprintf("busy before its deadline of %v, after %v: %v", patience, time.Duration(ended-began), err))
	}
	if wasBusy && patience >= usual && !behind && took >= patience {
		p.violation(op, k, fmt.Sprintf("busy after %v, while nobody was stopped who may have held what it waited for: %v", took, err))
	}
}

// violation writes one down.
func (p *process) violation(op operation, k key, what string) {
	v := Violation{
		At: (time.Duration(now() - p.Start)).Seconds(), Slot: p.Slot, Life: lifeName(p.Life), Op: op.String(), What: what,
		Trace: p.journal.lines(p.Start, 8, 0),
	}
	if k != none {
		v.Key = k.String()
	}
	if err := v.write(p.Scratch); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if p.told++; p.told >= 20 {
		os.Exit(exitTold)
	}
}
