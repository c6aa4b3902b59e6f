package flagstone

import (
	"sync"
	"time"
)

// flights are the keys that goroutines of this handle are loading or waiting for
// in other processes: one goes, the others join it.
type flights struct {
	mu    sync.Mutex // guards inAir and its flights
	inAir map[string]*flight
}

type flight struct {
	until  time.Time     // from when on others need not wait for it
	joined int           // goroutines that may look at the result
	done   chan struct{} // closed when the result is there
	value  []byte        // if neither is set the key has to be looked up again
	err    error
}

// join returns the flight for a key; first says that the caller has to land it.
func (fs *flights) join(name string, timeout time.Duration) (f *flight, first bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f = fs.inAir[name]; f != nil && time.Now().Before(f.until) {
		f.joined++
		return f, false
	}
	if fs.inAir == nil {
		fs.inAir = make(map[string]*flight)
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

// part closes the flight to those who have not joined yet.
func (fs *flights) part(name string, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.remove(name, f)
}

// remove needs the lock. An overdue flight that another has taken over from is
// not there.
func (fs *flights) remove(name string, f *flight) {
	if fs.inAir[name] == f {
		delete(fs.inAir, name)
	}
}

// land gives the result to those who joined, if it is to be shared. They get a copy
// of the value, which may lie in its caller's memory.
func (fs *flights) land(name string, f *flight, value []byte, share bool, err error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.remove(name, f)
	switch {
	case !share || f.joined == 0:
	case err != nil:
		f.err = err
	default:
		f.value = append([]byte{}, value...)
	}
	close(f.done)
}
