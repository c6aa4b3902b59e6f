package slab

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
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
	counts    Stats // those that only grow
	own       Counters
}

type modelShard struct {
	modelOrder
	used           uint64
	turn, turnLeft uint64
	sequence       uint64
	ageLast        uint64
}

type modelRecord struct {
	modelKey
	Item
	stamp, turn, need uint64
	uses              int
}

// modelKey is a key of any kind.
type modelKey struct {
	bytes  string
	flags  uint32
	placed uint64
}

func (k modelKey) key() Key { return Key{[]byte(k.bytes), k.flags, k.placed} }

// inner reports whether the key is only used by the library.
func (k modelKey) inner() bool { return k.flags&layout.FlagNamespace != 0 }

// name is what the slab calls it.
func (k modelKey) name() Name {
	n := Name{Key: []byte(k.bytes), Hash: k.placed}
	switch k.flags {
	case layout.FlagHashKey:
		n.ByHash, n.Hash = true, binary.LittleEndian.Uint64(n.Key)
	case layout.FlagScoped:
		n.Scope, n.Key = binary.LittleEndian.Uint64(n.Key), n.Key[8:]
	}
	return n
}

func sameName(a, b Name) bool {
	return bytes.Equal(a.Key, b.Key) && a.Hash == b.Hash && a.ByHash == b.ByHash && a.Scope == b.Scope
}

func newModel(s *Slab, w *world) *model {
	m := &model{geo: s.geo, wall: w.wall.Load(), now: w.now.Load(), shards: make([]modelShard, s.geo.Shards)}
	for i := range m.shards {
		m.shards[i].ghosts = make([][layout.GhostWays]uint16, s.geo.Ghosts)
	}
	return m
}

func (m *model) shard(k modelKey) int           { return int(k.placed % uint64(len(m.shards))) }
func (m *model) shardOf(k modelKey) *modelShard { return &m.shards[m.shard(k)] }

func (sh *modelShard) remove(r *modelRecord) {
	sh.used -= r.need
	sh.leave(r)
}

// live returns the key's record if it has not expired.
func (m *model) live(k modelKey) *modelRecord {
	if r := m.shardOf(k).find(k); r != nil && !m.expired(r) {
		return r
	}
	return nil
}

func (m *model) version(k modelKey) uint64 {
	if r := m.live(k); r != nil {
		return r.Version
	}
	return Absent
}

func (m *model) set(k modelKey, it Item) (version uint64, full bool) {
	sh := m.shardOf(k)
	need, had := m.geo.cellsFor(uint64(len(k.bytes)+len(it.Value))), uint64(0)
	old := sh.find(k)
	if old != nil {
		had = old.need
	}
	for need > had && sh.used+need-had > uint64(m.geo.Cells-m.geo.Reserve) {
		if m.geo.OnFull == Refuse {
			return 0, true
		}
		victim := sh.victim(old)
		m.counts.EvictedFull++
		m.counts.AgeMean += m.now - victim.stamp
		sh.ageLast = max(m.now-victim.stamp, 1)
		sh.remember(victim)
		sh.remove(victim)
	}
	sh.sequence++
	m.counts.Sets++
	m.own.Sets++
	it.Version = sh.sequence<<layout.VersionSequenceShift | uint64(m.shard(k))<<layout.VersionShardShift
	r := &modelRecord{k, it, m.now, sh.turn, need, 0}
	if old != nil {
		sh.replace(old, r)
	} else {
		sh.enter(r)
	}
	sh.used += need - had
	if sh.s3fifo() {
		return it.Version, false
	}
	if sh.turnLeft == 0 {
		sh.turn++
		sh.turnLeft = uint64(m.geo.Cells)/layout.TurnsPerLap + 1
	}
	sh.turnLeft--
	return it.Version, false
}

