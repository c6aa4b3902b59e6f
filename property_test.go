package flagstone_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"maps"
	"math"
	"math/big"
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

// testClock is both clocks. The domain's own time is one ahead of the monotonic one.
type testClock struct{ wall, monotonic atomic.Uint64 }

const epoch = 1_700_000_000_000

func (c *testClock) Wall() uint64      { return epoch + c.wall.Load() }
func (c *testClock) Monotonic() uint64 { return c.monotonic.Load() }

func (c *testClock) pass(ms uint64) {
	c.wall.Add(ms)
	c.monotonic.Add(ms)
}

// id names a record: by key, in a namespace or not, or by the application's hash.
type id struct {
	key    string
	hash   uint64
	byHash bool
	space  bool // the record that holds the id of the namespace called key
	scope  int  // which of the namespaces there ever were, from 1 on; 0 is none
}

func (i id) keyBytes() int {
	switch {
	case i.byHash:
		return 8
	case i.scope != 0:
		return 8 + len(i.key)
	}
	return len(i.key)
}

// entry is a record of the model.
type entry struct {
	value       []byte
	expiry      uint64 // wall time, 0 is never
	staleFor    time.Duration
	tag         uint32
	token       flagstone.Token // 0 until it was seen
	serial      uint64          // of the writing
	stamp, turn uint64          // domain time of the last use; when it last went to the front
	need        uint64          // cells
}

type machine struct {
	ctx     context.Context
	options flagstone.Options
	clock   *testClock
	handles []*flagstone.Cache
	geo     struct{ shards, buckets, seed uint64 }
	grain   uint64 // stamps are renewed when they are older, in milliseconds

	entries    map[id]*entry
	order      []id // one shard: most recently used first
	turn, left uint64
	used, room uint64 // cells
	period     uint64 // of turns, in records

	drained bool // a slab went, and what was counted in it

	tokens map[flagstone.Token]bool // that were seen
	spaces map[string]int           // the scope of each namespace that has an id
	scopes []uint64                 // the id of each scope that ever was, 0 as long as it cannot be seen

	sets, deleted, evictedFull, evictedCutoff, evictedTag, cleared, rebuilt uint64
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
	m := &machine{ctx: ctx, clock: &testClock{}, entries: map[id]*entry{}, spaces: map[string]int{}, tokens: map[flagstone.Token]bool{}}
	m.clock.pass(rapid.Uint64Range(0, 100_000).Draw(t, "start"))
	m.options = flagstone.Options{
		Dir: dir, Entries: rapid.Uint64Range(1, 12).Draw(t, "entries"), Shards: 1, Clock: m.clock,
		MaxKey: longestKey, MaxValue: longestVal, Regions: 3,
		Precision: rapid.SampledFrom([]time.Duration{time.Millisecond, 50 * time.Millisecond, 0}).Draw(t, "precision"),
		OnFull:    rapid.SampledFrom([]flagstone.Policy{flagstone.Evict, flagstone.Refuse}).Draw(t, "policy"),
		Wake:      signal.Options{Mode: signal.ModePoll, Poll: never},
		Steward:   flagstone.StewardOptions{Off: true}, // which would remove what has expired at any time
	}
	m.grain = uint64(cmp.Or(m.options.Precision, flagstone.DefaultPrecision)/time.Millisecond) - 1
	if rapid.Bool().Draw(t, "roomy") { // nothing is ever full, so that shards need no model
		m.options.Entries, m.options.Shards = 400, 4
	}
	if rapid.Bool().Draw(t, "private") { // one handle, and all is gone with it
		m.options.Private, m.options.Dir, m.options.Regions = true, "", 1
	}
	m.options.Search = rapid.SampledFrom([]flagstone.Search{flagstone.Interleaved, flagstone.InOrder, flagstone.Parallel}).Draw(t, "search")
	m.options.NoPromotion = rapid.Bool().Draw(t, "no promotion")
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
	m.geo.shards, m.geo.buckets = uint64(st.Geometry.Shards), uint64(st.Geometry.Buckets)
	steps := map[string]func(*rapid.T){
		"":            m.agree,
		"open":        m.open,
		"close":       m.close,
		"time":        m.time,
		"set":         m.set,
		"set another": m.set,
		"set more":    m.set,
		"set batch":   m.setBatch,
		"swap":        m.swap,
		"increment":   m.increment,
		"touch":       m.touch,
		"get":         m.get,
		"get more":    m.get,
		"batch":       m.batch,
		"delete":      m.delete,
		"evict":       m.evict,
		"evict near":  m.evictNear,
		"evict tag":   m.evictTag,
		"clear":       m.clear,
		"scan":        m.scan,
		"repair":      m.repair,
	}
	if m.options.Shards > 1 && !m.options.Private { // slabs come and go, and no answer changes
		steps["grow"], steps["move"], steps["drain"] = m.grow, m.move, m.drain
	}
	for range 3 { // what matters happens in a cache that has seen something
		t.Repeat(steps)
	}
}

