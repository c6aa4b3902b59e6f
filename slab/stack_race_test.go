package slab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// arena is a directory of tiers under several members. A view is the member's, and
// made anew by whoever finds it stale.
type arena struct {
	t       *testing.T
	w       *world
	change  layout.Uint64
	mu      sync.Mutex // guards the directory
	shelves []*shelf
	members []*arenaMember
}

type arenaMember struct {
	*arena
	domain  Domain
	options StackOptions
	mu      sync.Mutex // guards slabs and the making of views
	slabs   map[*shelf]*Slab
	view    atomic.Pointer[Stack]
}

func newArena(t *testing.T, shapes ...Options) *arena {
	a := &arena{t: t, w: newWorld()}
	for _, o := range shapes {
		a.add(newSegment(t, o))
	}
	return a
}

// add publishes a tier: announced, then open.
func (a *arena) add(seg *shm.Segment) *shelf {
	s := &shelf{seg: seg}
	a.mu.Lock()
	a.shelves = append(slices.Clone(a.shelves), s)
	a.mu.Unlock()
	a.change.Add(1)
	s.state.Store(openState)
	return s
}

// join adds a member. Its clock runs ahead of the domain's by some milliseconds.
func (a *arena) join(o StackOptions, ahead uint64) *arenaMember {
	m := &arenaMember{arena: a, options: o, slabs: map[*shelf]*Slab{}}
	var now layout.Uint64
	now.Store(a.w.now.Load() + ahead)
	m.domain = Domain{Owner: a.w.member(uint32(len(a.members))), Wall: &a.w.wall, Now: &now}
	a.members = append(a.members, m)
	m.refresh()
	return m
}

func (m *arenaMember) refresh() *Stack {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.options
	o.Changes, o.Seen = &m.change, m.change.Load()
	if v := m.view.Load(); v != nil && v.Seen == o.Seen {
		return v
	}
	m.arena.mu.Lock()
	shelves := m.shelves
	m.arena.mu.Unlock()
	var tiers []Tier
	for i, s := range shelves {
		if m.slabs[s] == nil {
			var err error
			if i == 0 {
				m.slabs[s], err = Open(s.seg, m.domain, testID)
			} else {
				m.slabs[s], err = OpenBelow(s.seg, m.slabs[shelves[0]], testID)
			}
			if err != nil {
				m.t.Error(err)
				runtime.Goexit()
			}
		}
		tiers = append(tiers, Tier{m.slabs[s], &s.state, openState})
	}
	v := NewStack(o, tiers...)
	m.view.Store(v)
	return v
}

// do runs an operation until its view was not stale.
func (m *arenaMember) do(op func(st *Stack) error) error {
	for st := m.view.Load(); ; st = m.refresh() {
		if err := op(st); !errors.Is(err, ErrStale) {
			return err
		}
	}
}

// get is a lookup as applications do it: a miss in a view that was stale is none.
func (m *arenaMember) get(dst, k []byte) (v []byte, ok bool, err error) {
	for st := m.view.Load(); ; st = m.refresh() {
		v, ok, err = st.Get(dst, k)
		if ok || st.Seen == m.change.Load() || err != nil && !errors.Is(err, ErrStale) {
			return v, ok, err
		}
	}
}

// tier returns one of the view's slabs.
func (m *arenaMember) tier(st *Stack, i int) *Slab { return st.tiers[i%len(st.tiers)].Slab }

// chain says what may still be found of one key.
type chain struct {
	floor, gone atomic.Uint64 // numbers below floor, and up to gone, are never found again
}

// tierStress has readers check every answer while writers and movers are at work.
type tierStress struct {
	*arena
	keys       []chain
	done       chan struct{}
	wg         sync.WaitGroup
	gets, busy atomic.Uint64
}

func (s *tierStress) loop(step func(i int) error) {
	s.wg.Go(func() {
		for i := 0; !s.t.Failed(); i++ {
			select {
			case <-s.done:
				return
			default:
			}
			switch err := step(i); {
			case errors.Is(err, ErrBusy):
				s.busy.Add(1)
			case err != nil && !errors.Is(err, ErrFull) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrNotInStack):
				s.t.Error(err)
				return
			}
			runtime.Gosched()
		}
	})
}

