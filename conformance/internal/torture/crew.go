package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// crew is a run.
type crew struct {
	Options
	start    func(testee.Program) (peer, error)
	ctx      context.Context
	began    moment
	random   *rand.Rand // of who disturbs
	order    string
	keys     *subjects
	slots    []*slot
	marks    watermarks
	mutexes  mutual
	pace     pace
	nextLife atomic.Uint64
	stopping sync.WaitGroup // those who let the stopped go on
	calm     chan struct{}  // closed when nobody is killed or stopped any more

	processes, kills, crashes, stopCount atomic.Uint64

	stopsMu sync.Mutex
	stops   []stop

	mu     sync.Mutex // of the report
	report Report
}

// name is the domain's.
const name = "torture"

func newCrew(ctx context.Context, o Options) *crew {
	c := &crew{
		Options: o, start: start, ctx: ctx, began: now(), random: rand.New(rand.NewPCG(o.Seed, 0)),
		keys: newSubjects(o.Procs), marks: make(watermarks, o.Procs), calm: make(chan struct{}), mutexes: mutual{holders: map[int]uint64{}},
		report: Report{Commands: map[string]uint64{}, Refused: map[string]uint64{}},
	}
	c.order = []string{"lru", "s3fifo"}[c.random.IntN(2)]
	for n := range o.Procs {
		c.marks[n].Store(int64(never))
		c.slots = append(c.slots, &slot{
			crew: c, n: n, program: o.Programs[n%len(o.Programs)], random: rand.New(rand.NewPCG(o.Seed, uint64(n+1))),
			crashes: true, stop: -1,
		})
	}
	return c
}

// run tortures a domain and judges what is left. An error says that it could not be done.
func (c *crew) run() error {
	end := make(chan struct{})
	go c.pace.run(end)
	defer close(end)
	if err := c.prepare(); err != nil {
		return err
	}
	defer func() {
		for _, s := range c.slots {
			if s.peer != nil {
				s.peer.Close()
			}
		}
	}()
	var all errgroup.Group
	for _, s := range c.slots {
		all.Go(s.run)
	}
	c.disturb()
	close(c.calm)
	if err := all.Wait(); err != nil {
		return err
	}
	c.report.Seconds = time.Duration(now() - c.began).Seconds()
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if !c.broken() {
		c.verdict()
	}
	c.report.Processes, c.report.Kills, c.report.Crashes, c.report.Stops = c.processes.Load(), c.kills.Load(), c.crashes.Load(), c.stopCount.Load()
	return nil
}

// open is the command that opens a place.
func (c *crew) open(at place, options string) string {
	line := join("open", c.Dir, name, "entries=16384 cell=128 maxkey=256 maxvalue=4096 shards=4 order="+c.order, options)
	if at != primary {
		line += " slab=" + testee.Hex(placeNames[at])
	}
	return line
}

// prepare makes the domain with its slabs.
func (c *crew) prepare() error {
	p, err := c.start(c.Programs[0])
	if err != nil {
		return err
	}
	defer p.Close()
	lines := []string{c.open(primary, "wake=poll")}
	for at, size := range map[place]int{ponds: 1 << 20, west: 2 << 20, east: 2 << 20} {
		lines = append(lines, join("slab", testee.Hex(placeNames[at]), itoa(int64(size))))
	}
	for i, call := range p.SendAll(lines) {
		a, err := call.Wait()
		if err == nil && a.Kind != testee.OK {
			err = fmt.Errorf("%s: %v", lines[i], a)
		}
		if err != nil {
			return errors.Join(err, errors.New(p.Stderr()))
		}
	}
	return p.End()
}

// over reports whether the time is.
func (c *crew) over() bool { return now() >= c.began+moment(c.Time) || c.ctx.Err() != nil }

const mostViolations = 10

// broken reports whether there are so many violations that it is of no use to go on.
func (c *crew) broken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.report.Violations) >= mostViolations
}

// violation takes down something that must not be; answers are shown.
func (c *crew) violation(l *life, o *op, what string, answers ...testee.Answer) {
	v := Violation{
		At: time.Duration(o.done - c.began), Slot: l.slot.n, Program: l.program.Name, Life: l.id, Place: placeNames[l.place],
		Command: testee.Short(o.line)[:min(200, len(o.line))], What: what,
	}
	for _, a := range answers {
		text := a.String()
		v.Answer = text[:min(300, len(text))]
	}
	if o.on != nil && o.on.mu.TryLock() { // deny comes with it locked
		v.Key, v.Trace = o.on.String(), o.on.notes.lines(c.began)
		o.on.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.report.Violations) < mostViolations {
		c.report.Violations = append(c.report.Violations, v)
	}
}

// count counts an answer.
func (c *crew) count(command string, a testee.Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Commands[command]++
	switch a.Kind {
	case testee.Err:
		c.report.Refused[command+" "+a.Name]++
	case testee.Unsupported:
		c.report.Refused[command+" unsupported"]++
	}
}

func (c *crew) commands() (sum uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.report.Commands {
		sum += n
	}
	return sum
}

// waited judges how long a command took that began after last.
func (c *crew) waited(l *life, o *op, last moment, held time.Duration) {
	if o.wait == 0 {
		return
	}
	const grace = time.Second
	took := time.Duration(o.done - last)
	longest, stood := &c.report.Longest, c.stopped(last, o.done)
	if stood {
		longest = &c.report.Stood
	}
	c.mu.Lock()
	if took > longest.Took {
		*longest = Wait{Command: o.name(), Given: o.wait, Took: took}
	}
	c.mu.Unlock()
	if !stood && took-held > o.wait+grace {
		c.violation(l, o, fmt.Sprintf("took %v, having been given %v", took, o.wait))
	}
}

// dies says that the slot's life is about to end: what it holds, and what it is answered
// from now on that it got, is not its own any more.
func (c *crew) dies(s *slot, life uint64, at moment) {
	s.dying.Store(life)
	c.mutexes.died(life)
	for _, s := range c.keys.by[claimed][0] {
		s.dies(life, at)
	}
}

// dead says that the life has ended.
func (c *crew) dead(life uint64, at moment) {
	for _, s := range c.keys.by[claimed][0] {
		s.dead(life, at)
	}
}

// mutual judges mutexes: who holds one does so alone.
type mutual struct {
	mu      sync.Mutex
	holders map[int]uint64
}

func (m *mutual) locked(id int, life uint64, dying *atomic.Uint64) (wrong string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if dying.Load() == life {
		return ""
	}
	if other := m.holders[id]; other != 0 {
		wrong = fmt.Sprintf("mutex %d was given to life %d, though life %d holds it", id, life, other)
	}
	m.holders[id] = life
	return wrong
}

func (m *mutual) unlocked(id int, life uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holders[id] == life {
		m.holders[id] = 0
	}
}

func (m *mutual) died(life uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, holder := range m.holders {
		if holder == life {
			m.holders[id] = 0
		}
	}
}

// sorted is the keys of a map, in order.
func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
