package testee

import (
	"os"
	"sync"
)

// tail keeps the end of what comes through a pipe.
type tail struct {
	from *os.File
	done chan struct{} // closed when everything has come

	mu   sync.Mutex
	kept []byte
}

const tailLength = 16 << 10

// newTail returns a tail, and the file to write to.
func newTail() (*tail, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	t := &tail{from: r, done: make(chan struct{})}
	go t.copy()
	return t, w, nil
}

func (t *tail) copy() {
	defer close(t.done)
	defer func() { _ = t.from.Close() }()
	b := make([]byte, 4096)
	for {
		n, err := t.from.Read(b)
		t.add(b[:n])
		if err != nil {
			return
		}
	}
}

func (t *tail) add(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	if over := len(t.kept) - tailLength; over > 0 {
		t.kept = append([]byte(nil), t.kept[over:]...)
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}
