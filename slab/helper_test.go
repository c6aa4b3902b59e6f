package slab

import (
	"context"
	"encoding/binary"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
)

var bg = context.Background()

// lockPatience ends waits that would hang a broken test.
const lockPatience = 20 * time.Second

// world stands in for a domain: clocks that tests turn, and who is dead.
type world struct {
	wall, now layout.Uint64
	mu        sync.Mutex // guards dead
	dead      map[uint64]bool
}

func newWorld() *world {
	w := &world{dead: map[uint64]bool{}}
	w.wall.Store(1_700_000_000_000)
	w.now.Store(1_000_000)
	return w
}

// member is one handle's view of a world.
type member struct {
	*world
	token uint64
}

func (w *world) member(region uint32) *member { return &member{w, lock.Token(region, 1)} }
func (m *member) domain() Domain              { return Domain{Owner: m, Wall: &m.wall, Now: &m.now} }
func (w *world) kill(m *member) {
	w.mu.Lock()
	w.dead[m.token] = true
	w.mu.Unlock()
}
func (m *member) Token() uint64 { return m.token }
func (m *member) Dead(token uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead[token]
}
func (*member) Ask(uint64) {}

var testID = Identity{SegmentID: 7, Domain: [2]uint64{1, 2}, HashSeed: 42}

// newSegment formats a slab on the heap.
func newSegment(t testing.TB, o Options) *shm.Segment {
	t.Helper()
	g, err := Plan(o)
	if err != nil {
		t.Fatal(err)
	}
	seg := shm.Heap(g.FileSize())
	if err := Format(seg, g, testID, 0); err != nil {
		t.Fatal(err)
	}
	return seg
}

func open(t testing.TB, seg *shm.Segment, m *member) *Slab {
	t.Helper()
	s, err := Open(seg, m.domain(), testID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newSlab(t testing.TB, o Options) (*Slab, *world) {
	w := newWorld()
	return open(t, newSegment(t, o), w.member(0)), w
}

func sound(t testing.TB, s *Slab) {
	t.Helper()
	problems, err := s.Check(bg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
}

func key16(i uint64) []byte {
	k := make([]byte, 16)
	binary.LittleEndian.PutUint64(k, mix(i+1))
	binary.LittleEndian.PutUint64(k[8:], i)
	return k
}

func mustGet(t testing.TB, s *Slab, k []byte, want string) {
	t.Helper()
	v, ok, err := s.Get(nil, k)
	if err != nil || !ok || string(v) != want {
		t.Fatalf("Get(%q) = %q, %v, %v; want %q", k, v, ok, err, want)
	}
}

func mustMiss(t testing.TB, s *Slab, k []byte) {
	t.Helper()
	if v, ok, err := s.Get(nil, k); ok || err != nil {
		t.Fatalf("Get(%q) = %q, %v, %v; want a miss", k, v, ok, err)
	}
}

func contextFor(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(bg, d)
}

// newFileSegment formats a slab in a file.
func newFileSegment(t testing.TB, o Options) (dir string, seg *shm.Segment, f *os.File) {
	t.Helper()
	dir = t.TempDir()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	g, err := Plan(o)
	if err != nil {
		t.Fatal(err)
	}
	seg, f, err = shm.Create(d, "slab", g.FileSize(), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); seg.Close() })
	if err := Format(seg, g, testID, 0); err != nil {
		t.Fatal(err)
	}
	return dir, seg, f
}
