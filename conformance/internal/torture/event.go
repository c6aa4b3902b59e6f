package torture

import (
	"math"
	"sync/atomic"
	"time"
)

// moment is nanoseconds since the package began.
type moment int64

const never moment = math.MaxInt64

var (
	began     = time.Now()
	beganWall = began.UnixMilli()
)

func now() moment { return moment(time.Since(began)) }

// wall is the moment in wall time, in milliseconds.
func (m moment) wall() int64 { return beganWall + int64(m)/int64(time.Millisecond) }

// event is what a process did at some instant between two moments.
type event struct {
	life       uint64 // the process
	seq        uint64 // its commands are done in this order
	sent, done moment
}

// before reports whether a has happened before b for certain.
func (a *event) before(b *event) bool {
	return a.done < b.sent || a.life == b.life && a.seq < b.seq
}

// watermarks are, for each slot, when the burst was sent that it waits for.
type watermarks []atomic.Int64

// low returns a moment before which nothing that is not answered yet has begun, nor
// anything that is still to be sent.
func (w watermarks) low() moment {
	low := now()
	for i := range w {
		low = min(low, moment(w[i].Load()))
	}
	return low
}