// judge checks what a lookup of a key said, which began when floor and gone were so.
// Of a key that stays, which is every other one, there is no miss.
func (s *tierStress) judge(key, floor, gone uint64, v []byte, ok bool) error {
	s.gets.Add(1)
	if !ok {
		if key%2 == 0 {
			return fmt.Errorf("key %d missed, number %d was there", key, floor)
		}
		return nil
	}
	number, err := prove(v, key)
	if err != nil || number < floor || number <= gone {
		return fmt.Errorf("key %d: number %d after %d, %d and before having been deleted: %v", key, number, floor, gone, err)
	}
	c := &s.keys[key]
	for old := c.floor.Load(); old < number && !c.floor.CompareAndSwap(old, number); old = c.floor.Load() {
	}
	return nil
}

func (s *tierStress) reader(m *arenaMember) func(int) error {
	var dst []byte
	return func(i int) error {
		key := mix(uint64(i)) % uint64(len(s.keys))
		floor, gone := s.keys[key].floor.Load(), s.keys[key].gone.Load()
		v, ok, err := m.get(dst[:0], key16(key))
		if err != nil {
			return err
		}
		dst = v
		return s.judge(key, floor, gone, v, ok)
	}
}

func (s *tierStress) batchReader(m *arenaMember) func(int) error {
	var b Batch
	return func(int) error {
		var keys [][]byte
		var floors, gone []uint64
		for key := range s.keys {
			keys, floors, gone = append(keys, key16(uint64(key))), append(floors, s.keys[key].floor.Load()), append(gone, s.keys[key].gone.Load())
		}
		st := m.view.Load()
		if err := st.GetBatch(&b, keys); err != nil {
			return err
		}
		whole := st.Seen == m.change.Load()
		if !whole {
			m.refresh()
		}
		for key := range s.keys {
			if v, ok := b.Value(key); ok || whole {
				if err := s.judge(uint64(key), floors[key], gone[key], v, ok); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// scanner sees each key that stays exactly once.
func (s *tierStress) scanner(m *arenaMember) func(int) error {
	return func(int) error {
		seen := make([]int, len(s.keys))
		var at Position
		err := m.do(func(st *Stack) error {
			return st.ScanFrom(bg, &at, func(r Record) bool {
				key := binary.LittleEndian.Uint64(r.Key[8:])
				if key < uint64(len(s.keys)) {
					seen[key]++
				}
				if _, err := prove(r.Value, key); err != nil {
					s.t.Error(err)
				}
				return true
			})
		})
		for key := 0; key < len(seen) && err == nil; key += 2 {
			if seen[key] != 1 {
				return fmt.Errorf("scan yields key %d %d times", key, seen[key])
			}
		}
		return err
	}
}

func (s *tierStress) more(i, n int) bool {
	return !s.t.Failed() && (i < n || s.gets.Load() < uint64(n) && i < 100*n)
}

// writer gives the keys from one on in steps new numbers, and deletes those that need
// not stay now and then.
func (s *tierStress) writer(m *arenaMember, from, step uint64, n int) {
	var v []byte
	for i := 0; s.more(i, n); i++ {
		key := (from + uint64(i)*step) % uint64(len(s.keys))
		number := uint64(i) + 2
		c := &s.keys[key]
		if key%2 == 1 && i%3 == 0 {
			if err := m.do(func(st *Stack) error { _, err := st.Delete(bg, key16(key)); return err }); err != nil {
				s.t.Error(err)
				return
			}
			c.gone.Store(number)
			continue
		}
		v = proof(v[:0], key, number)
		if err := m.do(func(st *Stack) error { return st.Set(bg, key16(key), v, 0) }); err != nil {
			s.t.Error(err)
			return
		}
		for old := c.floor.Load(); old < number && !c.floor.CompareAndSwap(old, number); old = c.floor.Load() {
		}
	}
}

func newTierStress(a *arena, m *arenaMember, keys int) *tierStress {
	s := &tierStress{arena: a, keys: make([]chain, keys), done: make(chan struct{})}
	for key := range uint64(keys) {
		must(a.t, m.do(func(st *Stack) error { return st.Set(bg, key16(key), proof(nil, key, 1), 0) }))
		s.keys[key].floor.Store(1)
	}
	return s
}

func (s *tierStress) finish(m *arenaMember, writers *sync.WaitGroup) {
	writers.Wait()
	close(s.done)
	s.wg.Wait()
	st := m.refresh()
	soundStack(s.t, st)
	all, err := st.Stats()
	s.t.Logf("%d lookups, %d gave up; %d moves in the tiers there are, %v", s.gets.Load(), s.busy.Load(), all.MovedIn, err)
	if all.Rebuilds != 0 && !s.t.Failed() {
		s.t.Logf("%d rebuilds", all.Rebuilds)
	}
}

// mover moves records between random tiers.
func (s *tierStress) mover(m *arenaMember, random *rand.Rand) func(int) error {
	return func(int) error {
		return m.do(func(st *Stack) error {
			from, to := m.tier(st, random.IntN(8)), m.tier(st, random.IntN(8))
			if from == to {
				return nil
			}
			_, err := st.Move(bg, from, to, math.MaxUint64, 1+random.IntN(20))
			return err
		})
	}
}

func (s *tierStress) seed() *rand.Rand {
	seed := rand.Uint64()
	s.t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestRace_RecordsMoveUpAndDown_NeverMissedTornOrOlder(t *testing.T) {
	for _, shards := range []int{1, 4} {
		t.Run(fmt.Sprint(shards, " shards"), func(t *testing.T) {
			shape := func(entries uint64, cell int) Options {
				return Options{Entries: entries, Shards: shards, CellSize: cell, MaxKey: 16, MaxValue: 400}
			}
			a := newArena(t, shape(40, 128), shape(200, 64), shape(300, 192))
			one, other := a.join(StackOptions{Promote: true}, 0), a.join(StackOptions{Search: InOrder}, 0)
			s := newTierStress(a, one, 24)
			s.loop(s.reader(one))
			s.loop(s.reader(other))
			s.loop(s.batchReader(other))
			s.loop(s.scanner(one))
			s.loop(s.mover(one, s.seed()))
			s.loop(s.mover(other, s.seed()))
			var writers sync.WaitGroup
			n := quick * effort(3_000)
			writers.Go(func() { s.writer(one, 0, 3, n) }) // every third key each
			writers.Go(func() { s.writer(other, 1, 3, n) })
			s.finish(one, &writers)
		})
	}
}

// What has a tag goes, wherever it moves, and so does what Clear finds; what is newer
// stays. In the lower tiers others make room at the same time.
func TestRace_EvictionsBesideMoves_NothingLeftOut(t *testing.T) {
	shape := func(entries uint64) Options { return Options{Entries: entries, Shards: 2, MaxKey: 16, MaxValue: 400} }
	a := newArena(t, shape(30), shape(60), shape(80))
	one, other := a.join(StackOptions{Promote: true}, 0), a.join(StackOptions{}, 0)
	s := &tierStress{arena: a, keys: make([]chain, 0), done: make(chan struct{})}
	s.loop(s.mover(other, s.seed()))
	s.loop(s.mover(one, s.seed()))
	s.loop(func(i int) error { // promotes
		key := uint64(i) % 40
		v, ok, err := one.get(nil, key16(key))
		if ok {
			_, err = prove(v, key)
		}
		return err
	})
	var writers sync.WaitGroup
	writers.Go(func() {
		for round := range quick * effort(250) {
			for key := range uint64(30) {
				it := Item{Value: proof(nil, key, uint64(round)), Tag: uint32(1 + key%2)}
				if err := other.do(func(st *Stack) error { _, _, err := st.Put(bg, st.Key(key16(key)), &it, Anyhow); return err }); err != nil {
					t.Error(err)
					return
				}
			}
			err := other.do(func(st *Stack) error {
				if round%4 == 3 {
					return st.Clear(bg)
				}
				_, err := st.EvictTag(bg, 1, math.MaxInt)
				return err
			})
			if errors.Is(err, ErrBusy) {
				s.busy.Add(1)
				continue
			}
			if err != nil {
				t.Error(err)
				return
			}
			for key := range uint64(30) {
				if key%2 == 1 && round%4 != 3 {
					continue
				}
				if _, ok, err := other.get(nil, key16(key)); ok {
					t.Errorf("round %d: key %d is there: %v", round, key, err)
					return
				}
			}
		}
	})
	s.finish(one, &writers)
}

// Tiers come, are drained and go again.
func TestRace_TiersComeAndGo_NeverMissedTornOrOlder(t *testing.T) {
	shape := func(entries uint64) Options { return Options{Entries: entries, Shards: 2, MaxKey: 16, MaxValue: 400} }
	a := newArena(t, shape(40), shape(200))
	one, other := a.join(StackOptions{Promote: true}, 0), a.join(StackOptions{Search: InOrder}, 0)
	s := newTierStress(a, one, 24)
	s.loop(s.reader(one))
	s.loop(s.reader(other))
	s.loop(s.batchReader(one))
	s.loop(s.scanner(other))
	s.loop(s.mover(one, s.seed()))
	random := s.seed()
	var writers sync.WaitGroup
	n := quick * effort(3_000)
	writers.Go(func() { s.writer(one, 0, 3, n) })
	writers.Go(func() { s.writer(other, 1, 3, n) })
	retired := 0
	writers.Go(func() {
		steward := a.join(StackOptions{}, 0)
		for range quick * effort(60) {
			if a.t.Failed() {
				return
			}
			if len(a.shelves) < 3 || random.IntN(3) == 0 && len(a.shelves) < 5 {
				a.add(newSegment(t, shape(200)))
			}
			for range 20 {
				runtime.Gosched()
			}
			last := a.shelves[1+random.IntN(len(a.shelves)-1)]
			draining := last.state.Load()&^layout.EntryStateMask + 1<<layout.EntryDrainsShift&drainsMask | layout.EntryDraining
			last.state.Store(draining)
			a.change.Add(1)
			var empty bool
			steward.refresh()
			err := steward.do(func(st *Stack) (err error) { _, empty, err = st.Empty(bg, steward.slabs[last], 0); return err })
			if err != nil && !errors.Is(err, ErrFull) {
				t.Error(err)
				return
			}
			if !empty {
				last.state.Store(draining&^layout.EntryStateMask | layout.EntryOpen)
				a.change.Add(1)
				continue
			}
			last.state.Store(draining&^layout.EntryStateMask | layout.EntryRetired)
			a.mu.Lock()
			a.shelves = slices.DeleteFunc(slices.Clone(a.shelves), func(o *shelf) bool { return o == last })
			a.mu.Unlock()
			a.change.Add(1)
			retired++
		}
	})
	s.finish(one, &writers)
	t.Logf("%d tiers retired", retired)
	if retired == 0 {
		t.Error("no tier went")
	}
}

// A record that moves all the time is found by who removes by tag, or that says busy.
func TestEvictTag_RecordKeepsMoving_GoneOrBusy(t *testing.T) {
	shape := Options{Entries: 2000, Shards: 1, MaxKey: 16, MaxValue: 64}
	a := newArena(t, shape, shape, shape)
	one, other := a.join(StackOptions{}, 0), a.join(StackOptions{}, 0)
	st := one.view.Load()
	k := st.Key(key16(0))
	for tier := range 3 { // so that a search by cells takes a while
		for i := range uint64(1500) {
			st.putIn(t, tier, key16(10_000*uint64(tier+1)+i), nil)
		}
	}
	s := &tierStress{arena: a, done: make(chan struct{})}
	for _, m := range []*arenaMember{one, other} {
		st := m.view.Load()
		col := st.columnOf(k.hash)
		s.loop(func(i int) error {
			return st.update(bg, col, func() error {
				f, err := col.find(&k)
				for tier := range col.tiers {
					if err == nil && f.record.cell != 0 && f.record.sh == col.tiers[(tier+1)%3] {
						return col.move(f.record, k.hash, tier)
					}
				}
				return err
			})
		})
	}
	busy := 0
	for round := range effort(200) {
		_, _, err := st.Put(bg, k, &Item{Tag: 1}, Anyhow)
		must(t, err)
		if _, err := st.EvictTag(bg, 1, math.MaxInt); errors.Is(err, ErrBusy) {
			busy++
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := st.Get(nil, k.bytes); ok || err != nil {
			t.Errorf("round %d: it is there, %v", round, err)
			break
		}
	}
	close(s.done)
	s.wg.Wait()
	t.Logf("%d times busy", busy)
}
