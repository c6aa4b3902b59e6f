//go:build linux && steps

package crash

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

const unknownType = "only on a file system of a type that is not known; it is the hidden control file, before it has its name"

// unreachable are steps that no operation on shared memory passes, and why.
var unreachable = map[string]string{
	"slab.shard.restore Dropped.Add": "only if somebody overwrites the index while the holder of its lock rebuilds it",
	"shm.CheckMapping Truncate":      unknownType,
	"shm.CheckMapping Truncate 2":    unknownType,
	"shm.agree Window.Write":         unknownType,
	"shm.agree Window.Write half":    unknownType,
	"shm.writeZeros Pwrite":          "only on a file system without fallocate; what is there then is a file half made, as before",
	"identity.Thread.Signal Tgkill":  "only before Linux 6.9",
}

// result is what the matrix knows of a step.
type result struct {
	operations    []string
	first, second int
	violations    int
	longest       time.Duration
}

// survivors are the children that did not come where they were to die.
type survivors struct{ first, second int }

func (s survivors) all() int { return s.first + s.second }

// matrix runs the kills and keeps the results.
type matrix struct {
	t     *testing.T
	l     *library
	names *names

	mu       sync.Mutex // guards the rest
	steps    map[string]*result
	kills    int
	survived survivors
	shown    int
}

// firstKill is an operation and where it is killed.
type firstKill struct {
	o      *operation
	states []state
	at     passage
	second int // how many second kills follow
	random *rand.Rand
}

func newMatrix(t *testing.T) *matrix {
	source, err := readSource()
	if err != nil {
		t.Fatal(err)
	}
	n, err := source.names()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/dev/shm", "flagstone-crash-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &matrix{t: t, names: n, l: &library{dir: dir, names: n, made: map[string]string{}}, steps: map[string]*result{}}
	for _, name := range n.all() {
		m.steps[name] = &result{}
	}
	m.steps["end"] = &result{}
	return m
}

// record runs every operation undisturbed, and returns what to kill: every passage, or
// the first one of each step.
func (m *matrix) record(all bool) (todo []firstKill) {
	only := os.Getenv("FLAGSTONE_CRASH")
	for i := range operations {
		o := &operations[i]
		if !strings.Contains(o.name, only) {
			continue
		}
		out, err := m.l.record(o)
		if err != nil {
			m.t.Errorf("%s: %v", o.name, err)
			continue
		}
		if len(out.trace) == 0 {
			m.t.Errorf("%s passes no step", o.name)
		}
		kills := append(slices.Clone(out.trace), end)
		seen := map[string]bool{}
		for _, p := range kills {
			name := m.names.of(p.Site)
			if seen[name] && !all {
				continue
			}
			if r := m.steps[name]; r == nil {
				m.t.Fatalf("%s passed %s, which the scan did not find", o.name, name)
			} else if !seen[name] {
				r.operations = append(r.operations, o.name)
			}
			seen[name] = true
			todo = append(todo, firstKill{o: o, states: out.states, at: p})
		}
	}
	if only != "" {
		return todo
	}
	for name, r := range m.steps {
		_, listed := unreachable[name]
		switch {
		case len(r.operations) == 0 && !listed:
			m.t.Errorf("no operation passes %s: add one to operations_test.go", name)
		case len(r.operations) > 0 && listed:
			m.t.Errorf("%s is passed by %v, and listed as one that cannot be", name, r.operations)
		}
	}
	for name := range unreachable {
		if m.steps[name] == nil {
			m.t.Errorf("%s is listed as one that cannot be passed, and does not exist", name)
		}
	}
	return todo
}

// run does all of it, two at a time.
func (m *matrix) run(todo []firstKill) {
	queue := make(chan firstKill)
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for k := range queue {
				m.kill(k)
			}
		})
	}
	for _, k := range todo {
		queue <- k
	}
	close(queue)
	workers.Wait()
	if m.survived.all()*50 > m.kills {
		m.t.Errorf("%d of %d children did not die where they were to: operations are not deterministic", m.survived.all(), m.kills)
	}
}

// attempts is how often a kill is tried: background goroutines may take a step first.
const attempts = 3

