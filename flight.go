package flagstone

import (
	"bytes"
	"sync"
	"time"
)

// flights are the keys that goroutines of this handle are loading or waiting for
// in other processes: one goes, the others join it.
type flights struct {
	mu    sync.Mutex // guards under way, and the counts of its flights
	inAir map[flightKey]*flight
}

type flight struct {
	until  time.Time     // from when on others need not wait for it
	joined int           // goroutines that may look at the result
	done   chan struct{} // closed when the result is there
	value  []byte        // nil if the key has to be looked up again
	err    error
}

// join returns the flight for a key; first says that the caller has to land it.
func (fs *flights) join(name flightKey, timeout time.Duration) (f *flight, first bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f = fs.inAir[name]; f != nil && time.Now().Before(f.until) {
		f.joined++
		return f, false
	}
	if fs.inAir == nil {
		fs.inAir = make(map[flightKey]*flight)
	}
	f = &flight{until: time.Now().Add(timeout), done: make(chan struct{})}
	fs.inAir[name] = f
	return f, true
}

// leave is for who does not wait for the result.
func (fs *flights) leave(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f.joined--
}

// land gives the result to those who joined. They get a copy, as the value may
// lie in its caller's memory.
func (fs *flights) land(name flightKey, f *flight, value []byte, err error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.inAir[name] == f { // not an overdue one that another has taken over from
		delete(fs.inAir, name)
	}
	if f.joined > 0 && value != nil {
		f.value = bytes.Clone(value)
	}
	f.err = err
	close(f.done)
}
