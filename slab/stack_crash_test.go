package slab

import (
	"fmt"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/lru"
)

// Deaths in the middle of what concerns two tiers, made by hand as in rebuild_test.go.

// stackTrio is a stack of three tiers with two members: one that will die and one
// that lives on.
func stackTrio(t *testing.T, order Order) (victim, other *Stack, dying *member, w *world) {
	t.Helper()
	w = newWorld()
	segments := stackSegments(t,
		Options{Entries: 40, Shards: 1, MaxKey: 32, MaxValue: 400, Order: order},
		Options{Entries: 50, Shards: 1, MaxKey: 32, MaxValue: 400, CellSize: 64, Order: order},
		Options{Entries: 60, Shards: 1, MaxKey: 32, MaxValue: 400, CellSize: 192, Order: order})
	dying = w.member(1)
	return openStack(t, dying, StackOptions{}, segments...), openStack(t, w.member(2), StackOptions{}, segments...), dying, w
}

// dieInColumn takes the lock of the key's column, does the steps, and leaves the lock
// to the dead.
func dieInColumn(t *testing.T, st *Stack, m *member, k *Key, steps func(col *column, f found)) {
	t.Helper()
	col := st.columnOf(k.hash)
	if _, err := col.top.mutex.Lock(bg); err != nil {
		t.Fatal(err)
	}
	f, err := col.find(k)
	must(t, err)
	steps(col, f)
	m.kill(m)
}

// put stores the value and brings the record to a tier.
func (st *Stack) putIn(t *testing.T, tier int, k, value []byte) (version uint64) {
	t.Helper()
	id := st.Key(k)
	version, _, err := st.Put(bg, id, &Item{Value: value, Tag: 7}, Anyhow)
	must(t, err)
	if tier > 0 {
		must(t, st.update(bg, st.columnOf(id.hash), func() error {
			col := st.columnOf(id.hash)
			f, err := col.find(&id)
			must(t, err)
			return col.move(f.record, id.hash, tier)
		}))
	}
	return version
}

// inTier stores a record in a tier as far as a step: odd, even, visible, in the order.
func inTier(t *testing.T, sh *shard, c *content, hash uint64, steps int) {
	t.Helper()
	at, extra, end, err := sh.vacant(hash)
	must(t, err)
	n, err := sh.fill(c)
	must(t, err)
	if steps == 1 {
		sh.cell(n).Version.Store(c.version | layout.VersionPart)
	}
	if steps <= 2 {
		return
	}
	if extra != 0 {
		end.Link.Store(extra)
	}
	at.store(hash>>layout.SlotTagShift<<layout.SlotTagShift | uint64(n))
	if steps == 3 {
		return
	}
	must(t, sh.order.Insert(n, hash))
	sh.written(c)
}

const insertSteps = 4

// outOf removes a record as far as a step: counted, odd, in no slot, not in the order,
// free.
func outOf(t *testing.T, s spot, steps int) {
	t.Helper()
	if steps > 0 && s.sh.lead != s.sh.head {
		s.sh.lead.Epoch.Add(layout.EpochRemoval)
	}
	if steps > 1 {
		s.header().Version.Store(s.header().Version.Load() | layout.VersionFree)
	}
	if steps > 2 {
		s.at.store(0)
	}
	if steps > 3 {
		must(t, s.sh.order.Remove(s.cell))
	}
	if steps > 4 {
		must(t, s.sh.reclaim(s.cell))
	}
}

const removeSteps = 5

func contentOf(t *testing.T, s spot) content {
	t.Helper()
	c := s.header()
	keyLen, valueLen, _, _ := s.sh.lengths(c)
	both, ok := s.sh.appendBytes(nil, s.cell, c.Version.Load(), 0, keyLen+valueLen)
	if !ok {
		t.Fatal("no whole record")
	}
	return content{
		version: c.Version.Load(), recency: lru.Recency(lru.Stamp(c.Recency.Load()), 0), expiry: c.Expiry.Load(),
		valueLength: c.ValueLength.Load(), keyFlags: c.KeyFlags.Load(), tag: c.UserTag.Load(), bytes: [2][]byte{both, nil},
	}
}

// stackHas says what a stack has under a key, without the lock.
func stackHas(t *testing.T, st *Stack, k, want []byte) {
	t.Helper()
	v, ok, err := st.Get(nil, k)
	if err != nil || ok != (want != nil) || string(v) != string(want) {
		t.Fatalf("%q, %v, %v; want %q", v, ok, err, want)
	}
}

