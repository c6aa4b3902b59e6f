//go:build linux

package slab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// A reader in a process of its own is stopped wherever it is, again and again, and
// finds another slab when it goes on: each rule of a lookup is met at its worst
// moment, which goroutines side by side hardly ever do.

const readerVariable = "FLAGSTONE_TEST_READER"

// scene is what parent and child share beside the slab: words in the unused part
// of its header page.
type scene struct {
	*Slab
	floor    *layout.Uint64 // the lowest number that lookups may return
	progress *layout.Uint64 // lookups done
	key      uint64
	beside   uint64 // another key of the same bucket, before key in a rebuild
}

func newScene(s *Slab) *scene {
	w := s.seg.Window()
	return &scene{
		s, shm.At[layout.Uint64](w, layout.PageSize/2), shm.At[layout.Uint64](w, layout.PageSize/2+64),
		s.place(5 << 32), s.place(1 << 32),
	}
}

// readStopped is the child: it looks the key up until something is wrong.
func readStopped(dir string) error {
	s, err := openShared(dir, 1, 1)
	if err != nil {
		return err
	}
	c := newScene(s)
	dst := make([]byte, 0, 1024)
	cells := s.seg.Bytes()[s.geo.shardOffset()+s.geo.cellOffset():]
	for last := uint64(0); ; c.progress.Add(1) {
		// Without its pages mapped the lookup faults between slot and cell, and spends
		// most of its time there: that is where it will be stopped.
		if err := unix.Madvise(cells, unix.MADV_DONTNEED); err != nil {
			return err
		}
		floor := max(last, c.floor.Load())
		look := c.GetHash
		if c.progress.Load()%2 == 0 {
			look = c.wholeLookup
		}
		v, ok, err := look(dst, c.key)
		if errors.Is(err, ErrBusy) {
			continue
		}
		if err != nil || !ok {
			return fmt.Errorf("a key that was there all the time: found %v, %v", ok, err)
		}
		if last, err = prove(v, 0); err != nil || last < floor {
			return fmt.Errorf("number %d after %d: %v", last, floor, err)
		}
	}
}

// wholeLookup is GetHash without the short way.
func (c *scene) wholeLookup(dst []byte, hash uint64) ([]byte, bool, error) {
	var buf [8]byte
	return c.get(dst, c.HashKey(hash, &buf), &look{})
}

// Slot reuse, a value seen before its slot is stored, freed
// cells, rebuilds.
func TestStopped_ReaderAnywhere_NeverMissesTearsOrGoesBack(t *testing.T) {
	dir, _, _ := newFileSegment(t, Options{Entries: 100, Shards: 1, MaxValue: 400})
	slab, err := openShared(dir, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer slab.Close()
	s := newScene(slab)
	sh := &s.shards[0]
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	// Numbers choose lengths, see proof: mostly one cell, which is free and used
	// again at once.
	number, chained := uint64(0), false
	next := func() {
		if number++; !chained {
			number = (number + 4) / 5 * 5
		}
	}
	set := func() {
		next()
		if err := s.SetHash(bg, s.key, proof(nil, 0, number), 0); err != nil {
			t.Fatal(err)
		}
		s.floor.Store(number)
	}
	set()

	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+dir, readerVariable+"=1")
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}()
	signal := func(sig unix.Signal) {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	// looks waits for a few lookups; halt stops the child, stop only where it holds
	// no lock.
	looks := func() {
		deadline := time.Now().Add(lockPatience)
		for from := s.progress.Load(); s.progress.Load() < from+3; shm.Pause() {
			var status unix.WaitStatus
			if pid, _ := unix.Wait4(cmd.Process.Pid, &status, unix.WNOHANG, nil); pid != 0 || time.Now().After(deadline) {
				ended = pid != 0
				_ = cmd.Wait()
				t.Fatalf("the reader ends after %d sets: %s", number, complaint.String())
			}
		}
	}
	halt := func() {
		signal(unix.SIGSTOP)
		var status unix.WaitStatus
		_, err := unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil)
		for err == unix.EINTR {
			_, err = unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil)
		}
		if err != nil || !status.Stopped() {
			ended = true
			_ = cmd.Wait()
			t.Fatalf("the reader ends after %d sets: %v, %s", number, err, complaint.String())
		}
	}
	stop := func() {
		for {
			looks()
			for range random.IntN(200) {
				shm.Pause()
			}
			halt()
			if ownerless := sh.head.Lock.Load()&^layout.LockFlagMask == 0; ownerless {
				return
			}
			signal(unix.SIGCONT)
		}
	}
	for i := range min(quick*effort(80), 10_000) {
		stop()
		chained = random.IntN(5) == 0
		switch i % 4 {
		case 0: // the slot names the same cell again, which holds another value
			set()
			set()
		case 1:
			set()
		case 2: // a newer value is whole in the cell that the slot named, but in no slot
			set()
			err := s.update(bg, &s.columns[0], func() error {
				var buf [8]byte
				k := s.HashKey(s.key, &buf)
				next()
				record := sh.next(&k, &Item{Value: proof(nil, 0, number)}, sh.now.Load())
				if _, err := sh.fill(&record); err != nil {
					return err
				}
				signal(unix.SIGCONT)
				looks()
				halt()
				s.columns[0].rebuild() // as if its writer had died: now it counts
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			s.floor.Store(number)
		case 3: // the key changes its slot
			if _, err := s.DeleteHash(bg, s.beside); err != nil {
				t.Fatal(err)
			}
			if i%8 == 3 {
				if err := s.SetHash(bg, s.beside, nil, 0); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Rebuild(bg); err != nil {
				t.Fatal(err)
			}
		}
		signal(unix.SIGCONT)
	}
	looks()
	sound(t, slab)
	t.Logf("%d sets, %d lookups", number, s.progress.Load())
}
