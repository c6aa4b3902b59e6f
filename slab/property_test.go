package slab

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// model says what a slab must do, exactly.
type model struct {
	geo       Geometry
	wall, now uint64
	shards    []modelShard
}

type modelShard struct {
	modelOrder
	used           uint64
	turn, turnLeft uint64
	sequence       uint64
}

type modelRecord struct {
	modelKey
	value                          []byte
	expiry, stamp, turn, seq, need uint64
	uses                           int
}

// modelKey is a key, or an application's hash.
type modelKey struct {
	bytes  string
	byHash bool
	hash   uint64 // the application's, if byHash
	placed uint64
}

func newModel(s *Slab, w *world) *model {
	m := &model{geo: s.geo, wall: w.wall.Load(), now: w.now.Load(), shards: make([]modelShard, s.geo.Shards)}
	for i := range m.shards {
		m.shards[i].ghosts = make([][layout.GhostWays]uint16, s.geo.Ghosts)
	}
	return m
}

func (m *model) shardOf(k modelKey) *modelShard {
	return &m.shards[k.placed%uint64(len(m.shards))]
}

func (sh *modelShard) remove(r *modelRecord) {
	sh.used -= r.need
	sh.leave(r)
}

func (m *model) set(k modelKey, value []byte, expiry uint64) (full bool) {
	sh := m.shardOf(k)
	need, had := m.geo.cellsFor(uint64(len(k.bytes)+len(value))), uint64(0)
	old := sh.find(k)
	if old != nil {
		had = old.need
	}
	for need > had && sh.used+need-had > uint64(m.geo.Cells-m.geo.Reserve) {
		if m.geo.OnFull == Refuse {
			return true
		}
		victim := sh.victim(old)
		sh.remember(victim)
		sh.remove(victim)
	}
	sh.sequence++
	r := &modelRecord{k, value, expiry, m.now, sh.turn, sh.sequence, need, 0}
	if old != nil {
		sh.used -= had
		sh.replace(old, r)
	} else {
		sh.enter(r)
	}
	sh.used += need
	if sh.s3fifo() {
		return false
	}
	if sh.turnLeft == 0 {
		sh.turn++
		sh.turnLeft = uint64(m.geo.Cells)/layout.TurnsPerLap + 1
	}
	sh.turnLeft--
	return false
}

func (m *model) get(k modelKey) ([]byte, bool) {
	sh := m.shardOf(k)
	r := sh.find(k)
	if r == nil || m.expired(r) {
		return nil, false
	}
	r.stamp = max(r.stamp, m.now)
	sh.use(r)
	if r.turn != sh.turn {
		r.turn = sh.turn
		sh.forward(r)
	}
	return r.value, true
}

func (m *model) expired(r *modelRecord) bool { return r.expiry != 0 && r.expiry <= m.wall }

func (m *model) remove(k modelKey) bool {
	sh := m.shardOf(k)
	r := sh.find(k)
	if r == nil {
		return false
	}
	sh.remove(r)
	return !m.expired(r)
}

// all returns the records by last use, shard and version.
func (m *model) all() (all []*modelRecord) {
	for i := range m.shards {
		all = append(all, m.shards[i].records()...)
	}
	slices.SortFunc(all, func(a, b *modelRecord) int {
		shard := func(r *modelRecord) uint64 { return r.placed % uint64(len(m.shards)) }
		return cmp.Or(cmp.Compare(a.stamp, b.stamp), cmp.Compare(shard(a), shard(b)), cmp.Compare(a.seq, b.seq))
	})
	return all
}

// evict returns what may go, in order, and how many of that must.
func (m *model) evict(cutoff uint64, limit int) (old []*modelRecord, n int) {
	cutoff -= min(cutoff, layout.ClockSlackMillis)
	for _, r := range m.all() {
		if r.stamp < cutoff {
			old = append(old, r)
		}
	}
	return old, min(limit, len(old))
}