// store is what a cache and a namespace have in common.
type store interface {
	Get(dst, key []byte) ([]byte, bool, error)
	GetItem(dst, key []byte) (flagstone.Item, bool, error)
	Peek(dst, key []byte) ([]byte, bool, error)
	TTL(key []byte) (time.Duration, bool, error)
	GetBatch(b *flagstone.Batch, keys [][]byte) error
	Set(ctx context.Context, key, value []byte, ttl time.Duration) error
	SetItem(ctx context.Context, key []byte, it flagstone.Item) (flagstone.Token, error)
	SetIfAbsent(ctx context.Context, key, value []byte, ttl time.Duration) (bool, error)
	CompareAndSwap(ctx context.Context, key []byte, token flagstone.Token, value []byte, ttl time.Duration) (flagstone.Token, bool, error)
	SetBatch(ctx context.Context, items []flagstone.KeyItem) (int, error)
	Increment(ctx context.Context, key []byte, delta, initial int64, ttl time.Duration) (int64, error)
	Touch(ctx context.Context, key []byte, ttl time.Duration) (bool, error)
	Delete(ctx context.Context, key []byte) (bool, error)
	All(ctx context.Context) iter.Seq2[flagstone.Record, error]
	Tagged(ctx context.Context, tag uint32) iter.Seq2[flagstone.Record, error]
}

// space names where keys are in the model: a namespace, or none.
type space struct {
	name string
	some bool
}

// pick draws where a step takes place.
func (m *machine) pick(t *rapid.T) (*flagstone.Cache, store, space) {
	c := m.step(t)
	if name := rapid.SampledFrom([]string{"-", "-", "", "b"}).Draw(t, "namespace"); name != "-" {
		return c, c.Namespace(name), space{name, true}
	}
	return c, c, space{}
}

// enter finds the scope of a namespace as an operation does that uses its id, and
// with create makes one.
func (m *machine) enter(sp space, create bool) (scope int, ok, full bool) {
	if !sp.some {
		return 0, true, false
	}
	i := id{key: sp.name, space: true}
	if m.alive(i) {
		m.use(i, m.grain)
		return m.spaces[sp.name], true, false
	}
	if !create {
		return 0, false, false
	}
	if full = m.store(i, flagstone.Item{Value: make([]byte, 8)}); full {
		return 0, false, true
	}
	m.scopes = append(m.scopes, 0)
	m.spaces[sp.name] = len(m.scopes)
	return len(m.scopes), true, false
}

// step moves time by one, so that few records are used at the same time, and
// picks a handle.
func (m *machine) step(t *rapid.T) *flagstone.Cache {
	if len(m.handles) == 0 {
		m.open(t)
	}
	m.pass(1)
	return rapid.SampledFrom(m.handles).Draw(t, "handle")
}

