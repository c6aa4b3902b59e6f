package slab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// claimModel says what claims must do, exactly, but for evictions, which it takes
// note of.
type claimModel struct {
	t       *rapid.T
	w       *world
	seg     func(m *member) *Slab
	members []*member // each with the handle of the same number
	handles []*Slab
	keys    []Key
	values  map[int]Item
	claims  map[int]Claim
	written map[int]uint64 // when the key was last set or deleted
	loads   []modelLoad    // all claims that were ever won
	step    uint64
	evicted uint64
}

type modelLoad struct {
	key            int
	version, began uint64
}

func newClaimModel(t *rapid.T, tb testing.TB, o Options, keys int) *claimModel {
	seg := newSegment(tb, o)
	m := &claimModel{
		t: t, w: newWorld(), seg: func(m *member) *Slab { return open(tb, seg, m) },
		values: map[int]Item{}, claims: map[int]Claim{}, written: map[int]uint64{},
	}
	for range 3 {
		m.join()
	}
	for i := range keys {
		k := m.handles[0].Key(key16(uint64(i)))
		switch i % 3 {
		case 1:
			k = m.handles[0].ScopedKey(key16(uint64(i)))
		case 2:
			k = m.handles[0].HashKey(uint64(i), new([8]byte))
		}
		m.keys = append(m.keys, k)
	}
	return m
}

func (m *claimModel) join() {
	p := m.w.member(uint32(len(m.members)))
	m.members, m.handles = append(m.members, p), append(m.handles, m.seg(p))
}

func (m *claimModel) alive(i int) bool { return !m.w.dead[m.members[i].token] }

// anybody draws a living member.
func (m *claimModel) anybody() int {
	return rapid.IntRange(0, len(m.handles)-1).Filter(m.alive).Draw(m.t, "member")
}

func (m *claimModel) anyKey() int { return rapid.IntRange(0, len(m.keys)-1).Draw(m.t, "key") }

func (m *claimModel) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// now returns the key's value, if it is good.
func (m *claimModel) now(k int) (Item, bool) {
	it, ok := m.values[k]
	return it, ok && (it.Expiry == 0 || it.Expiry > m.w.wall.Load())
}

// judged is the claim on a key as a member sees it.
func (m *claimModel) judged(k, by int) Claim {
	c := m.claims[k]
	me := m.members[by].token
	if c.State == Loading && (c.Deadline <= m.w.now.Load() || c.Owner != me && m.w.dead[c.Owner]) {
		return Claim{}
	}
	return c
}

func (m *claimModel) item() Item {
	m.step++
	return Item{
		Value:  fmt.Appendf(nil, "%d %s", m.step, strings.Repeat("x", rapid.SampledFrom([]int{0, 50, 300}).Draw(m.t, "length"))),
		Expiry: rapid.SampledFrom([]uint64{0, 0, m.w.wall.Load() + 30}).Draw(m.t, "expiry"),
		Stale:  uint16(rapid.IntRange(0, 1).Draw(m.t, "stale")),
	}
}

func (m *claimModel) Put(*rapid.T) {
	k, it := m.anyKey(), m.item()
	old, there := m.now(k)
	want := rapid.SampledFrom([]uint64{Anyhow, Anyhow, Absent, old.Version}).Draw(m.t, "want")
	expected := want == Anyhow || there && want == old.Version || !there && want == Absent
	version, stored, err := m.handles[m.anybody()].Put(bg, m.keys[k], &it, want)
	m.must(err)
	if stored != expected {
		m.t.Fatalf("stored %v, want %v", stored, expected)
	}
	if stored {
		it.Version = version
		m.values[k], m.written[k] = it, m.step
		delete(m.claims, k)
	}
}

func (m *claimModel) Remove(*rapid.T) {
	k := m.anyKey()
	m.step++
	_, there := m.now(k)
	found, err := m.handles[m.anybody()].Remove(bg, m.keys[k])
	m.must(err)
	if found != there {
		m.t.Fatalf("found %v, want %v", found, there)
	}
	m.written[k] = m.step
	delete(m.values, k)
	delete(m.claims, k)
}