func (m *model) rebuild() {
	for i := range m.shards {
		m.shards[i].rebuild()
	}
}

// machine drives two handles on one slab and the model side by side.
type machine struct {
	*model
	w       *world
	handles [2]*Slab
	keys    []modelKey
	values  *rapid.Generator[[]byte]
}

func newMachine(t *rapid.T, tb testing.TB, o Options) *machine {
	w := newWorld()
	seg := newSegment(tb, o)
	m := &machine{w: w, handles: [2]*Slab{open(tb, seg, w.member(0)), open(tb, seg, w.member(1))}}
	s := m.handles[0]
	m.model = newModel(s, w)
	lengths := []int{0, 1, 2, 7, 8, 9, 15, 16, 17, 79, 80, 81, int(s.geo.MaxKey) - 1, int(s.geo.MaxKey)}
	for i, n := range lengths {
		for j := range 2 {
			k := strings.Repeat(string(rune('a'+j)), n)
			m.keys = append(m.keys, modelKey{bytes: k, placed: s.HashOf([]byte(k))})
		}
		var buf [8]byte
		h := s.HashKey(uint64(i), &buf)
		m.keys = append(m.keys, modelKey{string(h.bytes), true, uint64(i), h.hash})
	}
	m.keys = slices.Compact(m.keys)
	sizes := []int{0, 1, 8, 63, 64, 65, 80, 81, 183, 184, 185, int(s.geo.MaxValue) - 1, int(s.geo.MaxValue)}
	m.values = rapid.Custom(func(t *rapid.T) []byte {
		return bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, rapid.SampledFrom(sizes).Draw(t, "size"))
	})
	return m
}

func (m *machine) handle(t *rapid.T) *Slab { return rapid.SampledFrom(m.handles[:]).Draw(t, "handle") }
func (m *machine) key(t *rapid.T) modelKey { return rapid.SampledFrom(m.keys).Draw(t, "key") }

func (m *machine) Set(t *rapid.T) {
	s, k, v := m.handle(t), m.key(t), m.values.Draw(t, "value")
	expiry := rapid.SampledFrom([]uint64{0, 0, m.wall - 1, m.wall, m.wall + 1, m.wall + 50}).Draw(t, "expiry")
	var err error
	if k.byHash {
		err = s.SetHash(bg, k.hash, v, expiry)
	} else {
		err = s.Set(bg, []byte(k.bytes), v, expiry)
	}
	if full := m.set(k, v, expiry); full != errors.Is(err, ErrFull) || !full && err != nil {
		t.Fatalf("full %v, error %v", full, err)
	}
}

func (m *machine) Get(t *rapid.T) {
	s, k := m.handle(t), m.key(t)
	var v []byte
	var ok bool
	var err error
	prefix := []byte("prefix")
	if k.byHash {
		v, ok, err = s.GetHash(prefix, k.hash)
	} else {
		v, ok, err = s.Get(prefix, []byte(k.bytes))
	}
	want, there := m.get(k)
	if err != nil || ok != there || string(v) != "prefix"+string(want) {
		t.Fatalf("%q, %v, %v; want %q, %v", v, ok, err, want, there)
	}
}

func (m *machine) GetBatch(t *rapid.T) {
	s := m.handle(t)
	ks := rapid.SliceOfN(rapid.SampledFrom(m.keys).Filter(func(k modelKey) bool { return !k.byHash }), 0, 40).Draw(t, "keys")
	var keys [][]byte
	for _, k := range ks {
		keys = append(keys, []byte(k.bytes))
	}
	var b Batch
	if err := s.GetBatch(&b, keys); err != nil {
		t.Fatal(err)
	}
	hits := 0
	for i, k := range ks {
		want, there := m.get(k)
		v, ok := b.Value(i)
		if ok != there || !bytes.Equal(v, want) {
			t.Fatalf("key %d: %q, %v; want %q, %v", i, v, ok, want, there)
		}
		if ok {
			hits++
		}
	}
	if b.Len() != len(ks) || b.Hits() != hits {
		t.Fatalf("%d of %d, want %d of %d", b.Hits(), b.Len(), hits, len(ks))
	}
}