func (m *machine) pass(ms uint64) {
	m.clock.pass(ms)
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
	m.geo.seed = c.Seed() // a private one has another each time
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
		*m = machine{
			ctx: m.ctx, options: m.options, clock: m.clock, geo: m.geo, grain: m.grain, room: m.room, period: m.period,
			entries: map[id]*entry{}, spaces: map[string]int{}, tokens: map[flagstone.Token]bool{},
		}
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

// keys are those of ids that fit a namespace.
var keys = slices.DeleteFunc(slices.Clone(ids), func(i id) bool { return i.byHash || len(i.key) > longestKey-8 })

// key draws a key of the namespace or the cache.
func (m *machine) key(t *rapid.T, sp space) []byte {
	from := keys
	if !sp.some {
		from = append(slices.Clone(keys), id{key: strings.Repeat("k", longestKey)})
	}
	return []byte(rapid.SampledFrom(from).Draw(t, "key").key)
}

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

// store is what a write does that is to happen.
func (m *machine) store(i id, it flagstone.Item) (full bool) {
	need, had := cellsFor(i.keyBytes()+len(it.Value)), uint64(0)
	if old := m.entries[i]; old != nil {
		had = old.need
	}
	if need > had {
		for n := len(m.order) - 1; m.used+need-had > m.room; n-- {
			if m.options.OnFull == flagstone.Refuse {
				return true
			}
			if m.order[n] != i {
				m.remove(m.order[n])
				m.evictedFull++
			}
		}
	}
	m.remove(i)
	m.sets++
	e := &entry{value: it.Value, tag: it.Tag, serial: m.sets, stamp: m.now(), turn: m.turn, need: need}
	e.staleFor = (it.StaleFor + time.Second - 1) / time.Second * time.Second
	e.expiry = m.expiry(it.TTL)
	m.entries[i], m.order = e, slices.Insert(m.order, 0, i)
	m.used += need
	if m.left == 0 {
		m.turn++
		m.left = m.period
	}
	m.left--
	return false
}

func (m *machine) expiry(ttl time.Duration) uint64 {
	if ttl == flagstone.NoExpiry {
		return 0
	}
	return min(m.wall()+uint64((ttl-1)/time.Millisecond)+1, 1<<48-1)
}

func (m *machine) ttlOf(e *entry) time.Duration {
	if e.expiry == 0 {
		return flagstone.NoExpiry
	}
	return min(time.Duration(e.expiry-m.wall())*time.Millisecond, longest)
}

// longest is the longest duration in whole milliseconds.
const longest = time.Duration(1<<63-1) / time.Millisecond * time.Millisecond

func (m *machine) remove(i id) {
	if e := m.entries[i]; e != nil {
		m.used -= e.need
		delete(m.entries, i)
		m.order = slices.DeleteFunc(m.order, func(o id) bool { return o == i })
	}
}

// use is what a hit does: it stamps the record, unless the stamp is younger than
// the grain, which goes to the front once a turn.
func (m *machine) use(i id, grain uint64) {
	e := m.entries[i]
	if e.stamp+grain < m.now() {
		e.stamp = m.now()
	}
	if e.turn != m.turn {
		e.turn = m.turn
		m.order = slices.DeleteFunc(m.order, func(o id) bool { return o == i })
		m.order = slices.Insert(m.order, 0, i)
	}
}

// saw compares a token with what is known of the record's.
func (m *machine) saw(t *rapid.T, e *entry, token flagstone.Token) {
	t.Helper()
	if e.token != 0 && e.token == token {
		return
	}
	if token == 0 || e.token != 0 || m.tokens[token] {
		t.Fatalf("token %#x, it was %#x, seen before: %v", token, e.token, m.tokens[token])
	}
	e.token, m.tokens[token] = token, true
}

func (m *machine) ttl(t *rapid.T) time.Duration {
	return rapid.SampledFrom([]time.Duration{flagstone.NoExpiry, flagstone.NoExpiry, 1, time.Millisecond, 50*time.Millisecond + 1, time.Hour, 1<<63 - 1}).Draw(t, "ttl")
}

func (m *machine) item(t *rapid.T) flagstone.Item {
	size := rapid.SampledFrom([]int{0, 1, 8, 8, 64, 72, 80, 81, 184, 185, 300, longestVal}).Draw(t, "size")
	return flagstone.Item{
		Value: bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, size), TTL: m.ttl(t),
		StaleFor: rapid.SampledFrom([]time.Duration{0, 1, time.Second, flagstone.MaxStaleFor}).Draw(t, "stale"),
		Tag:      rapid.SampledFrom([]uint32{0, 1, math.MaxUint32}).Draw(t, "tag"),
	}
}

// wrote checks what a write says that should have stored an item, and does it.
func (m *machine) wrote(t *rapid.T, i id, it flagstone.Item, token flagstone.Token, err error) {
	t.Helper()
	if m.store(i, it) {
		mustFail(t, err, flagstone.ErrFull)
		return
	}
	must(t, err)
	if token != 0 {
		m.saw(t, m.entries[i], token)
	}
}

func (m *machine) set(t *rapid.T) {
	c, s, sp := m.pick(t)
	key, it := m.key(t, sp), m.item(t)
	var token flagstone.Token
	var err error
	switch rapid.IntRange(0, 3).Draw(t, "how") {
	case 0:
		if !sp.some {
			h := rapid.SampledFrom([]uint64{0, 1, 2, 1 << 32, 1<<64 - 1}).Draw(t, "hash")
			err = c.SetHash(m.ctx, h, it.Value, it.TTL)
			m.wrote(t, id{hash: h, byHash: true}, flagstone.Item{Value: it.Value, TTL: it.TTL}, 0, err)
			return
		}
		fallthrough
	case 1:
		it.StaleFor, it.Tag = 0, 0
		err = s.Set(m.ctx, key, it.Value, it.TTL)
	default:
		if token, err = s.SetItem(m.ctx, key, it); token == 0 && err == nil {
			t.Fatal("no token")
		}
	}
	scope, _, full := m.enter(sp, true)
	if full {
		mustFail(t, err, flagstone.ErrFull)
		return
	}
	m.wrote(t, id{key: string(key), scope: scope}, it, token, err)
}