// kill does a first kill, and the second ones that follow it.
func (m *matrix) kill(k firstKill) {
	for try := 1; ; try++ {
		dir, err := m.l.fresh(k.o)
		if err != nil {
			m.t.Error(err)
			return
		}
		died, err := m.once(k, dir)
		_ = os.RemoveAll(dir)
		if died || err != nil || try == attempts {
			if err != nil {
				m.violation(k, k.at.Site, false, err)
				return
			}
			m.count(k.at.Site, died, false)
			return
		}
	}
}

func (m *matrix) once(k firstKill, dir string) (died bool, err error) {
	live, err := m.l.live(k.o, dir)
	if err != nil {
		return false, fmt.Errorf("open before: %w", err)
	}
	defer live.abandon()
	out, err := spawn(job{Dir: dir, Operation: k.o.name, Kill: &k.at})
	if err != nil || out.died == nil {
		return false, err
	}
	order := k.states[out.acknowledged:min(out.acknowledged+2, len(k.states))]
	if templates[k.o.on].after() && out.acknowledged == 0 { // the first lock brings something to light
		order = slices.Insert(slices.Clone(order), 1, m.l.recovered(k.o))
	}
	may := allow(order...)
	if k.second > 0 {
		after, err := m.l.copy(dir)
		if err != nil {
			return true, err
		}
		defer os.RemoveAll(after)
		defer m.again(k, after, may, out.acknowledged)
	}
	err = guarded(func() { live.verify(may, false) })
	m.waited(*out.died, live.worst)
	if err != nil {
		m.violation(k, *out.died, false, err)
	}
	return true, nil
}

// again kills those who recover from the first kill.
func (m *matrix) again(k firstKill, after string, may allowed, acknowledged int) {
	run := func(kill *passage) (out outcome, dir string, err error) {
		if dir, err = m.l.copy(after); err == nil {
			out, err = spawn(job{Dir: dir, Operation: k.o.name, Recover: true, Keys: may.keys(), Kill: kill})
		}
		return out, dir, err
	}
	whole, dir, err := run(nil)
	_ = os.RemoveAll(dir)
	if err != nil {
		m.violation(k, k.at.Site, true, fmt.Errorf("recovery: %w", err))
		return
	}
	// The operation once more: to and fro between all that was.
	redone := both(may, allow(append(whole.states, k.states[min(acknowledged, 1):]...)...))
	for range min(k.second, len(whole.trace)) {
		at := whole.trace[k.random.IntN(len(whole.trace))]
		out, dir, err := run(&at)
		switch {
		case err != nil:
			m.violation(k, at.Site, true, fmt.Errorf("second: %w", err))
		case out.died == nil:
			m.count(at.Site, false, true)
		default:
			e := newEnv(dir, k.o)
			a := may
			if out.recovered {
				a = redone
			}
			err := guarded(func() { e.verify(a, true) })
			m.count(at.Site, true, true)
			m.waited(at.Site, e.worst)
			if err != nil {
				m.violation(k, at.Site, true, err)
			}
			e.abandon()
		}
		_ = os.RemoveAll(dir)
	}
}

// abandon closes what a check that failed has left open.
func (e *env) abandon() { _ = guarded(e.close) }

// result is what is known of a step. One that is not the library's is a store of the test
// itself, which spoils words before it does an operation again. The caller has mu.
func (m *matrix) result(s site) *result {
	name := m.names.of(s)
	if m.steps[name] == nil {
		m.steps[name] = &result{}
	}
	return m.steps[name]
}

// count notes a kill, or that a child lived on.
func (m *matrix) count(s site, died, second bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.result(s)
	m.kills++
	switch {
	case died && second:
		r.second++
	case died:
		r.first++
	case second:
		m.survived.second++
	default:
		m.survived.first++
	}
}

// waited notes how long the longest call after a kill took.
func (m *matrix) waited(s site, longest time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.result(s)
	r.longest = max(r.longest, longest)
}

// violation reports what must not be.
func (m *matrix) violation(k firstKill, s site, second bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.result(s).violations++
	if m.shown++; m.shown <= 30 {
		what := fmt.Sprintf("%s, killed at %s (%d)", k.o.name, m.names.of(k.at.Site), k.at.N)
		if second {
			what += ", and those who recovered at " + m.names.of(s)
		}
		m.t.Errorf("%s: %.600s", what, err)
	}
}

