package table

import (
	"context"
	"sync"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/signal"
)

// All goroutines of a handle get a dead region's lease alike. Two that reaped at
// once freed the region of a handle that had claimed it in between.
func TestReap_ManyGoroutinesOfOneHandle_LiveRegionsStay(t *testing.T) {
	o := Options{Dir: t.TempDir(), Name: "reap", Regions: 3, Wake: signal.Options{Mode: signal.ModePoll}}
	reaper, err := Open(context.Background(), o)
	must(t, err)
	defer reaper.Close()
	stop := make(chan struct{})
	var goroutines sync.WaitGroup
	for range 4 {
		goroutines.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = reaper.Reap()
				}
			}
		})
	}
	defer goroutines.Wait()
	defer close(stop)
	for round := range 300 {
		peer, err := Open(context.Background(), o)
		must(t, err)
		for range 50 {
			if w := peer.region.State.Load(); w != packed(peer.generation, layout.RegionClaimed) || reaper.Dead(peer.token) {
				t.Fatalf("round %d: state %#x of a living handle of generation %d", round, w, peer.generation)
			}
		}
		must(t, peer.listener.Close())
		must(t, peer.seg.Close())
		must(t, peer.control.Close()) // dies: its lease goes
		must(t, peer.dir.Close())
	}
}
