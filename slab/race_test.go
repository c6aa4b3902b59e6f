package slab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/zeebo/xxh3"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// effort is how many operations a stress test does; FLAGSTONE_LONG=1 makes them longer.
func effort(n int) int {
	if os.Getenv("FLAGSTONE_LONG") != "" {
		return 20 * n
	}
	if testing.Short() {
		return n / 4
	}
	return n
}

// proof makes a value that says what it is: key, number, checksum, and a length
// that changes with the number, over one cell or several.
func proof(dst []byte, key, number uint64) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, key)
	dst = binary.LittleEndian.AppendUint64(dst, number)
	fill := mix(key ^ number<<32)
	for range number % 5 * 9 {
		fill = mix(fill + 1)
		dst = binary.LittleEndian.AppendUint64(dst, fill)
	}
	return binary.LittleEndian.AppendUint64(dst, xxh3.Hash(dst))
}

// prove checks a value made by proof and returns its number.
func prove(v []byte, key uint64) (number uint64, err error) {
	if len(v) < 24 {
		return 0, fmt.Errorf("torn: %d bytes", len(v))
	}
	body, sum := v[:len(v)-8], binary.LittleEndian.Uint64(v[len(v)-8:])
	number = binary.LittleEndian.Uint64(body[8:])
	switch {
	case xxh3.Hash(body) != sum:
		return number, fmt.Errorf("torn: checksum of %x", v)
	case binary.LittleEndian.Uint64(body) != key:
		return number, fmt.Errorf("value of key %d", binary.LittleEndian.Uint64(body))
	case uint64(len(body)) != 16+number%5*72:
		return number, fmt.Errorf("torn: %d bytes of number %d", len(body), number)
	}
	return number, nil
}

// floors hold the lowest number that a lookup of each key may still return: that
// of the last Set that returned and of all lookups that returned.
type floors []atomic.Uint64

func (f floors) raise(key, number uint64) {
	for old := f[key].Load(); old < number && !f[key].CompareAndSwap(old, number); old = f[key].Load() {
	}
}

// stress has writers give few keys new values over few cells, so that cells and
// slots are used again at once, readers that check every answer, and meddlers.
type stress struct {
	t          *testing.T
	stay       uint64 // keys 0..stay-1 are never deleted or evicted
	floor      floors
	done       chan struct{}
	wg         sync.WaitGroup
	busy, gets atomic.Uint64
}

// loop runs step in a goroutine until the writers are done.
func (st *stress) loop(step func(i int) error) {
	st.wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-st.done:
				return
			default:
			}
			if err := step(i); err != nil && !errors.Is(err, ErrBusy) {
				st.t.Error(err)
				return
			} else if err != nil {
				st.busy.Add(1)
			}
			runtime.Gosched() // a busy loop would keep a writer that waits from running
		}
	})
}

func (st *stress) look(key, floor uint64, v []byte, ok bool) error {
	st.gets.Add(1)
	if !ok {
		return fmt.Errorf("key %d missed, number %d was there", key, floor)
	}
	number, err := prove(v, key)
	if err != nil || number < floor {
		return fmt.Errorf("key %d: number %d after %d: %v", key, number, floor, err)
	}
	st.floor.raise(key, number)
	return nil
}

func (st *stress) reader(s *Slab) func(int) error {
	var dst []byte
	return func(i int) error {
		key := uint64(i) % st.stay
		floor := st.floor[key].Load()
		v, ok, err := s.Get(dst[:0], key16(key))
		if err != nil {
			return err
		}
		dst = v
		return st.look(key, floor, v, ok)
	}
}

func (st *stress) batchReader(s *Slab) func(int) error {
	var b Batch
	return func(int) error {
		var keys [][]byte
		var at []uint64
		for key := range st.stay {
			keys, at = append(keys, key16(key)), append(at, st.floor[key].Load())
		}
		if err := s.GetBatch(&b, keys); err != nil {
			return err
		}
		for key := range st.stay {
			v, ok := b.Value(int(key))
			if err := st.look(key, at[key], v, ok); err != nil {
				return err
			}
		}
		return nil
	}
}

func (st *stress) scanner(s *Slab) func(int) error {
	return func(int) error {
		seen := make([]int, st.stay)
		err := s.Scan(bg, func(r Record) bool {
			if key := binary.LittleEndian.Uint64(r.Key[8:]); key < st.stay {
				seen[key]++
				if _, err := prove(r.Value, key); err != nil {
					st.t.Error(err)
				}
			}
			return true
		})
		for key, n := range seen {
			if n != 1 && err == nil {
				return fmt.Errorf("scan yields key %d %d times", key, n)
			}
		}
		return err
	}
}

// more says whether a writer that has done i operations goes on: n are not
// enough while nobody has looked, as on a busy machine.
func (st *stress) more(i, n int) bool {
	return i < n || st.gets.Load() < uint64(n) && i < 500*n && !st.t.Failed()
}