func (m *claimModel) Clear(*rapid.T) {
	m.step++
	m.must(m.handles[m.anybody()].Clear(bg))
	clear(m.values)
	clear(m.claims)
	for k := range m.keys {
		m.written[k] = m.step
	}
}

func (m *claimModel) Claim(*rapid.T) {
	k, by := m.anyKey(), m.anybody()
	m.step++
	deadline := m.w.now.Load() + rapid.Uint64Range(0, 60).Draw(m.t, "timeout")
	value, ok, won, c, err := m.handles[by].Claim(bg, []byte("prefix"), m.keys[k], deadline)
	m.must(err)
	it, there := m.now(k)
	before := m.judged(k, by)
	held := before.State == Loading || before.State == Failed && before.Until > m.w.wall.Load()
	switch {
	case there:
		if !ok || won || string(value) != "prefix"+string(it.Value) {
			m.t.Fatalf("%q, %v, won %v; want %q", value, ok, won, it.Value)
		}
	case ok || won == held || string(value) != "prefix":
		m.t.Fatalf("value %v, won %v with %+v before", ok, won, before)
	case held:
		if c.State == Failed {
			c.Version = 0 // names nothing
		}
		if c != before {
			m.t.Fatalf("%+v, want %+v", c, before)
		}
	default:
		if want := (Claim{State: Loading, Version: c.Version, Owner: m.members[by].token, Deadline: deadline}); c != want {
			m.t.Fatalf("%+v, want %+v", c, want)
		}
		m.claims[k] = c
		m.loads = append(m.loads, modelLoad{k, c.Version, m.step})
	}
}

// end draws any load, a late one too, and ends it; it has to work if, and only if,
// its claim is there.
func (m *claimModel) end(do func(s *Slab, l modelLoad) error) (l modelLoad, done bool) {
	if len(m.loads) == 0 {
		return l, false
	}
	l = rapid.SampledFrom(m.loads[max(0, len(m.loads)-8):]).Draw(m.t, "load")
	m.step++
	there := m.claims[l.key].State == Loading && m.claims[l.key].Version == l.version
	err := do(m.handles[m.anybody()], l)
	if there && err != nil || !there && !errors.Is(err, ErrClaimLost) {
		m.t.Fatalf("%+v, claim there %v: %v", l, there, err)
	}
	if there {
		if m.written[l.key] > l.began {
			m.t.Fatalf("load begun at %d ends, the key was written at %d", l.began, m.written[l.key])
		}
		delete(m.claims, l.key)
	}
	return l, there
}

func (m *claimModel) Fill(*rapid.T) {
	it := m.item()
	l, done := m.end(func(s *Slab, l modelLoad) (err error) {
		it.Version, err = s.Fill(bg, m.keys[l.key], l.version, &it)
		return err
	})
	if done {
		m.values[l.key] = it
	}
}

func (m *claimModel) Release(*rapid.T) {
	m.end(func(s *Slab, l modelLoad) error { return s.Release(bg, m.keys[l.key], l.version) })
}

func (m *claimModel) Fail(*rapid.T) {
	text := strings.Repeat("e", rapid.SampledFrom([]int{0, 3, 200, 2000}).Draw(m.t, "text"))
	until := rapid.SampledFrom([]uint64{0, m.w.wall.Load() + 20}).Draw(m.t, "until")
	var owner uint64
	l, done := m.end(func(s *Slab, l modelLoad) error {
		owner = s.domain.Owner.Token()
		return s.Fail(bg, m.keys[l.key], l.version, text, until)
	})
	if done {
		text = text[:min(len(text), 1024, int(m.handles[0].geo.MaxValue)-layout.ClaimText)]
		m.claims[l.key] = Claim{State: Failed, Owner: owner, Ended: l.version, Until: until, Text: text}
	}
}

// TooLong fails and ends the claim.
func (m *claimModel) TooLong(*rapid.T) {
	it := Item{Value: make([]byte, m.handles[0].geo.MaxValue+1)}
	m.end(func(s *Slab, l modelLoad) error {
		_, err := s.Fill(bg, m.keys[l.key], l.version, &it)
		if !errors.Is(err, ErrValueTooLong) {
			m.t.Fatal(err)
		}
		if errors.Is(err, ErrClaimLost) {
			return err
		}
		return nil
	})
}