// use is what a hit does to a record: it is stamped, and moves once per turn or is
// counted.
func (m *model) use(r *modelRecord, grain uint64) {
	if r.stamp+grain < m.now {
		r.stamp = m.now
	}
	sh := m.shardOf(r.modelKey)
	sh.use(r)
	if r.turn != sh.turn {
		r.turn = sh.turn
		sh.forward(r)
	}
}

// get is a counted lookup.
func (m *model) get(k modelKey) *modelRecord {
	r := m.live(k)
	if r == nil {
		m.own.Misses++
		return nil
	}
	m.own.Hits++
	m.use(r, uint64(m.geo.StampMillis))
	return r
}

func (m *model) expired(r *modelRecord) bool { return r.Expiry != 0 && r.Expiry <= m.wall }

// lastUse is the stamp by which evictions go: a namespace's id outlasts what it
// was used with.
func (m *model) lastUse(r *modelRecord) uint64 {
	if r.inner() {
		return r.stamp + uint64(m.geo.StampMillis) + layout.ClockSlackMillis
	}
	return r.stamp
}

func (m *model) byAge(a, b *modelRecord) int {
	return cmp.Or(cmp.Compare(m.lastUse(a), m.lastUse(b)), cmp.Compare(a.Version, b.Version))
}

// all returns the records by last use and version.
func (m *model) all() (all []*modelRecord) {
	for i := range m.shards {
		all = append(all, m.shards[i].records()...)
	}
	slices.SortFunc(all, m.byAge)
	return all
}

// evict removes the oldest, up to limit, of those that may go, and returns them in order; the
// library's own do not count.
func (m *model) evict(limit int, mayGo func(*modelRecord) bool) (gone []*modelRecord) {
	for _, r := range m.all() {
		if len(gone) >= limit {
			break
		}
		if !mayGo(r) {
			continue
		}
		m.shardOf(r.modelKey).remove(r)
		if !r.inner() {
			gone = append(gone, r)
		}
	}
	return gone
}

// older is what a cutoff lets go.
func (m *model) older(cutoff uint64) func(*modelRecord) bool {
	return func(r *modelRecord) bool {
		return m.lastUse(r)+layout.ClockSlackMillis+uint64(m.geo.StampMillis) < cutoff
	}
}

func (m *model) rebuild() {
	for i := range m.shards {
		m.shards[i].rebuild(m.byAge)
		m.counts.Rebuilds++
		m.own.Rebuilds++
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
	add := func(k Key) { m.keys = append(m.keys, modelKey{string(k.bytes), k.flags, k.hash}) }
	lengths := []int{0, 1, 2, 7, 8, 9, 15, 16, 17, 79, 80, 81, int(s.geo.MaxKey) - 1, int(s.geo.MaxKey)}
	for i, n := range lengths {
		for j := range 2 {
			add(s.Key([]byte(strings.Repeat(string(rune('a'+j)), n))))
		}
		add(s.HashKey(uint64(i), new([8]byte)))
	}
	for i := range uint64(2) {
		id := binary.LittleEndian.AppendUint64(nil, i+1)
		add(s.Key(append(id, "a"...)))
		add(s.ScopedKey(id))
		add(s.ScopedKey(append(id, "a"...)))
		add(s.NamespaceKey([]byte(strings.Repeat("a", int(i)))))
	}
	m.keys = slices.Compact(m.keys)
	sizes := []int{0, 1, 8, 8, 8, 63, 64, 65, 80, 81, 183, 184, 185, int(s.geo.MaxValue) - 1, int(s.geo.MaxValue)}
	m.values = rapid.Custom(func(t *rapid.T) []byte {
		return bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, rapid.SampledFrom(sizes).Draw(t, "size"))
	})
	return m
}

func (m *machine) handle(t *rapid.T) *Slab { return rapid.SampledFrom(m.handles[:]).Draw(t, "handle") }
func (m *machine) key(t *rapid.T) modelKey { return rapid.SampledFrom(m.keys).Draw(t, "key") }
func (m *machine) expiry(t *rapid.T) uint64 {
	return rapid.SampledFrom([]uint64{0, 0, m.wall - 1, m.wall, m.wall + 1, m.wall + 50}).Draw(t, "expiry")
}