// ends sees that the key is there once, and when it is deleted, or evicted, never again.
func ends(t *testing.T, st *Stack, k, want []byte, others uint64) {
	t.Helper()
	n := others
	if want != nil {
		n++
	}
	if got, err := st.Len(); got != n || err != nil {
		t.Fatalf("%d records, want %d: %v", got, n, err)
	}
	stackHas(t, st, k, want)
	gone, err := st.EvictTag(bg, 7, 1000)
	if err != nil || uint64(len(gone)) != n-others {
		t.Fatalf("%d evicted, %v; want %d", len(gone), err, n-others)
	}
	stackHas(t, st, k, nil)
	must(t, st.Rebuild(bg))
	stackHas(t, st, k, nil)
	soundStack(t, st)
	for i := range others {
		stackHas(t, st, key16(i), key16(i))
	}
}

func prepareOthers(t *testing.T, st *Stack) (n uint64) {
	t.Helper()
	for ; n < 12; n++ {
		must(t, st.Set(bg, key16(n), key16(n), 0))
		if n%3 > 0 {
			id := st.Key(key16(n))
			must(t, st.update(bg, st.columnOf(id.hash), func() error {
				f, err := st.columnOf(id.hash).find(&id)
				must(t, err)
				return st.columnOf(id.hash).move(f.record, id.hash, int(n%3))
			}))
		}
	}
	return n
}

var longValue = []byte(fmt.Sprintf("%0300d", 1))

func TestMove_DiesAfterAnyStep_FoundOnceWithItsVersion(t *testing.T) {
	eachOrder(t, func(t *testing.T, order Order) {
		for _, way := range [][2]int{{0, 1}, {0, 2}, {1, 2}, {1, 0}, {2, 1}, {2, 0}} {
			for step := range insertSteps + removeSteps + 1 {
				victim, other, dying, w := stackTrio(t, order)
				others := prepareOthers(t, victim)
				k := victim.Key([]byte("k"))
				version := victim.putIn(t, way[0], k.bytes, longValue)
				w.now.Add(500)
				dieInColumn(t, victim, dying, &k, func(col *column, f found) {
					c := contentOf(t, f.record)
					if step > 0 {
						inTier(t, col.tiers[way[1]], &c, k.hash, min(step, insertSteps))
					}
					outOf(t, f.record, step-insertSteps)
				})
				it, ok, err := other.Peek(nil, k) // without the lock
				if !ok || err != nil || string(it.Value) != string(longValue) || it.Version != version {
					t.Fatalf("%v, step %d: %v, %v", way, step, ok, err)
				}
				soundStack(t, other) // takes the lock from the dead
				it, ok, err = other.Peek(nil, k)
				if !ok || err != nil || string(it.Value) != string(longValue) || it.Version != version || it.Tag != 7 {
					t.Fatalf("%v, step %d: %v, %v", way, step, ok, err)
				}
				if gone, err := other.Evict(bg, w.now.Load()-400, 0); err != nil || len(gone) != 0 {
					t.Fatal(gone, err)
				}
				if st, err := other.Stats(); err != nil || st.Steals != 1 || st.Rebuilds != 1 || st.Dropped != 0 {
					t.Fatalf("%+v, %v", st, err)
				}
				ends(t, other, k.bytes, longValue, others)
			}
		}
	})
}

func TestSet_OverARecordBelowDiesAfterAnyStep_NewOnceVisibleOldNeverAgain(t *testing.T) {
	eachOrder(t, func(t *testing.T, order Order) {
		for below := 1; below <= 2; below++ {
			for step := range insertSteps + removeSteps + 1 {
				victim, other, dying, _ := stackTrio(t, order)
				others := prepareOthers(t, victim)
				k := victim.Key([]byte("k"))
				victim.putIn(t, below, k.bytes, longValue)
				value := []byte("new")
				dieInColumn(t, victim, dying, &k, func(col *column, f found) {
					c := col.top.next(&k, &Item{Value: value, Tag: 7}, 0)
					if step > 0 {
						inTier(t, col.top, &c, k.hash, min(step, insertSteps))
					}
					outOf(t, f.record, step-insertSteps)
				})
				before, after := longValue, longValue
				if step >= 3 { // visible
					before = value
				}
				if step >= 2 { // even: the rebuild keeps the higher version
					after = value
				}
				stackHas(t, other, k.bytes, before)
				soundStack(t, other)
				ends(t, other, k.bytes, after, others)
			}
		}
	})
}