func (m *claimModel) Clock(*rapid.T) {
	m.w.now.Add(rapid.Uint64Range(0, 40).Draw(m.t, "now"))
	m.w.wall.Add(rapid.Uint64Range(0, 40).Draw(m.t, "wall"))
}

// Die lets a member die; another one joins.
func (m *claimModel) Die(*rapid.T) {
	m.w.kill(m.members[m.anybody()])
	m.join()
}

func (m *claimModel) Rebuild(*rapid.T) { m.must(m.handles[m.anybody()].Rebuild(bg)) }

// Check compares everything that can be seen.
func (m *claimModel) Check(*rapid.T) {
	by := m.anybody()
	s := m.handles[by]
	m.noteEvictions(s)
	problems, err := s.Check(bg) // among others: at most one claim a key
	if err != nil || len(problems) > 0 {
		m.t.Fatal(problems, err)
	}
	for k := range m.keys {
		it, there := m.now(k)
		v, ok, err := s.GetKey(nil, m.keys[k])
		if err != nil || ok != there || ok && !bytes.Equal(v, it.Value) {
			m.t.Fatalf("key %d: %q, %v, %v; want %q, %v", k, v, ok, err, it.Value, there)
		}
		old, has := m.values[k]
		servable := there || has && m.w.wall.Load() < old.Expiry+uint64(old.Stale)*1000
		v, ok, stale, err := s.GetStale(nil, m.keys[k])
		if err != nil || ok != servable || ok && (stale == there || !bytes.Equal(v, old.Value)) {
			m.t.Fatalf("key %d, stale: %q, %v, %v, %v; want %q, %v", k, v, ok, stale, err, old.Value, servable)
		}
		c, err := s.ClaimOf(m.keys[k])
		want := m.judged(k, by)
		if want.State == Failed {
			c.Version = 0 // names nothing
		}
		if err != nil || c != want {
			m.t.Fatalf("key %d: %+v, %v; want %+v", k, c, err, want)
		}
	}
}

// noteEvictions forgets what is there no more, if something was evicted.
func (m *claimModel) noteEvictions(s *Slab) {
	st, err := s.Stats()
	m.must(err)
	var n uint64
	for i := range s.shards {
		n += s.shards[i].head.EvictedFull.Load()
	}
	if n == m.evicted {
		return
	}
	m.evicted = n
	for k := range m.keys {
		f, err := s.shardOf(m.keys[k].hash).find(&m.keys[k])
		m.must(err)
		if f.record.cell == 0 {
			delete(m.values, k)
		}
		if f.claim.cell == 0 {
			delete(m.claims, k)
		}
	}
	if want := uint64(len(m.values) + len(m.claims)); st.Records != want {
		m.t.Fatalf("%d records, want %d", st.Records, want)
	}
}

func TestClaim_AnyOperations_ExactlyAsTheModel(t *testing.T) {
	for name, c := range map[string]struct {
		o    Options
		keys int
	}{
		"room":       {Options{Entries: 200, Shards: 2, MaxValue: 1500}, 6},
		"short text": {Options{Entries: 200, Shards: 1, MaxKey: 16, MaxValue: 320, CellSize: 64}, 3},
		"evictions":  {Options{Entries: 12, Shards: 1, MaxKey: 16, MaxValue: 400}, 9},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) {
				m := newClaimModel(r, t, c.o, c.keys)
				action := func(do func(*rapid.T)) func(*rapid.T) {
					return func(r *rapid.T) { m.t = r; do(r) }
				}
				r.Repeat(map[string]func(*rapid.T){
					"Put": action(m.Put), "Remove": action(m.Remove), "Clear": action(m.Clear),
					"Claim": action(m.Claim), "Claim again": action(m.Claim), "Claim more": action(m.Claim),
					"Fill": action(m.Fill), "Fill again": action(m.Fill), "Release": action(m.Release), "Fail": action(m.Fail),
					"TooLong": action(m.TooLong), "Clock": action(m.Clock), "Die": action(m.Die), "Rebuild": action(m.Rebuild),
					"": action(m.Check),
				})
			})
		})
	}
}