func (m *machine) item(t *rapid.T) Item {
	return Item{
		Value: m.values.Draw(t, "value"), Expiry: m.expiry(t),
		Stale: rapid.SampledFrom([]uint16{0, 1, 65535}).Draw(t, "stale"),
		Tag:   rapid.SampledFrom([]uint32{0, 1, 2, 1<<32 - 1}).Draw(t, "tag"),
	}
}

func (m *machine) Set(t *rapid.T) {
	s, k, it := m.handle(t), m.key(t), m.item(t)
	var err error
	switch {
	case rapid.Bool().Draw(t, "put"):
		var version uint64
		var stored bool
		version, stored, err = s.Put(bg, k.key(), &it, Anyhow)
		want, full := m.set(k, it)
		if version != want || stored == full || full != errors.Is(err, ErrFull) || !full && err != nil {
			t.Fatalf("%#x, %v, %v; want %#x, full %v", version, stored, err, want, full)
		}
		return
	case k.flags == layout.FlagHashKey:
		err = s.SetHash(bg, k.name().Hash, it.Value, it.Expiry)
	case k.flags == 0:
		err = s.Set(bg, []byte(k.bytes), it.Value, it.Expiry)
	default:
		t.Skip("no short way")
	}
	if _, full := m.set(k, Item{Value: it.Value, Expiry: it.Expiry}); full != errors.Is(err, ErrFull) || !full && err != nil {
		t.Fatalf("full %v, error %v", full, err)
	}
}

// Swap is Put on a condition.
func (m *machine) Swap(t *rapid.T) {
	s, k, it := m.handle(t), m.key(t), m.item(t)
	there := m.version(k)
	want := rapid.SampledFrom([]uint64{Absent, Never, there, there, there + 1<<layout.VersionSequenceShift}).Draw(t, "want")
	version, stored, err := s.Put(bg, k.key(), &it, want)
	if want != there {
		if version != 0 || stored || err != nil {
			t.Fatalf("%#x, %v, %v though %#x is there and %#x was wanted", version, stored, err, there, want)
		}
		return
	}
	expected, full := m.set(k, it)
	if version != expected || stored == full || full != errors.Is(err, ErrFull) || !full && err != nil {
		t.Fatalf("%#x, %v, %v; want %#x, full %v", version, stored, err, expected, full)
	}
}

func (m *machine) PutBatch(t *rapid.T) {
	s := m.handle(t)
	var items []KeyItem
	ks := rapid.SliceOfN(rapid.SampledFrom(m.keys), 0, 20).Draw(t, "keys")
	for _, k := range ks {
		items = append(items, KeyItem{k.key(), m.item(t)})
	}
	stored, err := s.PutBatch(bg, items)
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(m.shard(ks[a]), m.shard(ks[b])) })
	want, full := 0, false
	for _, i := range order {
		if _, full = m.set(ks[i], items[i].Item); full {
			break
		}
		want++
	}
	if stored != want || full != errors.Is(err, ErrFull) || !full && err != nil {
		t.Fatalf("%d stored, %v; want %d, full %v", stored, err, want, full)
	}
}