func TestRemove_BelowDiesAfterAnyStep_GoneForGood(t *testing.T) {
	eachOrder(t, func(t *testing.T, order Order) {
		for tier := range 3 {
			for step := range removeSteps + 1 {
				victim, other, dying, _ := stackTrio(t, order)
				others := prepareOthers(t, victim)
				k := victim.Key([]byte("k"))
				victim.putIn(t, tier, k.bytes, longValue)
				dieInColumn(t, victim, dying, &k, func(col *column, f found) { outOf(t, f.record, step) })
				want := longValue
				if step > 1 {
					want = nil
				}
				stackHas(t, other, k.bytes, want)
				soundStack(t, other)
				ends(t, other, k.bytes, want, others)
			}
		}
	})
}

// The order's victim goes for good, from any tier.
func TestDrop_DiesAfterAnyStep_OthersStay(t *testing.T) {
	eachOrder(t, func(t *testing.T, order Order) {
		for tier := range 3 {
			for step := range removeSteps + 1 {
				victim, other, dying, _ := stackTrio(t, order)
				k := victim.Key([]byte("k"))
				victim.putIn(t, tier, k.bytes, longValue) // the oldest
				others := prepareOthers(t, victim)
				dieInColumn(t, victim, dying, &k, func(col *column, f found) {
					sh := col.tiers[tier]
					n, err := sh.order.Victim(0)
					if n != f.record.cell || err != nil {
						t.Fatal(n, err)
					}
					must(t, sh.order.Remember(n, k.hash))
					outOf(t, f.record, step)
				})
				want := longValue
				if step > 1 {
					want = nil
				}
				stackHas(t, other, k.bytes, want)
				soundStack(t, other)
				ends(t, other, k.bytes, want, others)
			}
		}
	})
}

// A rebuild dies: the next one begins again, in all tiers.
func TestRebuild_OfAColumnDiesHalfWay_BegunAgain(t *testing.T) {
	victim, other, dying, _ := stackTrio(t, LRU)
	others := prepareOthers(t, victim)
	k := victim.Key([]byte("k"))
	victim.putIn(t, 2, k.bytes, longValue)
	dieInColumn(t, victim, dying, &k, func(col *column, f found) {
		c := contentOf(t, f.record)
		inTier(t, col.tiers[1], &c, k.hash, insertSteps) // a move, up
		col.top.head.Epoch.Add(layout.EpochRebuilding)
		for _, sh := range col.tiers[:2] {
			sh.index.Zero(0, sh.index.Len())
			sh.order.Reset()
		}
	})
	v, ok, err := other.Get(nil, k.bytes) // takes the lock and rebuilds
	if string(v) != string(longValue) || !ok || err != nil {
		t.Fatal(ok, err)
	}
	soundStack(t, other)
	ends(t, other, k.bytes, longValue, others)
}

// Two copies under a lock that was left in order, as by a peer's error: whoever
// writes removes the lower one.
func TestWrite_TwoCopiesUnderTheLock_LowerGoesFirst(t *testing.T) {
	for name, op := range map[string]func(st *Stack, k Key) ([]byte, error){
		"Put": func(st *Stack, k Key) ([]byte, error) {
			_, _, err := st.Put(bg, k, &Item{Value: []byte("new"), Tag: 7}, Anyhow)
			return []byte("new"), err
		},
		"Remove": func(st *Stack, k Key) ([]byte, error) { _, err := st.Remove(bg, k); return nil, err },
		"Touch":  func(st *Stack, k Key) ([]byte, error) { _, err := st.Touch(bg, k, 0); return []byte("upper"), err },
		"Keep": func(st *Stack, k Key) ([]byte, error) {
			return st.Keep(bg, nil, k, &Item{Value: []byte("lower")})
		},
		"Claim": func(st *Stack, k Key) ([]byte, error) {
			v, _, _, _, err := st.Claim(bg, nil, k, 1<<40)
			return v, err
		},
		"Waiting": func(st *Stack, k Key) ([]byte, error) { v, _, err := st.GetWaiting(bg, nil, k); return v, err },
	} {
		t.Run(name, func(t *testing.T) {
			st, _, _, _ := stackTrio(t, LRU)
			others := prepareOthers(t, st)
			k := st.Key([]byte("k"))
			st.putIn(t, 2, k.bytes, []byte("lower"))
			must(t, st.update(bg, st.columnOf(k.hash), func() error {
				c := st.columnOf(k.hash).top.next(&k, &Item{Value: []byte("upper"), Tag: 7}, 0)
				inTier(t, st.columnOf(k.hash).tiers[1], &c, k.hash, insertSteps)
				return nil
			}))
			epoch := st.shardOf(k.hash).head.Epoch.Load()
			want, err := op(st, k)
			must(t, err)
			soundStack(t, st)
			if st.shardOf(k.hash).head.Epoch.Load() < epoch+layout.EpochRemoval {
				t.Error("not counted")
			}
			ends(t, st, k.bytes, want, others)
		})
	}
}