// claimed has the handle claim a key for long.
func mustClaim(t testing.TB, s *Slab, k Key) Claim {
	t.Helper()
	_, ok, won, c, err := s.Claim(bg, nil, k, s.domain.Now.Load()+1_000_000)
	if err != nil || ok || !won {
		t.Fatalf("value %v, won %v, %+v, %v", ok, won, c, err)
	}
	return c
}

// Every state in which Claim and Fill can be left by a death, and some of other
// implementations: the old value has expired, and the claimer is the one that dies.
func TestClaim_DiesAfterAnyStep_SoundAndTakenOver(t *testing.T) {
	endOnly := func(step int) func(t *testing.T, sh *shard, k *Key) {
		return func(t *testing.T, sh *shard, k *Key) {
			f, _ := sh.find(k)
			c := sh.cell(f.claim.cell)
			c.Version.Store(c.Version.Load() | layout.VersionFree)
			if step > 0 {
				f.claim.at.store(0)
			}
			if step > 1 {
				_ = sh.free(f.claim.cell)
			}
		}
	}
	claimOnly := func(t *testing.T, sh *shard, k *Key) (claim Key, n uint32) {
		claim = k.claim()
		c := Claim{State: Loading, Owner: sh.slab.domain.Owner.Token(), Deadline: 1 << 40}
		return claim, fillOnly(t, sh, &claim, string(c.bytes(layout.ClaimText)))
	}
	steps := []struct {
		name    string
		claimed bool // before
		steps   func(t *testing.T, sh *shard, k *Key)
		want    string // the value after the recovery; empty: it can be claimed
		still   bool   // the claim is there after the recovery
	}{
		{"claim: head odd", false, func(t *testing.T, sh *shard, k *Key) {
			_, n := claimOnly(t, sh, k)
			sh.cell(n).Version.Add(layout.VersionPart)
		}, "", false},
		{"claim: head even", false, func(t *testing.T, sh *shard, k *Key) { claimOnly(t, sh, k) }, "", true},
		{"claim: slot stored", false, func(t *testing.T, sh *shard, k *Key) {
			_, n := claimOnly(t, sh, k)
			at, _, _, _ := sh.vacant(k.hash)
			at.store(slotOf(k, n))
		}, "", true},
		{"claim: in place of an older one", true, func(t *testing.T, sh *shard, k *Key) { claimOnly(t, sh, k) }, "", true},
		{"claim: in place of the expired value", false, func(t *testing.T, sh *shard, k *Key) {
			f, _ := sh.find(k)
			_, n := claimOnly(t, sh, k)
			f.record.at.store(slotOf(k, n))
		}, "", true},
		{"nothing yet", true, func(*testing.T, *shard, *Key) {}, "", true},
		{"fill: claim odd", true, endOnly(0), "", false},
		{"fill: claim's slot empty", true, endOnly(1), "", false},
		{"fill: claim free", true, endOnly(2), "", false},
		{"fill: value even", true, func(t *testing.T, sh *shard, k *Key) {
			endOnly(2)(t, sh, k)
			fillOnly(t, sh, k, "new")
		}, "new", false},
		{"fill: value visible", true, func(t *testing.T, sh *shard, k *Key) {
			endOnly(2)(t, sh, k)
			f, _ := sh.find(k)
			f.record.at.store(slotOf(k, fillOnly(t, sh, k, "new")))
		}, "new", false},
		{"value visible, claim there", true, func(t *testing.T, sh *shard, k *Key) {
			f, _ := sh.find(k)
			f.record.at.store(slotOf(k, fillOnly(t, sh, k, "new")))
		}, "new", true},
		{"in the middle of a rebuild", true, func(t *testing.T, sh *shard, k *Key) {
			sh.head.Epoch.Store(sh.head.Epoch.Load() | layout.EpochRebuilding)
			sh.index.Zero(0, sh.index.Len())
		}, "", true},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			victim, other, dying, w := trio(t, Options{Entries: 50, Shards: 1, MaxValue: 1000})
			k := victim.Key([]byte("k"))
			if _, _, err := victim.Put(bg, k, &Item{Value: []byte("old"), Expiry: w.wall.Load(), Stale: 100}, Anyhow); err != nil {
				t.Fatal(err)
			}
			if step.claimed {
				mustClaim(t, victim, k)
			}
			dieHolding(t, victim, dying, []byte("k"), func(sh *shard, k *Key) { step.steps(t, sh, k) })
			if c, err := other.ClaimOf(k); c != (Claim{}) || err != nil && !errors.Is(err, ErrBusy) {
				t.Fatalf("a claim of the dead: %+v, %v", c, err)
			}
			sound(t, other) // takes the lock from the dead
			f, err := other.shards[0].find(&k)
			if err != nil || (f.claim.cell != 0) != step.still {
				t.Fatalf("claim there: %v, want %v, %v", f.claim.cell != 0, step.still, err)
			}
			if step.want != "" {
				mustGet(t, other, []byte("k"), step.want)
				if _, ok, won, _, err := other.Claim(bg, nil, k, 1<<40); !ok || won || err != nil {
					t.Fatal(ok, won, err)
				}
				return
			}
			mustMiss(t, other, []byte("k"))
			c := mustClaim(t, other, k)
			for late := c.Version - 1<<layout.VersionSequenceShift; late > 0 && late > c.Version-5<<layout.VersionSequenceShift; late -= 1 << layout.VersionSequenceShift {
				if _, err := other.Fill(bg, k, late, &Item{Value: []byte("late")}); !errors.Is(err, ErrClaimLost) {
					t.Fatalf("claim %#x: %v", late, err)
				}
			}
			if _, err := other.Fill(bg, k, c.Version, &Item{Value: []byte("new")}); err != nil {
				t.Fatal(err)
			}
			mustGet(t, other, []byte("k"), "new")
			sound(t, other)
			if st, _ := other.Stats(); st.Records != 1 || st.Dropped != 0 {
				t.Fatalf("%+v", st)
			}
		})
	}
}

