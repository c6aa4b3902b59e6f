//go:build linux

package table

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/signal"
)

func init() {
	// lead is the steward, and stays.
	roles["lead"] = func(o Options) error {
		t, err := Open(context.Background(), o)
		if err != nil {
			return err
		}
		if leading, err := t.Lead(); err != nil || !leading {
			return errors.Join(errors.New("does not lead"), err)
		}
		say("%d", t.Self())
		linger()
		return t.Close()
	}
}

func lead(t *testing.T, table *Table, want bool) {
	t.Helper()
	before := table.Changes()
	was := table.Leading()
	leading, err := table.Lead()
	must(t, err)
	if leading != want || table.Leading() != want {
		t.Fatalf("leading %v, want %v", leading, want)
	}
	if moved := table.Changes() != before; moved != (leading && !was) {
		t.Fatalf("changes moved: %v", moved)
	}
}

// led checks who everybody, a reader too, thinks is the steward; nil is nobody.
func led(t *testing.T, dir string, by *Table, all ...*Table) {
	t.Helper()
	check := func(h Holder, ok bool) {
		t.Helper()
		if ok != (by != nil) || ok && h != (Holder{by.Self(), by.generation}) || !ok && h != (Holder{}) {
			t.Fatalf("the steward is %+v, %v", h, ok)
		}
	}
	for _, table := range all {
		check(table.Steward())
	}
	check(inspected(t, dir).Steward())
}

func TestLead_TwoHandles_OneLeads(t *testing.T) {
	dir := t.TempDir()
	a, b := openTable(t, options(dir)), openTable(t, options(dir))
	led(t, dir, nil, a, b)
	must(t, a.Resign()) // of nothing
	lead(t, a, true)
	lead(t, a, true)
	lead(t, b, false)
	must(t, b.Resign()) // not the other's
	led(t, dir, a, a, b)

	before := b.Changes()
	must(t, a.Resign())
	if a.Leading() || b.Changes() == before {
		t.Fatal("resigned without telling")
	}
	led(t, dir, nil, a, b)
	if word := b.stewardWord().Load(); word != 0 {
		t.Fatalf("the word is %#x after it resigned", word)
	}
	lead(t, b, true)
	lead(t, a, false)
	led(t, dir, b, a, b)

	must(t, b.Close())
	led(t, dir, nil, a)
	if b.Leading() {
		t.Fatal("closed, and leading")
	}
	lead(t, a, true)
}

func TestLead_AllAtOnce_OneHandleAtATime(t *testing.T) {
	o := options(t.TempDir())
	var leaders, terms atomic.Int32
	var wg sync.WaitGroup
	for range 3 {
		table := openTable(t, o)
		done := make(chan struct{})
		wg.Go(func() {
			defer close(done)
			for range 200 {
				leading, err := table.Lead()
				if err != nil {
					t.Error(err)
				}
				if !leading {
					continue
				}
				terms.Add(1)
				if n := leaders.Add(1); n != 1 || !table.Leading() {
					t.Errorf("%d lead", n)
				}
				leaders.Add(-1)
				if err := table.Resign(); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() { // another goroutine of the handle asks
			for {
				select {
				case <-done:
					return
				default:
					table.Steward()
					table.Leading()
				}
			}
		})
	}
	wg.Wait()
	if terms.Load() == 0 {
		t.Fatal("nobody ever led")
	}
}

func TestLead_ProcessKilled_AnotherLeads(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	c := start(t, "lead", dir)
	region := c.number()
	lead(t, table, false)
	if h, ok := table.Steward(); !ok || h.Region != region {
		t.Fatalf("the steward is %+v, %v, want region %d", h, ok, region)
	}
	must(t, c.cmd.Process.Signal(syscall.SIGSTOP)) // the stopped are not dead
	lead(t, table, false)
	c.kill()
	led(t, dir, nil, table)
	if table.stewardWord().Load() == 0 {
		t.Fatal("the dead has written")
	}
	lead(t, table, true)
	led(t, dir, table, table)
	c = start(t, "join", dir) // takes the dead one's region, or another
	c.hear()
	led(t, dir, table, table)
	c.finish()
}

// A new steward that has not written its name yet: the word is still the dead one's,
// or anything.
func TestSteward_WordOfTheDeadOrGarbage_NotBelieved(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	c := start(t, "lead", dir)
	c.number()
	c.kill()
	control, err := os.OpenFile(filepath.Join(table.Dir(), controlFile), os.O_RDWR, 0)
	must(t, err)
	defer control.Close()
	if ok, err := tryLock(control, layout.StewardByte); !ok || err != nil {
		t.Fatal(ok, err)
	}
	led(t, dir, nil, table)
	for _, word := range []uint64{
		0, 1, 1 << 63, ^uint64(0), table.token, uint64(table.generation+1)<<layout.LockGenerationShift | table.token&0xffffffff,
	} {
		table.stewardWord().Store(word)
		if h, ok := table.Steward(); ok {
			t.Errorf("word %#x makes %+v the steward", word, h)
		}
	}
}

func TestLead_DomainGone_TypedError(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	must(t, Destroy(limited(t), dir, "d"))
	_, err := table.Lead()
	mustFail(t, err, ErrDestroyed)
	must(t, table.Close())
	_, err = table.Lead()
	mustFail(t, err, ErrClosed)
	mustFail(t, table.Resign(), ErrClosed)
	if _, ok := table.Steward(); ok {
		t.Fatal("a closed handle knows a steward")
	}
}

func TestLead_ControlTruncated_CloseLetsGo(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	lead(t, table, true)
	control, err := os.OpenFile(filepath.Join(table.Dir(), controlFile), os.O_RDWR, 0)
	must(t, err)
	defer control.Close()
	must(t, control.Truncate(0))
	mustFail(t, table.Resign(), ErrFault)
	mustFail(t, table.Close(), ErrFault)
	if held, err := lockedByOthers(control, layout.StewardByte, 1); held || err != nil {
		t.Fatalf("held %v, %v", held, err)
	}
}

// next returns the next event of a kind, and fails on those of the kinds not to come.
func next(t *testing.T, events <-chan Event, kind EventKind) Event {
	t.Helper()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatalf("ended while waiting for %v", kind)
			}
			if e.Kind == kind {
				return e
			}
			if e.Kind == StewardChanged || e.Kind == Reopened {
				t.Fatalf("%v, want %v", e.Kind, kind)
			}
		case <-limited(t).Done():
			t.Fatalf("no %v", kind)
		}
	}
}