// write gives the keys from..to numbers from 1 on, n times in all.
func (st *stress) write(s *Slab, from, to uint64, n int) {
	var v []byte
	for i := 0; st.more(i, n); i++ {
		key, number := from+uint64(i)%(to-from), uint64(i)/(to-from)+2
		v = proof(v[:0], key, number)
		if err := s.Set(bg, key16(key), v, 0); err != nil {
			st.t.Error(err)
			return
		}
		st.floor.raise(key, number)
	}
}

func newStress(t *testing.T, s *Slab, stay uint64) *stress {
	st := &stress{t: t, stay: stay, floor: make(floors, stay), done: make(chan struct{})}
	for key := range stay {
		if err := s.Set(bg, key16(key), proof(nil, key, 1), 0); err != nil {
			t.Fatal(err)
		}
		st.floor.raise(key, 1)
	}
	return st
}

// finish waits for the writers, ends the others and checks the slab.
func (st *stress) finish(s *Slab, writers *sync.WaitGroup) {
	writers.Wait()
	close(st.done)
	st.wg.Wait()
	sound(st.t, s)
	st.t.Logf("%d lookups, %d operations gave up", st.gets.Load(), st.busy.Load())
	if st.gets.Load() == 0 {
		st.t.Error("no lookup was sure")
	}
}

// twoHandles returns handles whose clocks differ: what old stamps is older than
// the cutoff of all evictions, what young stamps is not.
func twoHandles(t *testing.T, o Options) (old, young *Slab) {
	w := newWorld()
	seg := newSegment(t, o)
	m := w.member(0)
	old = open(t, seg, m)
	var now layout.Uint64
	now.Store(w.now.Load() + 8_000)
	young, err := Open(seg, Domain{Owner: w.member(1), Wall: &w.wall, Now: &now}, testID)
	if err != nil {
		t.Fatal(err)
	}
	return old, young
}

// Slot reuse hides a key, a value is seen before its
// slot is stored, freeing tears chained values.
func TestRace_HotKeysOverFewCells_NeverMissedTornOrOlder(t *testing.T) {
	for _, keys := range []uint64{1, 3} {
		t.Run(fmt.Sprint(keys, " keys"), func(t *testing.T) {
			_, s := twoHandles(t, Options{Entries: 16, Shards: 1, MaxValue: 400})
			st := newStress(t, s, keys)
			st.loop(st.reader(s))
			st.loop(st.reader(s))
			st.loop(st.batchReader(s))
			var writers sync.WaitGroup
			writers.Go(func() { st.write(s, 0, keys, quick*effort(12_000)) })
			st.finish(s, &writers)
		})
	}
}

