package flagstone_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/signal"
)

// A model of the public API: what several handles do to one cache is compared
// with a map and a list. Time stands still but where a step moves it, so that
// every answer, order and victim is exact.

func TestCache_ManyHandles_BehavesAsTheModel(t *testing.T) { rapid.Check(t, behavesAsModel) }

func FuzzCache(f *testing.F) { f.Fuzz(rapid.MakeFuzz(behavesAsModel)) }

// testClock is both clocks. The domain's own time is one ahead of it.
type testClock struct{ ms atomic.Uint64 }

const epoch = 1_700_000_000_000

func (c *testClock) Wall() uint64      { return epoch + c.ms.Load() }
func (c *testClock) Monotonic() uint64 { return c.ms.Load() }

// id names a record: by key, or by the application's hash.
type id struct {
	key    string
	hash   uint64
	byHash bool
}

func (i id) keyBytes() int {
	if i.byHash {
		return 8
	}
	return len(i.key)
}

// entry is a record of the model.
type entry struct {
	value        []byte
	expiry       uint64 // wall time, 0 is never
	stamp        uint64 // domain time of the last use
	serial, turn uint64 // of the writing; when it last went to the front
	need         uint64 // cells
}

type machine struct {
	ctx     context.Context
	options flagstone.Options
	clock   *testClock
	handles []*flagstone.Cache

	entries      map[id]*entry
	order        []id // one shard: most recently used first
	turn         uint64
	left, serial uint64 // records until the turn advances; records written
	used, room   uint64 // cells
	period       uint64 // of turns, in records

	deleted, evictedFull, evictedCutoff, rebuilt uint64
}

const (
	payload, furtherPayload = 128 - 48, 128 - 24 // bytes of a record in its first cell and the others
	clockSlack              = 30                 // ms that Evict may keep a record too long
	longestKey, longestVal  = 64, 400
)

func behavesAsModel(t *rapid.T) {
	dir, err := os.MkdirTemp("", "flagstone-test-")
	must(t, err)
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m := &machine{ctx: ctx, clock: &testClock{}, entries: map[id]*entry{}}
	m.clock.ms.Store(rapid.Uint64Range(0, 100_000).Draw(t, "start"))
	m.options = flagstone.Options{
		Dir: dir, Entries: rapid.Uint64Range(1, 12).Draw(t, "entries"), Shards: 1, Clock: m.clock,
		MaxKey: longestKey, MaxValue: longestVal, Regions: 3, Precision: time.Millisecond,
		OnFull: rapid.SampledFrom([]flagstone.Policy{flagstone.Evict, flagstone.Refuse}).Draw(t, "policy"),
		Wake:   signal.Options{Mode: signal.ModePoll, Poll: never},
	}
	if rapid.Bool().Draw(t, "roomy") { // nothing is ever full, so that shards need no model
		m.options.Entries, m.options.Shards = 400, 4
	}
	if rapid.Bool().Draw(t, "private") { // one handle, and all is gone with it
		m.options.Private, m.options.Dir, m.options.Regions = true, "", 1
	}
	defer func() {
		for _, c := range m.handles {
			must(t, c.Close())
		}
	}()
	m.open(t)
	st, err := m.handles[0].Stats()
	must(t, err)
	m.room = uint64(st.Geometry.Shards) * uint64(st.Geometry.Cells-st.Geometry.Reserve)
	m.period = uint64(st.Geometry.Cells)/10 + 1
	steps := map[string]func(*rapid.T){
		"":            m.agree,
		"open":        m.open,
		"close":       m.close,
		"time":        m.time,
		"set":         m.set,
		"set another": m.set,
		"set more":    m.set,
		"get":         m.get,
		"batch":       m.batch,
		"delete":      m.delete,
		"evict":       m.evict,
		"scan":        m.scan,
		"repair":      m.repair,
	}
	for range 3 { // what matters happens in a cache that has seen something
		t.Repeat(steps)
	}
}

// step moves time by one, so that no two steps use records at the same time, and
// picks a handle.
func (m *machine) step(t *rapid.T) *flagstone.Cache {
	if len(m.handles) == 0 {
		m.open(t)
	}
	m.pass(1)
	return rapid.SampledFrom(m.handles).Draw(t, "handle")
}

