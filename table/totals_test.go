//go:build linux

package table

import (
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/signal"
)

// die lets go of a handle as the death of its process does: everything but the
// lease stays as it is.
func (t *Table) die() error {
	if err := t.listener.Close(); err != nil {
		return err
	}
	t.shut()
	return t.detach()
}

// Handles count, close, die and are reaped; the totals are always the sum of all
// that was ever counted, for who takes part and who looks.
func TestTotals_AnyLives_SumOfAllThatWasCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "flagstone-test-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		o := Options{Dir: dir, Name: "d", Regions: 6, Wake: signal.Options{Mode: signal.ModePoll}}
		open := func() *Table {
			h, err := Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		handles := []*Table{open()}
		looking, err := Inspect(o)
		if err != nil {
			t.Fatal(err)
		}
		defer looking.Close()
		defer func() {
			for _, h := range handles {
				_ = h.Close()
			}
		}()
		var ended [32]uint64              // of handles that are no more
		counts := map[*Table][32]uint64{} // what each has counted
		pick := func() int { return rapid.IntRange(0, len(handles)-1).Draw(t, "handle") }
		end := func(how func(*Table) error) {
			i := pick()
			if len(handles) == 1 {
				return
			}
			h := handles[i]
			handles = append(handles[:i], handles[i+1:]...)
			for n, v := range counts[h] {
				ended[n] += v
			}
			delete(counts, h)
			if err := how(h); err != nil {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"open": func(*rapid.T) {
				if len(handles) < 6 { // the dead ones' regions are claimed
					handles = append(handles, open())
				}
			},
			"count": func(*rapid.T) {
				h, n := handles[pick()], rapid.IntRange(0, 31).Draw(t, "counter")
				c := counts[h]
				c[n] += rapid.Uint64Range(1, 1<<40).Draw(t, "more")
				counts[h] = c
				h.Count(n, c[n])
			},
			"close": func(*rapid.T) { end((*Table).Close) },
			"die":   func(*rapid.T) { end((*Table).die) },
			"reap": func(*rapid.T) {
				if _, err := handles[pick()].Reap(); err != nil {
					t.Fatal(err)
				}
			},
			"": func(*rapid.T) {
				want := ended
				for _, c := range counts {
					for n, v := range c {
						want[n] += v
					}
				}
				if got := handles[0].Totals(); got != want {
					t.Fatalf("totals %v, want %v", got, want)
				}
				if got := looking.collect(); got != want { // and not what it has told before
					t.Fatalf("an observer's totals %v, want %v", got, want)
				}
			},
		})
	})
}

func TestTotals_ProcessKilled_CountersAppear(t *testing.T) {
	dir := t.TempDir()
	h := openTable(t, options(dir))
	h.Count(layout.CounterHits, 5)
	c := start(t, "count", dir)
	c.hear()
	want := [32]uint64{layout.CounterHits: 105, layout.CounterMisses: 7, 31: 9}
	check := func(when string) {
		t.Helper()
		if got := h.Totals(); got != want {
			t.Fatalf("%s: %v, want %v", when, got, want)
		}
	}
	check("alive")
	c.kill()
	check("dead")
	if n, err := h.Reap(); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	check("reaped")
	if in := h.loadTotals()[layout.CounterHits]; in != 100 {
		t.Fatalf("%d hits in the header", in)
	}
	c = start(t, "count", dir)
	c.hear()
	c.finish()
	want = [32]uint64{layout.CounterHits: 205, layout.CounterMisses: 14, 31: 18}
	check("closed")
	must(t, h.Close())
	if got := h.Totals(); got != want {
		t.Fatalf("after Close: %v", got)
	}
	h = openTable(t, options(dir))
	check("all closed")
}

// A reaper that dies in the middle of folding leaves the rest to the next; the
// figure in its hands is lost, and none counts twice.
func TestTotals_ReaperDiesFolding_NothingTwice(t *testing.T) {
	dir := t.TempDir()
	h := openTable(t, options(dir))
	for at := range 6 {
		dead, err := Open(limited(t), options(dir))
		must(t, err)
		for n := range 4 {
			dead.Count(n, 10)
		}
		before := h.Totals() // the four are among them
		must(t, dead.die())
		r := h.regionAt(dead.self)
		r.State.Store(packed(dead.generation, layout.RegionReaping))
		if at == 5 { // only FREE was missing
			h.fold(dead.self)
		}
		for n := range at % 5 {
			if v := r.Counters[n].Swap(0); n < at%5-1 {
				h.totals()[n].Add(v)
			}
		}
		if n, err := h.Reap(); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		got := h.collect()
		for n := range 4 {
			want := before[n]
			if n == at%5-1 {
				want -= 10
			}
			if got[n] != want {
				t.Fatalf("died at %d: counter %d is %d, want %d", at, n, got[n], want)
			}
		}
		h.sums.told = [32]uint64{} // which is why a handle tells no less than before
	}
}

// Somebody looks all the while; what it is told never decreases, and is right in
// the end.
func TestTotals_HandlesComeAndGo_NeverDecrease(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	keeper := openTable(t, o)
	looking, err := Inspect(o)
	must(t, err)
	defer looking.Close()
	const workers, lives = 3, 25
	var working sync.WaitGroup
	for range workers {
		working.Go(func() {
			for range lives {
				h, err := Open(limited(t), o)
				if err != nil {
					t.Error(err)
					return
				}
				for n := range uint64(20) {
					h.Count(3, n+1)
				}
				end := h.Close
				if rand.IntN(2) == 0 {
					end = h.die
				}
				if err := end(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { working.Wait(); close(done) }()
	for before, over := uint64(0), false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		if _, err := keeper.Reap(); err != nil {
			t.Fatal(err)
		}
		now := looking.Totals()[3]
		if now < before || now > 20*workers*lives {
			t.Fatalf("%d after %d", now, before)
		}
		before = now
	}
	if sum := looking.Totals()[3]; sum != 20*workers*lives {
		t.Fatalf("%d in the end", sum)
	}
}