// Rebuilds and scans between lookups of keys that stay.
func TestRace_RebuildEvictDeleteScan_KeysThatStayAreThere(t *testing.T) {
	old, young := twoHandles(t, Options{Entries: 200, Shards: 2, MaxValue: 400})
	const stay = 24
	st := newStress(t, young, stay)
	st.loop(st.reader(young))
	st.loop(st.batchReader(young))
	st.loop(st.scanner(young))
	cutoff := old.domain.Now.Load() + 4_000
	st.loop(func(i int) error { // evict what old has stamped
		pairs, err := old.EvictPairs(bg, cutoff, 5)
		for _, p := range pairs {
			if key := binary.LittleEndian.Uint64(p.Key[8:]); key < stay || p.LastUse >= cutoff {
				return fmt.Errorf("key %d, used %d, was evicted with cutoff %d", key, p.LastUse, cutoff)
			} else if _, err := prove(p.Value, key); err != nil {
				return err
			}
		}
		if i%8 == 0 {
			return old.Rebuild(bg)
		}
		return err
	})
	var writers sync.WaitGroup
	n := quick * effort(4_000)
	writers.Go(func() { st.write(young, 0, stay/2, n) })
	writers.Go(func() { st.write(young, stay/2, stay, n) })
	writers.Go(func() { // others come and go beside them
		random := rand.New(rand.NewPCG(1, 2))
		for i := 0; st.more(i, n); i++ {
			key := stay + random.Uint64N(40)
			var err error
			if random.IntN(3) == 0 {
				_, err = old.Delete(bg, key16(key))
			} else {
				err = old.Set(bg, key16(key), proof(nil, key, random.Uint64N(20)), 0)
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	st.finish(old, &writers)
}

// Keys of one bucket: chains of overflow buckets grow and shrink under lookups.
func TestRace_OverflowChains_KeysThatStayAreThere(t *testing.T) {
	_, s := twoHandles(t, Options{Entries: 100, Shards: 1, MaxValue: 8})
	hash := func(i uint64) uint64 { return s.place(i << 40) }
	const stay, others = 20, 60
	for i := range uint64(stay + others) { // those that stay lie between others
		if err := s.SetHash(bg, hash(i), []byte{byte(i)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	stays := func(i uint64) bool { return i%4 == 0 }
	st := &stress{t: t, stay: stay, done: make(chan struct{})}
	for range 2 {
		st.loop(func(i int) error {
			key := uint64(i) % stay * 4
			v, ok, err := s.GetHash(nil, hash(key))
			if err == nil && (!ok || v[0] != byte(key)) {
				return fmt.Errorf("record %d: %v, %v", key, v, ok)
			}
			st.gets.Add(1)
			return err
		})
	}
	var writers sync.WaitGroup
	writers.Go(func() {
		for i := 0; st.more(i*100, quick*effort(6_000)); i++ {
			for phase := range 2 {
				for key := range uint64(stay + others) {
					var err error
					switch {
					case stays(key) && i%4 != 0:
					case stays(key) || phase == 1:
						err = s.SetHash(bg, hash(key), []byte{byte(key)}, 0)
					default:
						_, err = s.DeleteHash(bg, hash(key))
					}
					if err != nil {
						t.Error(err)
					}
				}
			}
		}
	})
	st.finish(s, &writers)
}

// Capacity evictions beside replacements: a value is whole or not there.
func TestRace_FullSlab_NeverTornAndSound(t *testing.T) {
	eachOrder(t, checkRaceFullSlab)
}

func checkRaceFullSlab(t *testing.T, order Order) {
	old, young := twoHandles(t, Options{Entries: 60, Shards: 2, MaxValue: 400, Order: order})
	const keys = 200
	st := &stress{t: t, floor: make(floors, keys), stay: keys, done: make(chan struct{})}
	for _, s := range []*Slab{old, young} {
		st.loop(func(i int) error {
			key := mix(uint64(i)) % keys
			v, ok, err := s.Get(nil, key16(key))
			if ok && err == nil {
				_, err = prove(v, key)
			}
			st.gets.Add(1)
			return err
		})
	}
	var writers sync.WaitGroup
	for i, s := range []*Slab{old, young} {
		writers.Go(func() {
			for j := 0; st.more(j, quick*effort(6_000)); j++ {
				key := mix(uint64(j)<<1|uint64(i)) % keys
				if err := s.Set(bg, key16(key), proof(nil, key, uint64(j)), 0); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	st.finish(old, &writers)
}

func TestClose_WhileOperationsRun_ClosedAndNothingElse(t *testing.T) {
	w := newWorld()
	_, seg, _ := newFileSegment(t, Options{Entries: 1000, MaxValue: 400})
	s := open(t, seg, w.member(0))
	var wg sync.WaitGroup
	var started sync.WaitGroup
	for g := range 4 {
		started.Add(1)
		wg.Go(func() {
			for i := uint64(0); ; i++ {
				key := i % 50
				var err error
				if g%2 == 0 {
					err = s.Set(bg, key16(key), proof(nil, key, i), 0)
				} else {
					var v []byte
					var ok bool
					if v, ok, err = s.Get(nil, key16(key)); ok && err == nil {
						_, err = prove(v, key)
					}
				}
				if i == 100 {
					started.Done()
				}
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil && !errors.Is(err, ErrBusy) {
					t.Error(err)
					return
				}
			}
		})
	}
	started.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, op := range map[string]func() error{
		"Get":     func() error { _, _, err := s.Get(nil, nil); return err },
		"Set":     func() error { return s.Set(bg, nil, nil, 0) },
		"Delete":  func() error { _, err := s.Delete(bg, nil); return err },
		"Evict":   func() error { _, err := s.Evict(bg, 1<<40, 1); return err },
		"Scan":    func() error { return s.Scan(context.Background(), func(Record) bool { return true }) },
		"Stats":   func() error { _, err := s.Stats(); return err },
		"Holders": func() error { _, err := s.Holders(); return err },
		"Check":   func() error { _, err := s.Check(bg); return err },
		"Rebuild": func() error { return s.Rebuild(bg) },
		"Batch":   func() error { var b Batch; return s.GetBatch(&b, [][]byte{nil}) },
	} {
		if err := op(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A rebuild empties the index while a scan is in the middle of a chain.
func TestRace_RebuildsWhileAScanReadsLongChains_NothingIsLeftOut(t *testing.T) {
	rebuilder, scanner := twoHandles(t, Options{Entries: 1000, Shards: 1, MaxValue: 1000})
	const stay = 40
	for i := range uint64(stay) {
		must(t, rebuilder.SetHash(bg, rebuilder.place(i<<40), make([]byte, 1000), 0))
	}
	done := make(chan struct{})
	var rebuilds sync.WaitGroup
	rebuilds.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				if err := rebuilder.Rebuild(bg); err != nil {
					t.Error(err)
				}
				for range 5000 { // long enough for the scan to begin
					shm.Pause()
				}
			}
		}
	})
	for range effort(200) {
		seen := 0
		if err := scanner.Scan(bg, func(Record) bool { seen++; return true }); err != nil || seen != stay {
			t.Errorf("%d of %d, %v", seen, stay, err)
			break
		}
	}
	close(done)
	rebuilds.Wait()
}