func (m *machine) pass(ms uint64) {
	m.clock.ms.Add(ms)
	for _, c := range m.handles[:min(1, len(m.handles))] {
		_, err := c.Evict(m.ctx, 1<<62, 0) // reads the clocks
		if err != nil {
			panic(err)
		}
	}
}

func (m *machine) open(t *rapid.T) {
	if len(m.handles) == m.options.Regions {
		return
	}
	c, err := flagstone.Open(m.ctx, name, m.options)
	must(t, err)
	if d := c.Differences(); len(d) != 0 {
		t.Fatalf("differences: %+v", d)
	}
	m.handles = append(m.handles, c)
}

func (m *machine) close(t *rapid.T) {
	if len(m.handles) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.handles)-1).Draw(t, "handle")
	must(t, m.handles[i].Close())
	mustFail(t, m.handles[i].Set(m.ctx, nil, nil, 0), flagstone.ErrClosed)
	m.handles = slices.Delete(m.handles, i, i+1)
	if m.options.Private {
		*m = machine{ctx: m.ctx, options: m.options, clock: m.clock, entries: map[id]*entry{}, room: m.room, period: m.period}
	}
}

func (m *machine) time(t *rapid.T) {
	m.pass(rapid.SampledFrom([]uint64{1, 10, 29, 30, 31, 100, 1000, 60_000}).Draw(t, "ms"))
}

var ids = func() (all []id) {
	for _, k := range []string{"", "a", "b", "c", "\x00", "\x01\x00\x00\x00\x00\x00\x00\x00", strings.Repeat("k", longestKey), strings.Repeat("l", 41)} {
		all = append(all, id{key: k})
	}
	for _, h := range []uint64{0, 1, 2, 1 << 32, 1<<64 - 1} {
		all = append(all, id{hash: h, byHash: true})
	}
	return all
}()

func (m *machine) now() uint64  { return m.clock.Monotonic() + 1 }
func (m *machine) wall() uint64 { return m.clock.Wall() }

func (m *machine) alive(i id) bool {
	e := m.entries[i]
	return e != nil && (e.expiry == 0 || e.expiry > m.wall())
}

func cellsFor(n int) uint64 {
	if n <= payload {
		return 1
	}
	return 1 + uint64((n-payload+furtherPayload-1)/furtherPayload)
}

func (m *machine) set(t *rapid.T) {
	c := m.step(t)
	i := rapid.SampledFrom(ids).Draw(t, "id")
	size := rapid.SampledFrom([]int{0, 1, 72, 80, 81, 184, 185, 300, longestVal}).Draw(t, "size")
	value := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, size)
	ttl := rapid.SampledFrom([]time.Duration{flagstone.NoExpiry, flagstone.NoExpiry, 1, time.Millisecond, 50*time.Millisecond + 1, time.Hour, 1<<63 - 1}).Draw(t, "ttl")
	var err error
	if i.byHash {
		err = c.SetHash(m.ctx, i.hash, value, ttl)
	} else {
		err = c.Set(m.ctx, []byte(i.key), value, ttl)
	}

	need, had := cellsFor(i.keyBytes()+size), uint64(0)
	if old := m.entries[i]; old != nil {
		had = old.need
	}
	if need > had {
		for n := len(m.order) - 1; m.used+need-had > m.room; n-- {
			if m.options.OnFull == flagstone.Refuse {
				mustFail(t, err, flagstone.ErrFull)
				return
			}
			if m.order[n] != i {
				m.remove(m.order[n])
				m.evictedFull++
			}
		}
	}
	must(t, err)
	m.remove(i)
	e := &entry{value: value, stamp: m.now(), serial: m.serial, turn: m.turn, need: need}
	if ttl != flagstone.NoExpiry {
		e.expiry = min(m.wall()+uint64((ttl-1)/time.Millisecond)+1, 1<<48-1)
	}
	m.entries[i], m.order = e, slices.Insert(m.order, 0, i)
	m.used += need
	m.serial++
	if m.left == 0 {
		m.turn++
		m.left = m.period
	}
	m.left--
}

func (m *machine) remove(i id) {
	if e := m.entries[i]; e != nil {
		m.used -= e.need
		delete(m.entries, i)
		m.order = slices.DeleteFunc(m.order, func(o id) bool { return o == i })
	}
}