func TestWatch_StewardChanged(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	events := table.Watch(limited(t))
	next(t, events, Joined) // at the first look no steward, and no event
	c := start(t, "lead", dir)
	region := c.number()
	if e := next(t, events, StewardChanged); e.Steward == nil || e.Steward.Region != region {
		t.Fatalf("%+v", e)
	}
	late := inspected(t, dir).Watch(limited(t))
	if e := next(t, late, StewardChanged); e.Steward == nil || e.Steward.Region != region {
		t.Fatalf("%+v at the first look", e)
	}
	c.kill() // nobody rings
	if e := next(t, events, StewardChanged); e.Steward != nil {
		t.Fatalf("%+v after its death", e.Steward)
	}
	lead(t, table, true)
	if e := next(t, events, StewardChanged); e.Steward == nil || e.Steward.Region != table.Self() {
		t.Fatalf("%+v", e)
	}
	must(t, table.Resign())
	if e := next(t, events, StewardChanged); e.Steward != nil {
		t.Fatalf("%+v after it resigned", e.Steward)
	}
	if StewardChanged.String() != "steward" || Reopened.String() != "reopened" || Destroyed.String() != "destroyed" {
		t.Fatal("names")
	}
}

func TestWatch_Reopened(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	events := table.Watch(limited(t))
	e := publish(t, table, spec("x")).Entry()
	next(t, events, Published)
	for range 2 {
		now := drained(t, table, e)
		if got := next(t, events, Draining).Entry; *got != now {
			t.Fatalf("%+v, want %+v", got, now)
		}
		now, err := table.Reopen(now)
		must(t, err)
		if got := next(t, events, Reopened).Entry; *got != now {
			t.Fatalf("%+v, want %+v", got, now)
		}
	}
	must(t, table.Retire(e))
	next(t, events, Retired)
}

func TestSubscribe_EachHasItsOwn(t *testing.T) {
	o := options(t.TempDir())
	a, b := openTable(t, o), openTable(t, o)
	first, stopFirst := a.Subscribe()
	second, stopSecond := a.Subscribe()
	defer stopSecond()
	must(t, b.SetFlags(1, 0))
	for _, c := range []<-chan struct{}{first, second, a.C()} {
		select {
		case <-c:
		case <-limited(t).Done():
			t.Fatal("not woken")
		}
	}
	stopFirst()
	stopFirst()
	a.news.wake()
	if len(first) > 1 || len(second) != 1 {
		t.Fatalf("%d and %d looks", len(first), len(second))
	}
}

// A peer's ring is a call and no look; one's own is a look and no call.
func TestFollow_PeerCalls_OwnLooks(t *testing.T) {
	o := options(t.TempDir())
	a, b := openTable(t, o), openTable(t, o)
	called := make(chan struct{}, 100)
	looks, stop := a.Follow(func(uint64) { called <- struct{}{} })
	must(t, b.SetFlags(1, 0))
	select {
	case <-called:
	case <-limited(t).Done():
		t.Fatal("not called")
	}
	if len(looks) != 0 {
		t.Error("a look too")
	}
	must(t, a.SetFlags(2, 0))
	select {
	case <-looks:
	case <-limited(t).Done():
		t.Fatal("no look")
	}
	stop()
	a.news.wake()
	a.news.rung(0)
	if len(looks) != 0 || len(a.C()) != 1 {
		t.Errorf("%d and %d looks", len(looks), len(a.C()))
	}
}

func TestWakeMode_AsAskedFor(t *testing.T) {
	o := options(t.TempDir())
	for _, mode := range []signal.Mode{signal.ModeSignal, signal.ModeFutex, signal.ModePoll} {
		o.Wake = signal.Options{Mode: mode}
		table := openTable(t, o)
		if got := table.WakeMode(); got != mode.String() {
			t.Errorf("%q, want %q", got, mode)
		}
		must(t, table.Close())
		if got := table.WakeMode(); got != "poll" {
			t.Errorf("%q after Close", got)
		}
	}
}

// Whoever has the byte leads, whatever somebody's error makes of the word: who has
// succeeded meanwhile, as if the byte was a dead one's child's, steps down.
func TestLead_WordOverwritten_OneIsLeft(t *testing.T) {
	o := options(t.TempDir())
	a, b := openTable(t, o), openTable(t, o)
	if leading, err := a.Lead(); err != nil || !leading {
		t.Fatal(leading, err)
	}
	a.stewardWord().Store(0)
	eventually(t, "b takes the byte for a kept one", func() bool {
		leading, err := b.Lead()
		must(t, err)
		return leading
	})
	for i, want := range []bool{true, false} {
		if leading, err := []*Table{a, b}[i].Lead(); err != nil || leading != want {
			t.Errorf("handle %d leads: %v, %v", i, leading, err)
		}
	}
}