// TestMatrix_EveryStepKilled_NobodyElseHurt is the matrix. The long form kills at every
// passage of every step, and many times in the recovery from each step. FLAGSTONE_CRASH
// confines it to operations with that in their names.
func TestMatrix_EveryStepKilled_NobodyElseHurt(t *testing.T) {
	long := os.Getenv("FLAGSTONE_LONG") != ""
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("FLAGSTONE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("FLAGSTONE_SEED=%d", seed)
	m := newMatrix(t)
	todo := m.record(long)
	m.choose(todo, long, seed)
	began := time.Now()
	m.run(todo)
	sum := m.totals()
	t.Logf("%d operations, %d first kills, %d second kills, %d violations, longest wait %v; %d children did not die; %v",
		len(operations), sum.first, sum.second, sum.violations, sum.longest, m.survived.all(), time.Since(began).Round(time.Second))
	if name := os.Getenv("FLAGSTONE_CRASH_TABLE"); name != "" {
		m.print(os.Stdout)
		if os.Getenv("FLAGSTONE_CRASH") != "" {
			return // not the whole of it
		}
		if err := m.publish(name, seed); err != nil {
			t.Fatal(err)
		}
	}
}

// Second kills.
const (
	sampled   = 120 // of the short form: so many first kills are followed by
	perSample = 3   // so many second ones
	perStep   = 10  // of the long form: for each step of each operation
)

// choose says which first kills are followed by second ones.
func (m *matrix) choose(todo []firstKill, long bool, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	var candidates []int
	for i := range todo {
		if todo[i].at.N <= 1 {
			candidates = append(candidates, i)
		}
	}
	each := perStep
	if !long {
		random.Shuffle(len(candidates), func(i, j int) { candidates[i], candidates[j] = candidates[j], candidates[i] })
		candidates, each = candidates[:min(sampled, len(candidates))], perSample
	}
	for _, i := range candidates {
		todo[i].second, todo[i].random = each, rand.New(rand.NewPCG(seed, uint64(i)))
	}
}

// rows calls row for each step, with its package.
func (m *matrix) rows(row func(pkg, step string, r *result)) {
	for _, step := range append(m.names.all(), "end") {
		pkg, _, _ := strings.Cut(step, ".")
		row(pkg, step, m.steps[step])
	}
}

// totals sums up.
func (m *matrix) totals() (sum result) {
	m.rows(func(_, _ string, r *result) {
		sum.first += r.first
		sum.second += r.second
		sum.violations += r.violations
		sum.longest = max(sum.longest, r.longest)
	})
	return sum
}

// print writes the table as text.
func (m *matrix) print(w io.Writer) {
	last := ""
	m.rows(func(pkg, step string, r *result) {
		if pkg != last {
			last = pkg
			fmt.Fprintf(w, "\n%-50s %10s %6s %7s %10s %8s\n", pkg, "operations", "first", "second", "violations", "longest")
		}
		fmt.Fprintf(w, "%-50s %10d %6d %7d %10d %8v\n", step, len(r.operations), r.first, r.second, r.violations, r.longest.Round(time.Millisecond))
	})
}

// publish writes the table as a page.
func (m *matrix) publish(name string, seed uint64) error {
	var b strings.Builder
	sum := m.totals()
	fmt.Fprintf(&b, `# Every step, killed

<!-- Written by make crash; do not edit. -->

A step is a store to memory that processes share, or a system call that changes what they share. They are found in the sources; a store without a step
cannot be written, and a step that no operation passes fails the tests. For each step, and each operation that passes it, a child process was killed with SIGKILL at each of its
passages (first kills). What each first passage left was copied, and another process that recovered from it, and did the operation once more, was killed in turn, at up to %d
places of its way (second kills). After each kill a process that lives looked: what was acknowledged is there, whole, and nothing older comes back; every wait ends; mutexes can be
taken, and say so if what they guard may be half done; the directory, its files and the regions are in order after a Reap; the same operation then succeeds, and
`+"`Check`"+` finds nothing. "Longest" is the longest single call of a process that looked, scans of the whole cache and the operation itself included, on a machine that did all this at the same time.

%d operations, %d first kills, %d second kills, **%d violations**, longest wait %v. Not counted are %d children that were to die the first time, and %d that were to die the second,
but never came to the place: what others do meanwhile decides which steps are taken. Seed %d, %s, %s/%s.
`, perStep, len(operations), sum.first, sum.second, sum.violations, sum.longest.Round(time.Millisecond), m.survived.first, m.survived.second, seed, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	last := ""
	m.rows(func(pkg, step string, r *result) {
		if pkg != last {
			last = pkg
			title := "Package " + pkg
			if pkg == "end" {
				title = "After the last step"
			}
			fmt.Fprintf(&b, "\n## %s\n\n| step | operations | first kills | second kills | violations | longest |\n|---|---|---|---|---|---|\n", title)
		}
		longest := fmt.Sprint(r.longest.Round(time.Millisecond))
		if why, listed := unreachable[step]; listed {
			longest = "never passed: " + why
		}
		fmt.Fprintf(&b, "| `%s` | %d | %d | %d | %d | %s |\n", step, len(r.operations), r.first, r.second, r.violations, longest)
	})
	b.WriteString("\n## Operations\n\nWhat was killed, what it began with, and how many different steps it passes. Names of beginnings are those of internal/crash/template_test.go.\n\n| operation | begins with | steps |\n|---|---|---|\n")
	steps := map[string]int{}
	m.rows(func(_, _ string, r *result) {
		for _, o := range r.operations {
			steps[o]++
		}
	})
	for _, o := range operations {
		fmt.Fprintf(&b, "| %s | %s | %d |\n", o.name, o.on, steps[o.name]-1)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(b.String()), 0o644)
}

// record runs an operation to its end, in a child.
func (l *library) record(o *operation) (out outcome, err error) {
	dir, err := l.fresh(o)
	if err != nil {
		return out, err
	}
	defer os.RemoveAll(dir)
	live, err := l.live(o, dir)
	if err != nil {
		return out, err
	}
	defer live.abandon()
	return spawn(job{Dir: dir, Operation: o.name})
}

// fresh copies an operation's template.
func (l *library) fresh(o *operation) (dir string, err error) {
	from, err := l.get(o.on, o)
	if err != nil {
		return "", err
	}
	return l.copy(from)
}

func (l *library) copy(from string) (dir string, err error) {
	if dir, err = os.MkdirTemp(l.dir, "run-"); err == nil {
		err = copyTree(from, dir)
	}
	return dir, err
}

// recovered is what a template holds that somebody left who was killed.
func (l *library) recovered(o *operation) state {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.states[o.name]; s != nil {
		return s
	}
	s := state{}
	if dir, err := l.get(o.on, o); err == nil && !o.gone {
		must(guarded(func() { s = recovered(dir, o) }))
	}
	if l.states == nil {
		l.states = map[string]state{}
	}
	l.states[o.name] = s
	return s
}

// live opens the domain for those who live, before the child comes.
func (l *library) live(o *operation, dir string) (e *env, err error) {
	e = newEnv(dir, o)
	if o.wakes {
		e.wake = o.wake
	}
	if o.on == "nothing" || o.on == "unmade" || o.on == "unremoved" {
		return e, nil
	}
	return e, guarded(func() {
		e.open()
		if o.wakes {
			e.asleep()
		}
	})
}

// asleep waits until this handle's listener sleeps.
func (e *env) asleep() {
	b, err := os.Open(filepath.Join(filepath.Dir(e.file()), "control"))
	must(err)
	defer b.Close()
	g := e.open().Table().Geometry()
	var word [4]byte
	at := int64(g.RegionOffset) + int64(e.cache.Table().Self())*int64(g.RegionStride) + layout.OffsetRegionSleeping
	for stop := time.Now().Add(bound); word[0] == 0; time.Sleep(50 * time.Microsecond) {
		if _, err := b.ReadAt(word[:], at); err != nil || time.Now().After(stop) {
			wrong("never asleep: %v", err)
		}
	}
}