func (m *machine) Delete(t *rapid.T) {
	s, k := m.handle(t), m.key(t)
	var ok bool
	var err error
	if k.byHash {
		ok, err = s.DeleteHash(bg, k.hash)
	} else {
		ok, err = s.Delete(bg, []byte(k.bytes))
	}
	if want := m.remove(k); err != nil || ok != want {
		t.Fatalf("%v, %v; want %v", ok, err, want)
	}
}

func (m *machine) Clock(t *rapid.T) {
	m.now += rapid.Uint64Range(0, 60).Draw(t, "now")
	m.wall += rapid.Uint64Range(0, 60).Draw(t, "wall")
	m.w.now.Store(m.now)
	m.w.wall.Store(m.wall)
}

func (m *machine) Evict(t *rapid.T) {
	s := m.handle(t)
	cutoff := m.now + layout.ClockSlackMillis - rapid.Uint64Range(0, 200).Draw(t, "age")
	limit := rapid.SampledFrom([]int{-1, 0, 1, 2, 5, 1000}).Draw(t, "limit")
	old, n := m.evict(cutoff, limit)
	var got []Pair
	var err error
	pairs := rapid.Bool().Draw(t, "pairs")
	if pairs {
		got, err = s.EvictPairs(bg, cutoff, limit)
	} else {
		var hashes []uint64
		hashes, err = s.Evict(bg, cutoff, limit)
		for _, h := range hashes {
			got = append(got, Pair{Name: Name{Hash: h}})
		}
	}
	if err != nil || len(got) != max(n, 0) {
		t.Fatalf("%d evicted, %v; want %d", len(got), err, n)
	}
	// Which of several records of one age and different shards go first is open,
	// and so is their order.
	for i, p := range got {
		at := slices.IndexFunc(old, func(r *modelRecord) bool {
			return p.Hash == r.reported() && (!pairs || p.ByHash == r.byHash)
		})
		if at < 0 {
			t.Fatalf("record %d, hash %#x, may not go", i, p.Hash)
		}
		r := old[at]
		if r.stamp != old[0].stamp {
			t.Fatalf("record %d is of %d before one of %d", i, r.stamp, old[0].stamp)
		}
		if pairs && (string(p.Key) != r.bytes || !bytes.Equal(p.Value, r.value) || p.LastUse != r.stamp) {
			t.Fatalf("%+v, want %+v", p, *r)
		}
		old = slices.Delete(old, at, at+1)
		m.remove(r.modelKey)
	}
}

func (k modelKey) reported() uint64 {
	if k.byHash {
		return k.hash
	}
	return k.placed
}

func (m *machine) Rebuild(t *rapid.T) {
	if err := m.handle(t).Rebuild(bg); err != nil {
		t.Fatal(err)
	}
	m.rebuild()
}

func (m *machine) Scan(t *rapid.T) {
	left := m.all()
	err := m.handle(t).Scan(bg, func(r Record) bool {
		at := slices.IndexFunc(left, func(x *modelRecord) bool { return x.bytes == string(r.Key) && x.byHash == r.ByHash })
		if at < 0 {
			t.Fatalf("%q, by hash %v, comes twice or is not there", r.Key, r.ByHash)
		}
		x := left[at]
		if !bytes.Equal(r.Value, x.value) || r.Hash != x.reported() || r.LastUse != x.stamp || r.Expiry != x.expiry {
			t.Fatalf("%+v, want %+v", r, *x)
		}
		left = slices.Delete(left, at, at+1)
		return true
	})
	if err != nil || len(left) > 0 {
		t.Fatalf("%v, %d left out", err, len(left))
	}
}