// use is what a hit does: it stamps the record, which goes to the front once a turn.
func (m *machine) use(i id) {
	e := m.entries[i]
	e.stamp = m.now()
	if e.turn != m.turn {
		e.turn = m.turn
		m.order = slices.DeleteFunc(m.order, func(o id) bool { return o == i })
		m.order = slices.Insert(m.order, 0, i)
	}
}

func (m *machine) get(t *rapid.T) {
	c := m.step(t)
	i := rapid.SampledFrom(ids).Draw(t, "id")
	dst := []byte("before ")
	var value []byte
	var ok bool
	var err error
	if i.byHash {
		value, ok, err = c.GetHash(dst, i.hash)
	} else {
		value, ok, err = c.Get(dst, []byte(i.key))
	}
	must(t, err)
	want := dst
	if m.alive(i) {
		want = append(want, m.entries[i].value...)
		defer m.use(i)
	}
	if ok != m.alive(i) || !bytes.Equal(value, want) {
		t.Fatalf("%+v is %q, %v, want %q, %v", i, value, ok, want, m.alive(i))
	}
}

func (m *machine) batch(t *rapid.T) {
	c := m.step(t)
	var keys [][]byte
	for _, i := range rapid.SliceOfN(rapid.SampledFrom(ids), 0, 20).Draw(t, "ids") {
		if !i.byHash {
			keys = append(keys, []byte(i.key))
		}
	}
	var b flagstone.Batch
	must(t, c.GetBatch(&b, keys))
	hits := 0
	for n, k := range keys {
		i := id{key: string(k)}
		value, ok := b.Value(n)
		if ok != m.alive(i) || ok && !bytes.Equal(value, m.entries[i].value) {
			t.Fatalf("%d: %+v is %q, %v, want %v", n, i, value, ok, m.alive(i))
		}
		if ok {
			hits++
			m.use(i)
		}
	}
	if b.Len() != len(keys) || b.Hits() != hits {
		t.Fatalf("%d keys, %d hits, want %d, %d", b.Len(), b.Hits(), len(keys), hits)
	}
}

func (m *machine) delete(t *rapid.T) {
	c := m.step(t)
	i := rapid.SampledFrom(ids).Draw(t, "id")
	var found bool
	var err error
	if i.byHash {
		found, err = c.DeleteHash(m.ctx, i.hash)
	} else {
		found, err = c.Delete(m.ctx, []byte(i.key))
	}
	must(t, err)
	if found != m.alive(i) {
		t.Fatalf("%+v was found: %v", i, found)
	}
	if m.entries[i] != nil {
		m.deleted++
	}
	m.remove(i)
}

// evict compares with all records of the model, oldest first: those idle for more
// than the cutoff and the slack, up to the limit, are gone. Of records used at the
// same time any may be first.
func (m *machine) evict(t *rapid.T) {
	c := m.step(t)
	backs := []uint64{0, 1, 1000, 1 << 40}
	for _, i := range m.order { // around what decides about a record
		idle := m.now() - m.entries[i].stamp
		for _, slack := range []uint64{clockSlack + 1, clockSlack, clockSlack - 1} {
			backs = append(backs, max(idle, slack)-slack)
		}
	}
	back := rapid.SampledFrom(backs).Draw(t, "older than ms")
	limit := rapid.IntRange(-1, len(ids)).Draw(t, "limit")
	old := slices.SortedFunc(maps.Keys(m.entries), func(a, b id) int { return cmp.Compare(m.entries[a].stamp, m.entries[b].stamp) })
	old = slices.DeleteFunc(old, func(i id) bool { return m.now()-m.entries[i].stamp <= back+clockSlack })
	old = old[:min(len(old), max(limit, 0))]
	var stamps, got []uint64
	for _, i := range old {
		stamps = append(stamps, m.entries[i].stamp)
	}

	olderThan := time.Duration(back) * time.Millisecond
	byHash := map[uint64]id{}
	for i := range m.entries {
		byHash[m.hashOf(c, i)] = i
	}
	var removed []id
	if rapid.Bool().Draw(t, "pairs") {
		pairs, err := c.EvictPairs(m.ctx, olderThan, limit)
		must(t, err)
		for _, p := range pairs {
			i := id{key: string(p.Key), byHash: p.ByHash}
			if p.ByHash {
				i.hash = p.Hash
			}
			e := m.entries[i]
			if e == nil || p.Hash != m.hashOf(c, i) || !bytes.Equal(p.Value, e.value) || p.Idle != m.idle(e) {
				t.Fatalf("%+v, want %+v", p, e)
			}
			removed = append(removed, i)
		}
	} else {
		hashes, err := c.Evict(m.ctx, olderThan, limit)
		must(t, err)
		for _, h := range hashes {
			i, ok := byHash[h]
			if !ok {
				t.Fatalf("%#x is nobody's hash", h)
			}
			removed = append(removed, i)
		}
	}
	for _, i := range removed {
		if m.entries[i] == nil {
			t.Fatalf("%+v was evicted twice", i)
		}
		got = append(got, m.entries[i].stamp)
		m.evictedCutoff++
		m.remove(i)
	}
	if !slices.Equal(got, stamps) {
		t.Fatalf("evicted last used at %v, want %v", got, stamps)
	}
}