func (m *machine) setBatch(t *rapid.T) {
	_, s, sp := m.pick(t)
	var items []flagstone.KeyItem
	for range rapid.IntRange(0, 10).Draw(t, "n") {
		items = append(items, flagstone.KeyItem{Key: m.key(t, sp), Item: m.item(t)})
	}
	stored, err := s.SetBatch(m.ctx, items)
	scope, _, full := m.enter(sp, true)
	want := 0
	for _, it := range items { // if the cache can be full it has one shard, and they keep their order
		if full = full || m.store(id{key: string(it.Key), scope: scope}, it.Item); full {
			break
		}
		want++
	}
	if full {
		mustFail(t, err, flagstone.ErrFull)
	} else {
		must(t, err)
	}
	if stored != want {
		t.Fatalf("%d stored, want %d", stored, want)
	}
}

// swap writes on a condition.
func (m *machine) swap(t *rapid.T) {
	_, s, sp := m.pick(t)
	key, it := m.key(t, sp), m.item(t)
	it.StaleFor, it.Tag = 0, 0
	if rapid.Bool().Draw(t, "absent") {
		stored, err := s.SetIfAbsent(m.ctx, key, it.Value, it.TTL)
		scope, _, full := m.enter(sp, true)
		i := id{key: string(key), scope: scope}
		switch {
		case full:
			mustFail(t, err, flagstone.ErrFull)
		case m.alive(i):
			must(t, err)
			if stored {
				t.Fatalf("%+v was there", i)
			}
		default:
			m.wrote(t, i, it, 0, err)
			if stored != (err == nil) {
				t.Fatalf("%+v was not there: %v, %v", i, stored, err)
			}
		}
		return
	}
	now, ok, err := s.GetItem(nil, key)
	must(t, err)
	m.read(t, sp, key, now, ok)
	if ok && rapid.Bool().Draw(t, "overtaken") {
		_, err = s.SetItem(m.ctx, key, now)
		scope, _, _ := m.enter(sp, true)
		m.wrote(t, id{key: string(key), scope: scope}, now, 0, err)
	}
	token := rapid.SampledFrom([]flagstone.Token{0, 1, 2, 3, now.Token, now.Token, now.Token + 1, math.MaxUint64}).Draw(t, "token")
	next, stored, err := s.CompareAndSwap(m.ctx, key, token, it.Value, it.TTL)
	scope, _, _ := m.enter(sp, false)
	i := id{key: string(key), scope: scope}
	// The token of what overtook it is still unknown, and another one.
	if e := m.entries[i]; m.alive(i) && (scope != 0) == sp.some && token != 0 && e.token == token {
		m.wrote(t, i, it, next, err)
		if stored != (err == nil) {
			t.Fatalf("%v, %v", stored, err)
		}
	} else if must(t, err); stored || next != 0 {
		t.Fatalf("%+v: %#x was stored over %+v by token %#x", i, next, e, token)
	}
}

func (m *machine) increment(t *rapid.T) {
	_, s, sp := m.pick(t)
	key, ttl := m.key(t, sp), m.ttl(t)
	numbers := []int64{0, 1, -1, 1 << 62, -1 << 62, math.MaxInt64, math.MinInt64}
	delta, initial := rapid.SampledFrom(numbers).Draw(t, "delta"), rapid.SampledFrom(numbers).Draw(t, "initial")
	sum, err := s.Increment(m.ctx, key, delta, initial, ttl)
	scope, _, full := m.enter(sp, true)
	if full {
		mustFail(t, err, flagstone.ErrFull)
		return
	}
	i := id{key: string(key), scope: scope}
	it := flagstone.Item{Value: binary.LittleEndian.AppendUint64(nil, uint64(initial)), TTL: ttl}
	e := m.entries[i]
	if m.alive(i) {
		it = flagstone.Item{Value: e.value, StaleFor: e.staleFor, Tag: e.tag}
	} else {
		e = nil
	}
	if len(it.Value) != 8 {
		mustFail(t, err, flagstone.ErrNotCounter)
		return
	}
	wide := big.NewInt(int64(binary.LittleEndian.Uint64(it.Value)))
	if wide.Add(wide, big.NewInt(delta)); !wide.IsInt64() {
		mustFail(t, err, flagstone.ErrOverflow)
		return
	}
	it.Value = binary.LittleEndian.AppendUint64(nil, uint64(wide.Int64()))
	m.wrote(t, i, it, 0, err)
	if err == nil && sum != wide.Int64() {
		t.Fatalf("%d, want %d", sum, wide)
	}
	if e != nil {
		m.entries[i].expiry = e.expiry
	}
}