func (m *machine) Check(t *rapid.T) {
	problems, err := m.handles[0].Check(bg)
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	st, err := m.handles[1].Stats()
	var records, cells, size uint64
	for _, r := range m.all() {
		records, cells, size = records+1, cells+r.need, size+uint64(len(r.bytes)+len(r.value))
	}
	if err != nil || st.Records != records || st.Cells != cells || st.Bytes != size || st.Dropped != 0 || st.Steals != 0 {
		t.Fatalf("%+v, %v; want %d records, %d cells, %d bytes", st, err, records, cells, size)
	}
}

func TestProperty_AnyOperations_ExactlyAsTheModel(t *testing.T) {
	for name, o := range map[string]Options{
		"evict":  {Entries: 30, Shards: 1, MaxKey: 100, MaxValue: 600},
		"refuse": {Entries: 30, Shards: 1, MaxKey: 100, MaxValue: 600, OnFull: Refuse},
		"shards": {Entries: 40, Shards: 4, MaxKey: 100, MaxValue: 300},
		"cells":  {Entries: 20, Shards: 2, MaxKey: 100, MaxValue: 200, CellSize: 64},

		"s3fifo":        {Entries: 30, Shards: 1, MaxKey: 100, MaxValue: 600, Order: S3FIFO},
		"s3fifo refuse": {Entries: 30, Shards: 1, MaxKey: 100, MaxValue: 600, Order: S3FIFO, OnFull: Refuse},
		"s3fifo shards": {Entries: 16, Shards: 2, MaxKey: 100, MaxValue: 200, Order: S3FIFO},
		"s3fifo cells":  {Entries: 20, Shards: 2, MaxKey: 100, MaxValue: 200, CellSize: 64, Order: S3FIFO},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) {
				m := newMachine(r, t, o)
				r.Repeat(map[string]func(*rapid.T){
					"Set": m.Set, "Set again": m.Set, "Set more": m.Set, "Get": m.Get, "Get again": m.Get, "GetBatch": m.GetBatch,
					"Delete": m.Delete, "Clock": m.Clock, "Evict": m.Evict, "Rebuild": m.Rebuild, "Scan": m.Scan, "": m.Check,
				})
			})
		})
	}
}

func TestEvict_ManyRecords_OldestFirstExactly(t *testing.T) {
	s, w := newSlab(t, Options{Entries: 10_000})
	const n = 5000
	base := w.now.Load()
	for i := range uint64(n) { // last uses in no order
		w.now.Store(base + mix(i)%1000)
		if err := s.Set(bg, key16(i), binary.LittleEndian.AppendUint64(nil, w.now.Load()), 0); err != nil {
			t.Fatal(err)
		}
	}
	cutoff := base + 500
	want := 0
	for i := range uint64(n) {
		if mix(i)%1000 < 500-layout.ClockSlackMillis {
			want++
		}
	}
	removed, last := 0, uint64(0)
	for {
		pairs, err := s.EvictPairs(bg, cutoff, 700)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pairs {
			use := binary.LittleEndian.Uint64(p.Value)
			if use != p.LastUse || use < last || use >= cutoff-layout.ClockSlackMillis || p.Hash != s.HashOf(p.Key) {
				t.Fatalf("%+v after %d", p, last)
			}
			last = use
		}
		if removed += len(pairs); len(pairs) < 700 {
			break
		}
	}
	if removed != want {
		t.Fatalf("%d removed, want %d", removed, want)
	}
	sound(t, s)
}

func TestScan_YieldSaysStop_Stops(t *testing.T) {
	s, _ := newSlab(t, Options{Entries: 100})
	for i := range uint64(50) {
		if err := s.Set(bg, key16(i), []byte(fmt.Sprint(i)), 0); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	if err := s.Scan(bg, func(Record) bool { seen++; return seen < 7 }); err != nil || seen != 7 {
		t.Fatal(seen, err)
	}
}
