package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/shm"
)

// MaxProcs is how many processes there may be at a time.
const MaxProcs = 64

const (
	counters = 16   // keys that all increment
	chains   = 8    // keys that all swap
	loads    = 32   // keys that all load
	links    = 8192 // the last so many swaps of a chain are known
	stops    = 64   // the last so many stops are known
	mostKeys = 128  // of a family and slot
)

// ledger is what the processes of a run know of each other, in shared memory.
type ledger struct {
	Over atomic.Uint64 // 1: close and end

	// Floors are, for each key with one writer, the number of the last write that was
	// acknowledged, or seen by anybody: nothing older may be found by who begins to look
	// now. The write under way, if any, is the next number.
	Floors [families][MaxProcs][mostKeys]atomic.Uint64

	// Increments of each counter: tried before the call, done after it.
	Tried, Done [MaxProcs][counters]atomic.Uint64

	Chains [chains]struct {
		Floor atomic.Uint64        // the last link that was acknowledged or seen
		Links [links]atomic.Uint64 // lap << 48 | who, of link n at n % links; lap is n / links + 1
	}
	Loads [loads]struct {
		Next  atomic.Uint64 // numbers given to loads
		Floor atomic.Uint64 // the highest that a lookup found
		By    atomic.Uint64 // who computes: slot << 56 | life
		Until atomic.Uint64 // when others may, too
	}

	// Dead says of each slot up to which of its lives all have ended, or are about to: it
	// is stored before the kill, so that whoever finds a dead one's lease free finds this.
	Dead [MaxProcs]atomic.Uint64

	NextStop atomic.Uint64
	Stops    [stops]struct {
		Began, Ended atomic.Uint64 // see now; an end of 0 is yet to come
		Slot         atomic.Uint64
		Holds        atomic.Uint64 // 1: it held a lock, or was where it may
	}
}

// raise lifts a word that only ever grows.
func raise(word *atomic.Uint64, to uint64) {
	for {
		old := word.Load()
		if old >= to || word.CompareAndSwap(old, to) {
			return
		}
	}
}

// holderStopped reports whether a process other than slot's, that may have held a lock,
// stood still at some time of the span, or had just gone on.
func (l *ledger) holderStopped(slot int, began, ended uint64) bool {
	const grace = uint64(100 * time.Millisecond) // until who goes on has the processor
	for i := range l.Stops {
		s := &l.Stops[i]
		from, to := s.Began.Load(), s.Ended.Load()
		if from != 0 && s.Holds.Load() == 1 && s.Slot.Load() != uint64(slot) && from <= ended && (to == 0 || to+grace >= began) {
			return true
		}
	}
	return false
}

// increments sums up a counter's increments over all slots.
func increments(of *[MaxProcs][counters]atomic.Uint64, counter int) (sum uint64) {
	for slot := range of {
		sum += of[slot][counter].Load()
	}
	return sum
}

// mapped maps the file as a T, making it if it is not there. It lasts as long as the
// process.
func mapped[T any](dir, name string, create bool) (*T, error) {
	size := uint64(reflect.TypeFor[T]().Size()+4095) &^ 4095
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(filepath.Join(dir, name), flags, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if create {
		if err := shm.Reserve(f, size); err != nil {
			return nil, fmt.Errorf("make %s: %w", f.Name(), err)
		}
	}
	segment, err := shm.Map(f, size)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", f.Name(), err)
	}
	kept = append(kept, segment)
	return shm.At[T](segment.Window(), 0), nil
}

// kept are the segments of this process: they go when they are not reachable.
var kept []*shm.Segment

// The kernel's monotonic clock, which is the same for all processes, by way of Go's,
// which costs less.
var (
	goStart     = time.Now()
	kernelStart = kernelNow()
)

func kernelNow() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for this clock
	return uint64(ts.Nano())
}

// now returns nanoseconds that processes can compare.
func now() uint64 { return kernelStart + uint64(time.Since(goStart)) }
