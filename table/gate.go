package table

import "sync"

// gate counts the calls that are inside a handle, so that Close can wait for them.
type gate struct {
	mu     sync.Mutex // guards the rest
	inside int
	shut   bool
	idle   chan struct{} // closed when shut and nobody is inside
}

func newGate() *gate { return &gate{idle: make(chan struct{})} }

// enter reports whether the gate is open; then leave has to follow.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.shut && g.inside == 0 {
		close(g.idle)
	}
}

// close shuts the gate and reports whether it was open.
func (g *gate) close() (first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	first = !g.shut
	g.shut = true
	if first && g.inside == 0 {
		close(g.idle)
	}
	return first
}