func (m *machine) touch(t *rapid.T) {
	_, s, sp := m.pick(t)
	key, ttl := m.key(t, sp), m.ttl(t)
	found, err := s.Touch(m.ctx, key, ttl)
	must(t, err)
	scope, ok, _ := m.enter(sp, false)
	i := id{key: string(key), scope: scope}
	if want := ok && m.alive(i); found != want {
		t.Fatalf("%+v was found: %v", i, found)
	}
	if found {
		m.entries[i].expiry = m.expiry(ttl)
		m.use(i, 0)
	}
}

// read checks what GetItem says and does to the record.
func (m *machine) read(t *rapid.T, sp space, key []byte, it flagstone.Item, ok bool) {
	t.Helper()
	scope, there, _ := m.enter(sp, false)
	i := id{key: string(key), scope: scope}
	there = there && m.alive(i)
	if ok != there {
		t.Fatalf("%+v is there: %v, want %v", i, ok, there)
	}
	if ok {
		e := m.entries[i]
		if !bytes.Equal(it.Value, e.value) || it.TTL != m.ttlOf(e) || it.StaleFor != e.staleFor || it.Tag != e.tag {
			t.Fatalf("%+v is %+v, want %+v", i, it, e)
		}
		m.saw(t, e, it.Token)
		m.use(i, m.grain)
	}
}

func (m *machine) get(t *rapid.T) {
	c, s, sp := m.pick(t)
	key := m.key(t, sp)
	dst := []byte("before ")
	var it flagstone.Item
	var ok bool
	var err error
	how := rapid.SampledFrom([]string{"get", "get", "item", "peek", "ttl", "hash"}).Draw(t, "how")
	switch how {
	case "get":
		it.Value, ok, err = s.Get(dst, key)
	case "item":
		if it, ok, err = s.GetItem(dst, key); !ok {
			it.Value = dst
		}
	case "peek":
		it.Value, ok, err = s.Peek(dst, key)
	case "ttl":
		it.TTL, ok, err = s.TTL(key)
		it.Value = dst
	case "hash":
		sp = space{}
		it.Value, ok, err = c.GetHash(dst, uint64(len(key)))
	}
	must(t, err)
	scope, there, _ := m.enter(sp, false)
	i := id{key: string(key), scope: scope}
	if how == "hash" {
		i = id{hash: uint64(len(key)), byHash: true}
	}
	there = there && m.alive(i)
	want := dst
	if there && how != "ttl" {
		want = append(want, m.entries[i].value...)
	}
	if ok != there || !bytes.Equal(it.Value, want) {
		t.Fatalf("%s: %+v is %q, %v, want %q, %v", how, i, it.Value, ok, want, there)
	}
	if !ok {
		return
	}
	e := m.entries[i]
	switch how {
	case "item":
		if it.TTL != m.ttlOf(e) || it.StaleFor != e.staleFor || it.Tag != e.tag {
			t.Fatalf("%+v is %+v, want %+v", i, it, e)
		}
		m.saw(t, e, it.Token)
	case "ttl":
		if it.TTL != m.ttlOf(e) {
			t.Fatalf("%+v: %v, want %v", i, it.TTL, m.ttlOf(e))
		}
		return
	case "peek":
		return
	}
	m.use(i, m.grain)
}

func (m *machine) batch(t *rapid.T) {
	_, s, sp := m.pick(t)
	var keys [][]byte
	for range rapid.IntRange(0, 20).Draw(t, "n") {
		keys = append(keys, m.key(t, sp))
	}
	var b flagstone.Batch
	must(t, s.GetBatch(&b, keys))
	scope, there, _ := m.enter(sp, false)
	hits := 0
	for n, k := range keys {
		i := id{key: string(k), scope: scope}
		value, ok := b.Value(n)
		if want := there && m.alive(i); ok != want || ok && !bytes.Equal(value, m.entries[i].value) {
			t.Fatalf("%d: %+v is %q, %v, want %v", n, i, value, ok, want)
		}
		if ok {
			hits++
			m.use(i, m.grain)
		}
	}
	if b.Len() != len(keys) || b.Hits() != hits {
		t.Fatalf("%d keys, %d hits, want %d, %d", b.Len(), b.Hits(), len(keys), hits)
	}
}

func (m *machine) delete(t *rapid.T) {
	c, s, sp := m.pick(t)
	i := rapid.SampledFrom(ids).Draw(t, "id")
	var found, there bool
	var err error
	if i.byHash {
		found, err = c.DeleteHash(m.ctx, i.hash)
		there = true
	} else {
		i.key = string(m.key(t, sp))
		found, err = s.Delete(m.ctx, []byte(i.key))
		i.scope, there, _ = m.enter(sp, false)
	}
	must(t, err)
	if want := there && m.alive(i); found != want {
		t.Fatalf("%+v was found: %v", i, found)
	}
	if there && m.entries[i] != nil {
		m.deleted++
		m.remove(i)
	}
}