func (m *machine) Add(t *rapid.T) {
	s, k := m.handle(t), m.key(t)
	delta := rapid.SampledFrom([]int64{0, 1, -1, 1 << 62, -1 << 62, math.MaxInt64, math.MinInt64}).Draw(t, "delta")
	it := m.item(t)
	it.Value = binary.LittleEndian.AppendUint64(nil, uint64(rapid.SampledFrom([]int64{0, 5, math.MaxInt64, math.MinInt64}).Draw(t, "initial")))
	sum, err := s.Add(bg, k.key(), delta, it)
	next := it
	if r := m.live(k); r != nil {
		next = r.Item
	}
	if len(next.Value) != 8 {
		if !errors.Is(err, ErrNotCounter) {
			t.Fatalf("%d, %v though %d bytes are there", sum, err, len(next.Value))
		}
		return
	}
	n := int64(binary.LittleEndian.Uint64(next.Value))
	wide := new(big.Int).Add(big.NewInt(n), big.NewInt(delta))
	if !wide.IsInt64() {
		if !errors.Is(err, ErrOverflow) {
			t.Fatalf("%d, %v; %d and %d overflow", sum, err, n, delta)
		}
		return
	}
	next.Value = binary.LittleEndian.AppendUint64(nil, uint64(n+delta))
	if _, full := m.set(k, next); full {
		if !errors.Is(err, ErrFull) {
			t.Fatalf("%d, %v in a full slab", sum, err)
		}
		return
	}
	if sum != wide.Int64() || err != nil {
		t.Fatalf("%d, %v; want %d", sum, err, wide)
	}
}

func (m *machine) Keep(t *rapid.T) {
	s, k, it := m.handle(t), m.key(t), m.item(t)
	value, err := s.Keep(bg, []byte("prefix"), k.key(), &it)
	want, full := it.Value, false
	if r := m.live(k); r != nil && len(r.Value) == len(it.Value) {
		want = r.Value
	} else if _, full = m.set(k, it); full {
		want = nil
	}
	if string(value) != "prefix"+string(want) || full != errors.Is(err, ErrFull) || !full && err != nil {
		t.Fatalf("%q, %v; want %q, full %v", value, err, want, full)
	}
}

func (m *machine) Touch(t *rapid.T) {
	s, k, expiry := m.handle(t), m.key(t), m.expiry(t)
	found, err := s.Touch(bg, k.key(), expiry)
	r := m.live(k)
	if found != (r != nil) || err != nil {
		t.Fatalf("%v, %v; want %v", found, err, r != nil)
	}
	if r != nil {
		r.Expiry = expiry
		m.use(r, 0)
	}
}

func (m *machine) Get(t *rapid.T) {
	s, k := m.handle(t), m.key(t)
	var v []byte
	var ok bool
	var err error
	prefix := []byte("prefix")
	switch {
	case k.flags == layout.FlagHashKey:
		v, ok, err = s.GetHash(prefix, k.name().Hash)
	case k.flags == 0:
		v, ok, err = s.Get(prefix, []byte(k.bytes))
	default:
		v, ok, err = s.GetKey(prefix, k.key())
	}
	var want []byte
	r := m.get(k)
	if r != nil {
		want = r.Value
	}
	if err != nil || ok != (r != nil) || string(v) != "prefix"+string(want) {
		t.Fatalf("%q, %v, %v; want %q, %v", v, ok, err, want, r != nil)
	}
}

// Look does every kind of lookup but the plain one.
func (m *machine) Look(t *rapid.T) {
	s, k := m.handle(t), m.key(t)
	r := m.live(k)
	how := rapid.SampledFrom([]How{0, Silent, Quiet | Silent, Quiet | Silent | Bare, stale}).Draw(t, "how")
	var it Item
	var ok, old bool
	var err error
	if how == stale {
		it.Value, ok, old, err = s.GetStale([]byte("prefix"), k.key())
		if there := m.shardOf(k).find(k); there != nil && (!m.expired(there) || m.wall < there.Expiry+1000*uint64(there.Stale)) {
			r = there
		}
		if r != nil {
			if old != m.expired(r) {
				t.Fatalf("expired %v", old)
			}
			it.Expiry, it.Stale, it.Tag, it.Version = r.Expiry, r.Stale, r.Tag, r.Version
			m.use(r, uint64(m.geo.StampMillis))
		}
	} else {
		it, ok, err = s.Look([]byte("prefix"), k.key(), how)
		switch {
		case how == 0:
			m.get(k)
		case r != nil && how&Quiet == 0:
			m.use(r, uint64(m.geo.StampMillis))
		}
	}
	var want Item
	if r != nil {
		want = r.Item
	}
	if how&Bare != 0 {
		want.Value = nil
	}
	if err != nil || ok != (r != nil) || string(it.Value) != "prefix"+string(want.Value) ||
		it.Expiry != want.Expiry || it.Stale != want.Stale || it.Tag != want.Tag || it.Version != want.Version {
		t.Fatalf("%+v, %v, %v; want %+v, %v", it, ok, err, want, r != nil)
	}
}