// An operation that needs a rebuild begins again; its claim is not lost by that.
func TestFill_RebuildInBetween_FilledAndNotLost(t *testing.T) {
	for name, end := range map[string]func(s *Slab, k Key, version uint64) error{
		"Fill": func(s *Slab, k Key, version uint64) error {
			_, err := s.Fill(bg, k, version, &Item{Value: []byte("new")})
			return err
		},
		"Release": func(s *Slab, k Key, version uint64) error { return s.Release(bg, k, version) },
		"Fail":    func(s *Slab, k Key, version uint64) error { return s.Fail(bg, k, version, "text", 0) },
	} {
		s, _ := newSlab(t, Options{Entries: 50, Shards: 1})
		k := s.Key([]byte("k"))
		if err := s.Set(bg, []byte("other"), nil, 0); err != nil {
			t.Fatal(err)
		}
		c := mustClaim(t, s, k)
		// The claim's neighbour in the order points elsewhere: found out in the middle.
		f, _ := s.shards[0].find(&k)
		s.shards[0].cell(f.claim.cell).Next.Store(40)
		if err := end(s, k, c.Version); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if st, _ := s.Stats(); st.Rebuilds != 1 {
			t.Fatalf("%s: %d rebuilds: this test has lost its point", name, st.Rebuilds)
		}
		sound(t, s)
		if name == "Fill" {
			mustGet(t, s, []byte("k"), "new")
		}
		if now, err := s.ClaimOf(k); err != nil || now.State == Loading {
			t.Fatalf("%s: %+v, %v", name, now, err)
		}
	}
}