func (m *machine) clear(t *rapid.T) {
	c, s, sp := m.pick(t)
	if n, ok := s.(*flagstone.Namespace); ok {
		must(t, n.Clear(m.ctx))
		if i := (id{key: sp.name, space: true}); m.entries[i] != nil {
			m.deleted++
			m.remove(i)
		}
		return
	}
	if rapid.IntRange(0, 5).Draw(t, "rarely") > 0 {
		t.Skip()
	}
	must(t, c.Clear(m.ctx))
	m.cleared += uint64(len(m.entries))
	for i := range m.entries {
		m.remove(i)
	}
}

// lastUse is what evictions go by: a namespace's id outlasts what it was used with.
func (m *machine) lastUse(i id) uint64 {
	if i.space {
		return m.entries[i].stamp + m.grain + clockSlack
	}
	return m.entries[i].stamp
}

// cutoff draws one, around what decides about a record, and returns who may go.
func (m *machine) cutoff(t *rapid.T) (olderThan time.Duration, limit int, mayGo func(id) bool) {
	slack := clockSlack + m.grain
	backs := []uint64{0, 1, 1000, 1 << 40}
	for _, i := range m.order {
		idle := m.now() - min(m.lastUse(i), m.now())
		for _, s := range []uint64{slack + 1, slack, slack - 1} {
			backs = append(backs, max(idle, s)-s)
		}
	}
	back := rapid.SampledFrom(backs).Draw(t, "older than ms")
	limit = rapid.SampledFrom([]int{-1, 0, 1, 1, 2, 3, 5, len(ids), math.MaxInt}).Draw(t, "limit")
	now := m.now()
	return time.Duration(back) * time.Millisecond, limit, func(i id) bool { return m.lastUse(i)+back+slack < now }
}

// gone compares what an eviction removed with the model, oldest first: those that
// may go, up to the limit, are gone. Of records used at the same time any may be
// first. The namespaces' ids that are older go along, uncounted.
func (m *machine) gone(t *rapid.T, c *flagstone.Cache, removed []id, limit int, mayGo func(id) bool) (count uint64) {
	t.Helper()
	var old []uint64
	for i := range m.entries {
		if !i.space && mayGo(i) {
			old = append(old, m.entries[i].stamp)
		}
	}
	slices.Sort(old)
	old = old[:min(len(old), max(limit, 0))]
	var got []uint64
	for _, i := range removed {
		if m.entries[i] == nil || i.space || !mayGo(i) {
			t.Fatalf("%+v may not go", i)
		}
		got = append(got, m.entries[i].stamp)
		m.remove(i)
	}
	if !slices.Equal(got, old) {
		t.Fatalf("evicted last used at %v, want %v", got, old)
	}
	last := uint64(math.MaxUint64) // what is older than this went
	if limit > 0 && len(got) == limit {
		last = got[limit-1]
	}
	count = uint64(len(got))
	for _, i := range slices.Collect(maps.Keys(m.entries)) {
		if !i.space || limit <= 0 || !mayGo(i) || m.lastUse(i) > last || m.lastUse(i) == last && c.ID(i.key) != 0 {
			continue
		}
		m.remove(i)
		count++
	}
	return count
}