func (m *machine) GetBatch(t *rapid.T) {
	s := m.handle(t)
	scoped := rapid.Bool().Draw(t, "scoped")
	id := binary.LittleEndian.AppendUint64(nil, rapid.Uint64Range(1, 2).Draw(t, "scope"))
	ks := rapid.SliceOfN(rapid.SampledFrom(m.keys).Filter(func(k modelKey) bool {
		if scoped {
			return k.flags == layout.FlagScoped && k.bytes[:8] == string(id)
		}
		return k.flags == 0
	}), 0, 40).Draw(t, "keys")
	var keys [][]byte
	for _, k := range ks {
		keys = append(keys, k.name().Key)
	}
	var b Batch
	var err error
	if scoped {
		err = s.GetBatchScoped(&b, id, keys)
	} else {
		err = s.GetBatch(&b, keys)
	}
	if err != nil {
		t.Fatal(err)
	}
	hits := 0
	for i, k := range ks {
		r := m.get(k)
		v, ok := b.Value(i)
		if ok != (r != nil) || ok && !bytes.Equal(v, r.Value) {
			t.Fatalf("key %d: %q, %v; want %+v", i, v, ok, r)
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
	switch {
	case k.flags == layout.FlagHashKey:
		ok, err = s.DeleteHash(bg, k.name().Hash)
	case k.flags == 0:
		ok, err = s.Delete(bg, []byte(k.bytes))
	default:
		ok, err = s.Remove(bg, k.key())
	}
	if want := m.live(k) != nil; err != nil || ok != want {
		t.Fatalf("%v, %v; want %v", ok, err, want)
	}
	if sh := m.shardOf(k); sh.find(k) != nil {
		m.counts.Deletes++
		m.own.Deletes++
		sh.remove(sh.find(k))
	}
}

func (m *machine) Clock(t *rapid.T) {
	m.now += rapid.Uint64Range(0, 60).Draw(t, "now")
	m.wall += rapid.Uint64Range(0, 60).Draw(t, "wall")
	m.w.now.Store(m.now)
	m.w.wall.Store(m.wall)
}

func (m *machine) cutoff(t *rapid.T) (cutoff uint64, limit int) {
	cutoff = m.now + layout.ClockSlackMillis + uint64(m.geo.StampMillis) - rapid.Uint64Range(0, 200).Draw(t, "age")
	return cutoff, rapid.SampledFrom([]int{-1, 0, 1, 2, 5, 1000, math.MaxInt}).Draw(t, "limit")
}

// records is how many there are.
func (m *model) records() (n uint64) {
	for i := range m.shards {
		n += uint64(len(m.shards[i].records()))
	}
	return n
}

func (m *machine) Evict(t *rapid.T) {
	s := m.handle(t)
	cutoff, limit := m.cutoff(t)
	before := m.records()
	want := m.evict(limit, m.older(cutoff))
	m.counts.EvictedCutoff += before - m.records()
	if rapid.Bool().Draw(t, "pairs") {
		got, err := s.EvictPairs(bg, cutoff, limit)
		m.gone(t, got, want, err)
		for _, p := range got {
			if !slices.ContainsFunc(want, func(r *modelRecord) bool {
				return sameName(r.name(), p.Name) && bytes.Equal(r.Value, p.Value) && r.stamp == p.LastUse
			}) {
				t.Fatalf("%+v may not go", p)
			}
		}
	} else {
		got, err := s.Evict(bg, cutoff, limit)
		m.gone(t, pairsOf(got), want, err)
	}
}

func pairsOf(hashes []uint64) (out []Pair) {
	for _, h := range hashes {
		out = append(out, Pair{Name: Name{Hash: h}})
	}
	return out
}

// gone compares what went with what had to, in order. Which of several records of
// one age and different shards comes first is open.
func (m *machine) gone(t *rapid.T, got []Pair, want []*modelRecord, err error) {
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d evicted, %v; want %d", len(got), err, len(want))
	}
	want = slices.Clone(want)
	for i, p := range got {
		at := slices.IndexFunc(want, func(r *modelRecord) bool { return p.Hash == r.name().Hash })
		if at < 0 {
			t.Fatalf("record %d, hash %#x, may not go", i, p.Hash)
		}
		if want[at].stamp != want[0].stamp {
			t.Fatalf("record %d is of %d before one of %d", i, want[at].stamp, want[0].stamp)
		}
		want = slices.Delete(want, at, at+1)
	}
}

func (m *machine) EvictNear(t *rapid.T) {
	s, k := m.handle(t), m.key(t)
	cutoff, limit := m.cutoff(t)
	bucket := func(k modelKey) uint64 { return k.placed & 0xffffffff * uint64(m.geo.Buckets) >> 32 }
	before := m.records()
	near := m.evict(limit, func(r *modelRecord) bool {
		return m.older(cutoff)(r) && !r.inner() && m.shard(r.modelKey) == m.shard(k) && bucket(r.modelKey) == bucket(k)
	})
	others := m.evict(limit-len(near), m.older(cutoff))
	m.counts.EvictedCutoff += before - m.records()
	got, err := s.EvictNear(bg, k.key(), cutoff, limit)
	if err != nil || len(got) < len(near) {
		t.Fatalf("%d evicted, %v; want %d", len(got), err, len(near)+len(others))
	}
	for i, r := range near {
		if got[i] != r.name().Hash {
			t.Fatalf("record %d is %#x, want %+v", i, got[i], *r)
		}
	}
	m.gone(t, pairsOf(got[len(near):]), others, nil)
}

func (m *machine) EvictTag(t *rapid.T) {
	s, tag := m.handle(t), rapid.SampledFrom([]uint32{0, 1, 2, 3, 1<<32 - 1}).Draw(t, "tag")
	_, limit := m.cutoff(t)
	want := m.evict(limit, func(r *modelRecord) bool { return !r.inner() && r.Tag == tag })
	m.counts.EvictedTag += uint64(len(want))
	got, err := s.EvictTag(bg, tag, limit)
	m.gone(t, pairsOf(got), want, err)
}

func (m *machine) Clear(t *rapid.T) {
	if rapid.IntRange(0, 5).Draw(t, "rarely") > 0 {
		t.Skip()
	}
	if err := m.handle(t).Clear(bg); err != nil {
		t.Fatal(err)
	}
	m.counts.Cleared += m.records()
	for i := range m.shards {
		sh := &m.shards[i]
		sh.main, sh.small, sh.used = nil, nil, 0
	}
}

func (m *machine) Rebuild(t *rapid.T) {
	if err := m.handle(t).Rebuild(bg); err != nil {
		t.Fatal(err)
	}
	m.rebuild()
}

func (m *machine) Scan(t *rapid.T) {
	left := slices.DeleteFunc(m.all(), func(r *modelRecord) bool { return r.inner() })
	err := m.handle(t).Scan(bg, func(r Record) bool {
		at := slices.IndexFunc(left, func(x *modelRecord) bool { return sameName(x.name(), r.Name) })
		if at < 0 {
			t.Fatalf("%+v comes twice or is not there", r.Name)
		}
		x := left[at]
		if !bytes.Equal(r.Value, x.Value) || r.LastUse != x.stamp || r.Expiry != x.Expiry || r.Stale != x.Stale || r.Tag != x.Tag || r.Version != x.Version {
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
	want := m.counts
	want.AgeMean /= max(want.EvictedFull, 1)
	for i := range m.shards {
		want.TotalCells += uint64(m.geo.Cells)
		if age := m.shards[i].ageLast; age != 0 && (want.AgeLast == 0 || age < want.AgeLast) {
			want.AgeLast = age
		}
	}
	for _, r := range m.all() {
		want.Records, want.Cells, want.Bytes = want.Records+1, want.Cells+r.need, want.Bytes+uint64(len(r.bytes)+len(r.Value))
	}
	got, err := m.handles[1].Stats()
	want.Overflow = got.Overflow
	if err != nil || got != want {
		t.Fatalf("%+v, %v\nwant %+v", got, err, want)
	}
	one, other := m.handles[0].Counters(), m.handles[1].Counters()
	both := Counters{
		Hits: one.Hits + other.Hits, Misses: one.Misses + other.Misses,
		Sets: one.Sets + other.Sets, Deletes: one.Deletes + other.Deletes, Rebuilds: one.Rebuilds + other.Rebuilds,
		LockWaits: one.LockWaits + other.LockWaits, Steals: one.Steals + other.Steals,
	}
	if both != m.own {
		t.Fatalf("the two did %+v, want %+v", both, m.own)
	}
	if n, err := m.handles[0].Len(); err != nil || n != want.Records {
		t.Fatalf("%d records, %v; want %d", n, err, want.Records)
	}
}

func TestProperty_AnyOperations_ExactlyAsTheModel(t *testing.T) {
	for name, o := range map[string]Options{
		"evict":  {Entries: 30, Shards: 1, MaxKey: 100, MaxValue: 600},
		"refuse": {Entries: 30, Shards: 1, MaxKey: 100, MaxValue: 600, OnFull: Refuse},
		"shards": {Entries: 40, Shards: 4, MaxKey: 100, MaxValue: 300},
		"cells":  {Entries: 20, Shards: 2, MaxKey: 100, MaxValue: 200, CellSize: 64},
		"grain":  {Entries: 40, Shards: 2, MaxKey: 100, MaxValue: 200, StampMillis: 99},

		"s3fifo":        {Entries: 30, Shards: 1, MaxKey: 100, MaxValue: 600, Order: S3FIFO},
		"s3fifo refuse": {Entries: 30, Shards: 1, MaxKey: 100, MaxValue: 600, Order: S3FIFO, OnFull: Refuse},
		"s3fifo shards": {Entries: 16, Shards: 2, MaxKey: 100, MaxValue: 200, Order: S3FIFO},
		"s3fifo cells":  {Entries: 20, Shards: 2, MaxKey: 100, MaxValue: 200, CellSize: 64, Order: S3FIFO},
		"s3fifo grain":  {Entries: 20, Shards: 1, MaxKey: 100, MaxValue: 200, Order: S3FIFO, StampMillis: 99},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) {
				m := newMachine(r, t, o)
				r.Repeat(map[string]func(*rapid.T){
					"Set": m.Set, "Set again": m.Set, "Set more": m.Set, "Swap": m.Swap, "PutBatch": m.PutBatch, "Add": m.Add, "Keep": m.Keep,
					"Get": m.Get, "Get again": m.Get, "Look": m.Look, "GetBatch": m.GetBatch, "Touch": m.Touch,
					"Delete": m.Delete, "Clear": m.Clear, "Clock": m.Clock, "Rebuild": m.Rebuild, "Scan": m.Scan,
					"Evict": m.Evict, "EvictNear": m.EvictNear, "EvictTag": m.EvictTag, "": m.Check,
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