func TestClaim_FullAndRefuse_ExpiredValueMakesRoom(t *testing.T) {
	s, w := newSlab(t, Options{Entries: 20, Shards: 1, MaxKey: 16, MaxValue: 400, OnFull: Refuse})
	old := s.Key([]byte("old"))
	if _, _, err := s.Put(bg, old, &Item{Value: make([]byte, 200), Expiry: w.wall.Load() + 1}, Anyhow); err != nil {
		t.Fatal(err)
	}
	fill := func() {
		for i := uint64(0); ; i++ {
			if err := s.Set(bg, key16(i), nil, 0); errors.Is(err, ErrFull) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	fill()
	if _, _, won, _, err := s.Claim(bg, nil, s.Key([]byte("new")), 1<<40); won || !errors.Is(err, ErrFull) {
		t.Fatalf("won %v, %v", won, err)
	}
	w.wall.Add(1)
	c := mustClaim(t, s, old)
	sound(t, s)
	if _, err := s.Fill(bg, old, c.Version, &Item{Value: make([]byte, 200)}); err != nil {
		t.Fatal(err)
	}
	// What does not fit has ended its claim.
	if _, err := s.Remove(bg, old); err != nil {
		t.Fatal(err)
	}
	c = mustClaim(t, s, old)
	fill()
	if _, err := s.Fill(bg, old, c.Version, &Item{Value: make([]byte, 400)}); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if now, err := s.ClaimOf(old); err != nil || now != (Claim{}) {
		t.Fatalf("%+v, %v", now, err)
	}
	// An error that has no room loses its text and nothing else.
	c = mustClaim(t, s, old)
	fill()
	if err := s.Fail(bg, old, c.Version, strings.Repeat("x", 300), 1<<60); err != nil {
		t.Fatal(err)
	}
	if now, err := s.ClaimOf(old); err != nil || now.State != Failed || now.Ended != c.Version || now.Text != "" {
		t.Fatalf("%+v, %v", now, err)
	}
	sound(t, s)
}

// Values loaded before Clear must not survive it, however they interleave.
func TestClear_LoadsUnderWay_Refused(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 3 * clearStride, Shards: 1})
	var stop atomic.Bool
	var wg sync.WaitGroup
	var db atomic.Uint64
	for g := range 4 {
		wg.Go(func() {
			for i := uint64(0); !stop.Load(); i++ {
				var fills []func() error // several loads at a time
				for j := range uint64(8) {
					k := s.Key(key16(uint64(g)<<32 | (i*8+j)%500))
					_, _, won, c, err := s.Claim(bg, nil, k, 1<<40)
					if err != nil {
						t.Error(err)
						return
					}
					if !won {
						continue
					}
					it := Item{Value: binary.LittleEndian.AppendUint64(nil, db.Load())}
					fills = append(fills, func() error { _, err := s.Fill(bg, k, c.Version, &it); return err })
				}
				for _, fill := range fills {
					if err := fill(); err != nil && !errors.Is(err, ErrClaimLost) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for range effort(200) {
		old := db.Add(1)
		if err := s.Clear(bg); err != nil {
			t.Fatal(err)
		}
		if err := s.Scan(bg, func(r Record) bool {
			if n := binary.LittleEndian.Uint64(r.Value); n < old {
				t.Errorf("a value of %d after %d was cleared", n, old)
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	sound(t, s)
}

func TestClaim_HostileValue_AtWorstNoClaim(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(r, "value")
		if len(b) > 8 && rapid.Bool().Draw(r, "plausible") {
			binary.LittleEndian.PutUint64(b, rapid.Uint64Range(0, 3).Draw(r, "state"))
		}
		s, _ := newSlab(t, Options{Entries: 50, Shards: 1, MaxValue: 2000})
		k := s.Key([]byte("k"))
		ck := k.claim()
		var version uint64
		if err := s.update(bg, &s.columns[0], func() (err error) {
			version, err = s.columns[0].write(&ck, &Item{Value: b}, spot{})
			return err
		}); err != nil {
			r.Fatal(err)
		}
		if c, err := s.ClaimOf(k); err != nil || c.State != Unclaimed && len(b) < layout.ClaimText {
			r.Fatalf("%+v, %v", c, err)
		}
		if _, ok, _, _, err := s.Claim(bg, nil, k, 1<<40); ok || err != nil {
			r.Fatal(ok, err)
		}
		_ = s.Fail(bg, k, version, "text", 0)
		if _, _, err := s.Put(bg, k, &Item{Value: []byte("v")}, Anyhow); err != nil {
			r.Fatal(err)
		}
		mustGet(t, s, []byte("k"), "v")
		sound(t, s)
	})
}

// claimEverything does each operation on claims once and returns what damage does
// not excuse.
func claimEverything(ctx context.Context, s *Stack, random *rand.Rand) error {
	k := s.Key(key16(random.Uint64N(60)))
	_, err1 := s.ClaimOf(k)
	_, _, won, c, err2 := s.Claim(ctx, nil, k, random.Uint64())
	var err3 error
	if won {
		switch random.IntN(4) {
		case 0:
			_, err3 = s.Fill(ctx, k, c.Version, &Item{Value: make([]byte, random.IntN(400))})
		case 1:
			err3 = s.Release(ctx, k, c.Version)
		case 2:
			err3 = s.Fail(ctx, k, c.Version, "text", random.Uint64())
		}
	}
	for _, err := range []error{err1, err2, err3} {
		if !tolerable(err) && !errors.Is(err, ErrClaimLost) {
			return err
		}
	}
	return nil
}

// Loaders, writers, deleters and readers of few keys: one loads at a time, and no
// value is older than the last time the key was written.
func TestRace_ClaimsBesideSetsAndDeletes_OneLoaderAndNothingOld(t *testing.T) {
	w := newWorld()
	seg := newSegment(t, Options{Entries: 100, Shards: 1, MaxValue: 400})
	handles := []*Slab{open(t, seg, w.member(0)), open(t, seg, w.member(1))}
	const keys = 2
	var db, valid [keys]atomic.Uint64 // what a load would read; what it must at least have read to be shown
	st := &stress{t: t, floor: make(floors, keys), stay: keys, done: make(chan struct{})}
	for _, s := range handles {
		for range 2 {
			st.loop(func(i int) error {
				n := uint64(i) % keys
				k := s.Key(key16(n))
				_, ok, won, c, err := s.Claim(bg, nil, k, 1<<40)
				if err != nil || ok || !won {
					return err
				}
				number := db[n].Load()
				runtime.Gosched()
				if i%5 == 0 {
					err = s.Release(bg, k, c.Version)
				} else {
					_, err = s.Fill(bg, k, c.Version, &Item{Value: proof(nil, n, number)})
				}
				if errors.Is(err, ErrClaimLost) {
					err = nil
				}
				return err
			})
		}
		st.loop(func(i int) error {
			n := uint64(i) % keys
			floor := valid[n].Load()
			v, ok, err := s.Get(nil, key16(n))
			if err != nil || !ok {
				return err
			}
			st.gets.Add(1)
			if number, err := prove(v, n); err != nil || number < floor {
				return fmt.Errorf("key %d: number %d after %d: %v", n, number, floor, err)
			}
			_, err = s.ClaimOf(s.Key(key16(n)))
			return err
		})
	}
	var writers sync.WaitGroup
	writers.Go(func() {
		for i := 0; st.more(i, quick*effort(3000)); i++ {
			n := uint64(i) % keys
			s := handles[i/2%2]
			number := db[n].Add(1)
			var err error
			if i%3 == 0 {
				err = s.Set(bg, key16(n), proof(nil, n, number), 0)
			} else {
				_, err = s.Delete(bg, key16(n))
			}
			if err != nil {
				t.Error(err)
				return
			}
			valid[n].Store(number)
		}
	})
	st.finish(handles[0], &writers)
}

// With deadlines that never come and nobody who writes, loaders exclude each other.
func TestRace_ClaimsOnly_OneLoaderAtATime(t *testing.T) {
	w := newWorld()
	seg := newSegment(t, Options{Entries: 100, Shards: 1})
	handles := []*Slab{open(t, seg, w.member(0)), open(t, seg, w.member(1))}
	var inside, loads atomic.Int64
	var wg sync.WaitGroup
	for g := range 4 {
		s := handles[g%2]
		wg.Go(func() {
			k := s.Key([]byte("k"))
			for i := range quick * effort(1000) {
				_, _, won, c, err := s.Claim(bg, nil, k, 1<<40)
				if err != nil {
					t.Error(err)
					return
				}
				if !won {
					runtime.Gosched()
					continue
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d loaders", n)
				}
				loads.Add(1)
				runtime.Gosched()
				inside.Add(-1)
				if i%2 == 0 {
					err = s.Release(bg, k, c.Version)
				} else {
					err = s.Fail(bg, k, c.Version, "text", 0)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d loads", loads.Load())
	if loads.Load() == 0 {
		t.Fatal("nobody ever loaded")
	}
}