func (m *machine) evict(t *rapid.T) {
	c := m.step(t)
	olderThan, limit, mayGo := m.cutoff(t)
	var removed []id
	if rapid.Bool().Draw(t, "pairs") {
		pairs, err := c.EvictPairs(m.ctx, olderThan, limit)
		must(t, err)
		for _, p := range pairs {
			i := id{key: string(p.Key), byHash: p.ByHash}
			if p.ByHash {
				i.hash = p.Hash
			}
			if p.Scope != 0 {
				i.scope = slices.Index(m.scopes, p.Scope) + 1
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
		removed = m.named(t, c, hashes)
	}
	m.evictedCutoff += m.gone(t, c, removed, limit, mayGo)
}

// named returns whose the hashes are.
func (m *machine) named(t *rapid.T, c *flagstone.Cache, hashes []uint64) (out []id) {
	t.Helper()
	byHash := map[uint64]id{}
	for i := range m.entries {
		if !i.space {
			byHash[m.hashOf(c, i)] = i
		}
	}
	for _, h := range hashes {
		i, ok := byHash[h]
		if !ok {
			t.Fatalf("%#x is nobody's hash, or comes twice", h)
		}
		delete(byHash, h)
		out = append(out, i)
	}
	return out
}

func (m *machine) evictNear(t *rapid.T) {
	c := m.step(t)
	olderThan, limit, mayGo := m.cutoff(t)
	i := rapid.SampledFrom(ids).Draw(t, "id")
	var hashes []uint64
	var err error
	if i.byHash {
		hashes, err = c.EvictNearHash(m.ctx, i.hash, olderThan, limit)
	} else {
		hashes, err = c.EvictNear(m.ctx, []byte(i.key), olderThan, limit)
	}
	must(t, err)
	removed := m.named(t, c, hashes)
	bucket := func(i id) [2]uint64 {
		h := m.placed(c, i)
		return [2]uint64{h % m.geo.shards, h & math.MaxUint32 * m.geo.buckets >> 32}
	}
	near := 0
	for j := range m.entries {
		if !j.space && mayGo(j) && bucket(j) == bucket(i) {
			near++
		}
	}
	near = min(near, max(limit, 0), len(removed))
	m.evictedCutoff += m.gone(t, c, removed[:near], near, func(j id) bool { return !j.space && mayGo(j) && bucket(j) == bucket(i) })
	m.evictedCutoff += m.gone(t, c, removed[near:], limit-near, mayGo)
}

func (m *machine) evictTag(t *rapid.T) {
	c := m.step(t)
	tag := rapid.SampledFrom([]uint32{0, 1, 2, math.MaxUint32}).Draw(t, "tag")
	_, limit, _ := m.cutoff(t)
	hashes, err := c.EvictTag(m.ctx, tag, limit)
	must(t, err)
	m.evictedTag += m.gone(t, c, m.named(t, c, hashes), limit, func(i id) bool { return !i.space && m.entries[i].tag == tag })
}

func (m *machine) idle(e *entry) time.Duration {
	return time.Duration(m.now()-e.stamp) * time.Millisecond
}

// hashOf is the hash that an eviction reports, placed the one that places the record.
func (m *machine) hashOf(c *flagstone.Cache, i id) uint64 {
	if i.byHash {
		return i.hash
	}
	return m.placed(c, i)
}

func (m *machine) placed(c *flagstone.Cache, i id) uint64 {
	if i.byHash {
		x := i.hash ^ m.geo.seed
		x = (x ^ x>>33) * 0xff51afd7ed558ccd
		x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
		return x ^ x>>33
	}
	key := []byte(i.key)
	if i.scope != 0 {
		key = append(binary.LittleEndian.AppendUint64(nil, m.scopes[i.scope-1]), key...)
	}
	return c.HashOf(key)
}

func (m *machine) scan(t *rapid.T) {
	c, s, sp := m.pick(t)
	all, wanted := s.All(m.ctx), func(*entry) bool { return true }
	if rapid.Bool().Draw(t, "tagged") {
		tag := rapid.SampledFrom([]uint32{0, 1, 2, math.MaxUint32}).Draw(t, "tag")
		all, wanted = s.Tagged(m.ctx, tag), func(e *entry) bool { return e.tag == tag }
	}
	seen := map[id]bool{}
	entered, scope, there := false, 0, false
	for r, err := range all {
		must(t, err)
		if !entered {
			scope, there, _ = m.enter(sp, false)
			entered = true
		}
		i := id{key: string(r.Key), byHash: r.ByHash, scope: scope}
		if r.ByHash {
			i.hash = r.Hash
		}
		e := m.entries[i]
		if seen[i] || !there || !m.alive(i) || !wanted(e) || r.Hash != m.hashOf(c, i) || !bytes.Equal(r.Value, e.value) ||
			r.Idle != m.idle(e) || r.TTL != m.ttlOf(e) || r.StaleFor != e.staleFor || r.Tag != e.tag {
			t.Fatalf("%+v, want %+v, seen before: %v", r, e, seen[i])
		}
		m.saw(t, e, r.Token)
		seen[i] = true
	}
	if !entered {
		scope, there, _ = m.enter(sp, false)
	}
	for i, e := range m.entries {
		if there && i.scope == scope && !i.space && m.alive(i) && wanted(e) && !seen[i] {
			t.Fatalf("%+v was left out", i)
		}
	}
}

// repair rebuilds, which loses nothing and puts the records in order of use.
func (m *machine) repair(t *rapid.T) {
	must(t, m.step(t).Rebuild(m.ctx))
	m.rebuilt += uint64(m.options.Shards)
	slices.SortFunc(m.order, func(a, b id) int {
		return cmp.Or(cmp.Compare(m.lastUse(b), m.lastUse(a)), cmp.Compare(m.entries[b].serial, m.entries[a].serial))
	})
}

// grow adds a slab like the first one.
func (m *machine) grow(t *rapid.T) {
	c := m.step(t)
	tiers, err := c.Tiers()
	if must(t, err); len(tiers) == 4 {
		t.Skip()
	}
	_, err = c.Grow(m.ctx, "grown", flagstone.Shape{})
	must(t, err)
}

// twoTiers draws two of them.
func (m *machine) twoTiers(t *rapid.T, c *flagstone.Cache) (tiers []*flagstone.Slab, from, to int) {
	tiers, err := c.Tiers()
	if must(t, err); len(tiers) == 1 {
		t.Skip()
	}
	from = rapid.IntRange(0, len(tiers)-1).Draw(t, "from")
	return tiers, from, (from + rapid.IntRange(1, len(tiers)-1).Draw(t, "further")) % len(tiers)
}

// move moves the oldest records of one slab to another one.
func (m *machine) move(t *rapid.T) {
	c := m.step(t)
	_, from, to := m.twoTiers(t, c)
	_, err := c.Shift(m.ctx, from, to, rapid.SampledFrom([]int{1, 3, math.MaxInt}).Draw(t, "limit"))
	must(t, err)
}

// drain moves all that there is into a slab, and retires it: what has expired goes.
func (m *machine) drain(t *rapid.T) {
	c := m.step(t)
	tiers, _, to := m.twoTiers(t, c)
	to = max(to, 1)
	for from := range tiers {
		if from != to {
			_, err := c.Shift(m.ctx, from, to, math.MaxInt)
			must(t, err)
		}
	}
	for i, e := range maps.Clone(m.entries) {
		if !m.alive(i) && m.wall() >= e.expiry+uint64(e.staleFor/time.Millisecond) {
			m.remove(i)
		}
	}
	moved, err := tiers[to].Drain(m.ctx)
	if must(t, err); moved != len(m.entries) {
		t.Fatalf("%d moved, want %d", moved, len(m.entries))
	}
	_, err = tiers[to].Drain(m.ctx)
	mustFail(t, err, flagstone.ErrRetired)
	m.drained = true
}

// learn finds the ids of new scopes: of one whose namespace has lost it within the
// same step, by its records.
func (m *machine) learn(t *rapid.T, c *flagstone.Cache) {
	for name, scope := range m.spaces {
		is := c.ID(name)
		if has := m.entries[id{key: name, space: true}] != nil; has != (is != 0) || has && m.scopes[scope-1] != 0 && m.scopes[scope-1] != is {
			t.Fatalf("namespace %q has the id %#x, want %#x: %v", name, is, m.scopes[scope-1], has)
		}
		if is != 0 {
			m.scopes[scope-1] = is
		}
	}
	must(t, c.Scopes(m.ctx, func(scope uint64) {
		if last := len(m.scopes) - 1; !slices.Contains(m.scopes, scope) {
			if last < 0 || m.scopes[last] != 0 {
				t.Fatalf("scope %#x comes from nowhere", scope)
			}
			m.scopes[last] = scope
		}
	}))
}

// agree holds after every step.
func (m *machine) agree(t *rapid.T) {
	for n, c := range m.handles {
		if n == 0 {
			m.learn(t, c)
		}
		problems, err := c.Check(m.ctx)
		must(t, err)
		if len(problems) > 0 {
			t.Fatal(strings.Join(problems, "\n"))
		}
		got, err := c.Stats()
		must(t, err)
		want := got // but for what the model knows
		want.Records, want.Cells, want.Bytes = uint64(len(m.entries)), m.used, 0
		want.Sets, want.Deletes, want.Rebuilds, want.Steals, want.Dropped = m.sets, m.deleted, m.rebuilt, 0, 0
		if m.drained {
			m.deleted, m.evictedCutoff, m.evictedTag, m.cleared = got.Deletes, got.EvictedCutoff, got.EvictedTag, got.Cleared
			want.Deletes = m.deleted
			if got.Rebuilds > m.rebuilt { // one that the directory's last change made begin anew
				m.rebuilt, want.Rebuilds = got.Rebuilds, got.Rebuilds
			}
		}
		want.EvictedFull, want.EvictedCutoff, want.EvictedTag, want.Cleared = m.evictedFull, m.evictedCutoff, m.evictedTag, m.cleared
		for i, e := range m.entries {
			want.Bytes += uint64(i.keyBytes() + len(e.value))
		}
		if !reflect.DeepEqual(got, want) || len(got.Processes) != len(m.handles) {
			t.Fatalf("%+v\nwant %+v", got, want)
		}
		if n, err := c.Len(); err != nil || n != want.Records {
			t.Fatalf("%d records, %v, want %d", n, err, want.Records)
		}
		if holders, err := c.Holders(); err != nil || len(holders) != 0 {
			t.Fatalf("%+v, %v", holders, err)
		}
	}
	if m.ctx.Err() != nil {
		t.Fatal(errors.New("took too long"))
	}
}