func (m *machine) idle(e *entry) time.Duration {
	return time.Duration(m.now()-e.stamp) * time.Millisecond
}

func (m *machine) hashOf(c *flagstone.Cache, i id) uint64 {
	if i.byHash {
		return i.hash
	}
	return c.HashOf([]byte(i.key))
}

func (m *machine) scan(t *rapid.T) {
	c := m.step(t)
	seen := map[id]bool{}
	for r, err := range c.All(m.ctx) {
		must(t, err)
		i := id{key: string(r.Key), byHash: r.ByHash}
		if r.ByHash {
			i.hash = r.Hash
		}
		ttl := flagstone.NoExpiry
		e := m.entries[i]
		if e != nil && e.expiry != 0 {
			ttl = time.Duration(e.expiry-m.wall()) * time.Millisecond
		}
		if seen[i] || !m.alive(i) || r.Hash != m.hashOf(c, i) || !bytes.Equal(r.Value, e.value) || r.Idle != m.idle(e) || r.TTL != min(ttl, longest) {
			t.Fatalf("%+v, want %+v, seen before: %v", r, e, seen[i])
		}
		seen[i] = true
	}
	for i := range m.entries {
		if m.alive(i) && !seen[i] {
			t.Fatalf("%+v was left out", i)
		}
	}
}

// longest is the longest duration in whole milliseconds.
const longest = time.Duration(1<<63-1) / time.Millisecond * time.Millisecond

// repair rebuilds, which loses nothing and puts the records in order of use.
func (m *machine) repair(t *rapid.T) {
	must(t, m.step(t).Rebuild(m.ctx))
	m.rebuilt += uint64(m.options.Shards)
	slices.SortFunc(m.order, func(a, b id) int {
		x, y := m.entries[a], m.entries[b]
		return cmp.Or(cmp.Compare(y.stamp, x.stamp), cmp.Compare(y.serial, x.serial))
	})
}

// agree holds after every step.
func (m *machine) agree(t *rapid.T) {
	for _, c := range m.handles {
		problems, err := c.Check(m.ctx)
		must(t, err)
		if len(problems) > 0 {
			t.Fatal(strings.Join(problems, "\n"))
		}
		got, err := c.Stats()
		must(t, err)
		want := got // but for what the model knows
		want.Records, want.Cells, want.Bytes = uint64(len(m.entries)), m.used, 0
		want.Sets, want.Deletes, want.Rebuilds, want.Steals, want.Dropped = m.serial, m.deleted, m.rebuilt, 0, 0
		want.EvictedFull, want.EvictedCutoff = m.evictedFull, m.evictedCutoff
		for i, e := range m.entries {
			want.Bytes += uint64(i.keyBytes() + len(e.value))
		}
		if !reflect.DeepEqual(got, want) || len(got.Processes) != len(m.handles) {
			t.Fatalf("%+v\nwant %+v", got, want)
		}
		if holders, err := c.Holders(); err != nil || len(holders) != 0 {
			t.Fatalf("%+v, %v", holders, err)
		}
	}
	if m.ctx.Err() != nil {
		t.Fatal(errors.New("took too long"))
	}
}
