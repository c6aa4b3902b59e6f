//go:build linux

package table

import (
	"context"
	"sync"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/signal"
)

// All goroutines of a handle get a dead region's lease alike, so one reaps at a
// time: two at once freed the region of a handle that had claimed it in between.
func TestReap_AnotherGoroutineReaping_WaitsItsTurn(t *testing.T) {
	o := Options{Dir: t.TempDir(), Name: "reap", Wake: signal.Options{Mode: signal.ModePoll}}
	open := func() *Table {
		h, err := Open(context.Background(), o)
		must(t, err)
		return h
	}
	reaper, victim := open(), open()
	defer reaper.Close()
	dead := victim.self
	must(t, victim.listener.Close())
	must(t, victim.seg.Close())
	must(t, victim.control.Close()) // dies: its lease goes
	must(t, victim.dir.Close())

	state := func() uint32 { return uint32(reaper.regionAt(dead).State.Load()) }
	reaper.reaping.Lock() // a goroutine is reaping
	finish := sync.OnceFunc(reaper.reaping.Unlock)
	defer finish()
	reaped := make(chan int)
	go func() {
		n, err := reaper.Reap()
		if err != nil {
			t.Error(err)
		}
		reaped <- n
	}()
	for range 20 { // each takes far longer than a reap
		must(t, open().Close())
		if s := state(); s != layout.RegionClaimed {
			t.Fatalf("reaped while another goroutine was at it: state %d", s)
		}
	}
	finish()
	if n := <-reaped; n != 1 || state() != layout.RegionFree {
		t.Fatalf("reaped %d, state %d", n, state())
	}
}
