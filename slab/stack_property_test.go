package slab

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// stackRecord is what the model of a stack knows of a record: not where it is.
type stackRecord struct {
	Key
	Item
	stamp uint64
	claim Claim // if it is one
}

func (r *stackRecord) inner() bool { return r.flags&layout.FlagClaim != 0 }

// shelf is a slab in the directory of a stackMachine.
type shelf struct {
	seg   *shm.Segment
	state layout.Uint64
}

// stackMachine drives two members of a stack and a map side by side. The members'
// views are made anew only when they say ErrStale, or have missed.
type stackMachine struct {
	tb        testing.TB
	w         *world
	shapes    *rapid.Generator[Options] // of further tiers
	change    layout.Uint64             // the domain's
	directory []*shelf
	members   [2]stackMember
	records   map[string]*stackRecord // by Key.ID
	latest    map[uint32]uint64       // version given last, by shard
	keys      [][]byte
	evicted   uint64 // to make room, of slabs in the directory
	may       bool   // evict to make room
	full      bool   // may refuse
	grain     uint64
}

type stackMember struct {
	*member
	slabs   map[*shelf]*Slab
	view    *Stack
	shelves []*shelf // of the view
}

const openState = 7<<layout.StateGenerationShift | layout.EntryOpen

func (m *stackMachine) addShelf(o Options) {
	s := &shelf{seg: newSegment(m.tb, o)}
	m.directory = append(m.directory, s)
	m.change.Add(1)
	s.state.Store(openState)
}

func (m *stackMachine) refresh(t *rapid.T, p *stackMember) {
	o := StackOptions{
		Changes: &m.change, Seen: m.change.Load(), Promote: rapid.Bool().Draw(t, "promote"),
		Search: rapid.SampledFrom([]Search{Interleaved, InOrder}).Draw(t, "search"),
	}
	var tiers []Tier
	for i, s := range m.directory {
		if p.slabs[s] == nil {
			var err error
			if i == 0 {
				p.slabs[s], err = Open(s.seg, p.domain(), testID)
			} else {
				p.slabs[s], err = OpenBelow(s.seg, p.slabs[m.directory[0]], testID)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		tiers = append(tiers, Tier{p.slabs[s], &s.state, openState})
	}
	p.view, p.shelves = NewStack(o, tiers...), slices.Clone(m.directory)
}

// stackVariant says what a run of the machine may lose.
type stackVariant struct {
	name         string
	first, other *rapid.Generator[Options]
	tiers        int
	evict, full  bool
}

func stackShape(entries []uint64, limits []int, policies []Policy, grains []int) *rapid.Generator[Options] {
	return rapid.Custom(func(t *rapid.T) Options {
		return Options{
			Entries: rapid.SampledFrom(entries).Draw(t, "entries"), Shards: 2,
			CellSize: rapid.SampledFrom([]int{64, 128, 192}).Draw(t, "cell"),
			MaxKey:   100, MaxValue: rapid.SampledFrom(limits).Draw(t, "limit"),
			OnFull:      rapid.SampledFrom(policies).Draw(t, "policy"),
			Order:       rapid.SampledFrom([]Order{LRU, S3FIFO}).Draw(t, "order"),
			StampMillis: rapid.SampledFrom(grains).Draw(t, "grain"),
		}
	})
}

func newStackMachine(t *rapid.T, tb testing.TB, v stackVariant) *stackMachine {
	m := &stackMachine{
		tb: tb, w: newWorld(), shapes: v.other, may: v.evict, full: v.full,
		records: map[string]*stackRecord{}, latest: map[uint32]uint64{},
	}
	first := v.first.Draw(t, "tier 0")
	m.grain = uint64(first.StampMillis)
	m.addShelf(first)
	for range rapid.IntRange(0, v.tiers-1).Draw(t, "further tiers") {
		m.addShelf(v.other.Draw(t, "tier"))
	}
	for i := range m.members {
		m.members[i] = stackMember{member: m.w.member(uint32(i)), slabs: map[*shelf]*Slab{}}
		m.refresh(t, &m.members[i])
	}
	for i, n := range []int{0, 1, 2, 8, 15, 16, 17, 63, 64, 65, 79, 80, 81, 100} {
		m.keys = append(m.keys, []byte(strings.Repeat("a", n)), []byte(strings.Repeat(string(rune('b'+i)), n)))
	}
	m.keys = m.keys[1:]
	return m
}

func (m *stackMachine) member(t *rapid.T) *stackMember {
	return &m.members[rapid.IntRange(0, 1).Draw(t, "member")]
}

func (m *stackMachine) key(t *rapid.T, p *stackMember) Key {
	return p.view.Key(rapid.SampledFrom(m.keys).Draw(t, "key"))
}

func (m *stackMachine) item(t *rapid.T) Item {
	return Item{
		Value:  bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, rapid.SampledFrom([]int{0, 1, 8, 8, 64, 65, 100, 200, 300}).Draw(t, "size")),
		Expiry: m.expiry(t), Stale: rapid.SampledFrom([]uint16{0, 1}).Draw(t, "stale"), Tag: rapid.Uint32Range(0, 2).Draw(t, "tag"),
	}
}

func (m *stackMachine) expiry(t *rapid.T) uint64 {
	wall := m.w.wall.Load()
	return rapid.SampledFrom([]uint64{0, 0, 0, wall - 1, wall, wall + 1, wall + 50}).Draw(t, "expiry")
}

// open sees to it that the member has a view with the slabs.
func (m *stackMachine) open(t *rapid.T, p *stackMember, shelves ...*shelf) {
	for _, s := range shelves {
		if p.slabs[s] == nil {
			m.refresh(t, p)
		}
	}
}

// write runs op, anew with a new view if it is told that the directory has changed.
func (m *stackMachine) write(t *rapid.T, p *stackMember, op func(st *Stack) error) error {
	current := p.view.Seen == m.change.Load()
	err := op(p.view)
	if errors.Is(err, ErrStale) {
		if current {
			t.Fatal("stale, and nothing has changed")
		}
		m.refresh(t, p)
		err = op(p.view)
	} else if !current {
		t.Fatalf("done in a stale view: %v", err)
	}
	return err
}

// look is write for lookups, whose hits stand in any view.
func (m *stackMachine) look(t *rapid.T, p *stackMember, op func(st *Stack) (ok bool, err error)) (bool, error) {
	ok, err := op(p.view)
	if !ok && (err == nil || errors.Is(err, ErrStale)) && p.view.Seen != m.change.Load() {
		m.refresh(t, p)
		ok, err = op(p.view)
	}
	return ok, err
}

func (m *stackMachine) expired(r *stackRecord) bool {
	return r.Expiry != 0 && r.Expiry <= m.w.wall.Load()
}

// live returns the key's record if it has not expired.
func (m *stackMachine) live(k Key) *stackRecord {
	if r := m.records[k.ID()]; r != nil && !m.expired(r) {
		return r
	}
	return nil
}

func (m *stackMachine) use(r *stackRecord) {
	if r.stamp+m.grain < m.w.now.Load() {
		r.stamp = m.w.now.Load()
	}
}

// stored notes that the item is under the key now.
func (m *stackMachine) stored(t *rapid.T, p *stackMember, k Key, it Item, version uint64) *stackRecord {
	sh := p.view.shardOf(k.hash)
	if want := m.latest[sh.number] + 1<<layout.VersionSequenceShift; version != want|uint64(sh.number)<<layout.VersionShardShift {
		t.Fatalf("version %#x after %#x", version, m.latest[sh.number])
	}
	m.latest[sh.number] = version &^ (1<<layout.VersionSequenceShift - 1)
	it.Version = version
	r := &stackRecord{Key: k, Item: it, stamp: m.w.now.Load()}
	m.records[k.ID()] = r
	return r
}

// next is the version that a write is to have.
func (m *stackMachine) next(p *stackMember, k Key) uint64 {
	sh := p.view.shardOf(k.hash)
	return m.latest[sh.number] + 1<<layout.VersionSequenceShift | uint64(sh.number)<<layout.VersionShardShift
}

// refused reports whether the error is that there is no room, which need not be.
func (m *stackMachine) refused(t *rapid.T, err error) bool {
	if err != nil && !(m.full && errors.Is(err, ErrFull)) {
		t.Fatal(err)
	}
	return err != nil
}

// present returns what a shard has of the keys in it, by Key.ID.
func (m *stackMachine) present(t *rapid.T) (found map[string]survivor) {
	found = map[string]survivor{}
	for _, s := range m.directory {
		slab := m.members[0].slabs[s]
		for i := range slab.shards {
			sh := &slab.shards[i]
			used := make([]bool, sh.count+1)
			for n := uint32(1); n <= sh.count; n++ {
				if v := sh.cell(n).Version.Load(); isLive(v) {
					r, ok := sh.survivor(n, v, used)
					id := Key{bytes: r.key, flags: r.flags}.ID()
					if _, twice := found[id]; !ok || twice {
						t.Fatalf("%q is there twice", id)
					}
					r.tier = int(i)
					found[id] = r
				}
			}
		}
	}
	return found
}

// sync sees what had to go to make room, and that no more is missing. What a batch
// set again may have gone before.
func (m *stackMachine) sync(t *rapid.T, present map[string]survivor) {
	var evicted uint64
	for _, s := range m.directory {
		st, err := m.members[0].slabs[s].Stats()
		if err != nil {
			t.Fatal(err)
		}
		evicted += st.EvictedFull
	}
	gone := uint64(0)
	for id := range m.records {
		if _, ok := present[id]; !ok {
			delete(m.records, id)
			gone++
		}
	}
	if gone > evicted-m.evicted || !m.may && gone > 0 {
		t.Fatalf("%d records are gone, %d made room", gone, evicted-m.evicted)
	}
	m.evicted = evicted
}

// Check is what holds after every step.
func (m *stackMachine) Check(t *rapid.T) {
	for m.members[0].view.Seen != m.change.Load() {
		m.refresh(t, &m.members[0])
	}
	st := m.members[0].view
	problems, err := st.Check(bg)
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	present := m.present(t)
	m.sync(t, present)
	for id, r := range m.records {
		got := present[id]
		if got.version != r.Version || got.stamp != r.stamp {
			t.Fatalf("%q: version %#x last used %d, want %#x and %d", id, got.version, got.stamp, r.Version, r.stamp)
		}
	}
	if len(present) != len(m.records) {
		t.Fatalf("%d records, want %d", len(present), len(m.records))
	}
	if all, err := st.Stats(); err != nil || all.Rebuilds != 0 || all.Dropped != 0 {
		if m.rebuilt(all.Rebuilds) || all.Dropped != 0 {
			t.Fatalf("%+v, %v", all, err)
		}
	}
}

// rebuilt reports whether there were other rebuilds than those asked for.
func (m *stackMachine) rebuilt(n uint64) bool {
	own := uint64(0)
	for i := range m.members {
		own += m.members[i].slabs[m.directory[0]].Counters().Rebuilds
	}
	return n != own || n%2 != 0
}

func (m *stackMachine) Put(t *rapid.T) {
	p := m.member(t)
	k, it := m.key(t, p), m.item(t)
	there := uint64(Absent)
	if r := m.live(k); r != nil {
		there = r.Version
	}
	want := rapid.SampledFrom([]uint64{Anyhow, Anyhow, Anyhow, Absent, Never, there, there + 1<<layout.VersionSequenceShift}).Draw(t, "want")
	var version uint64
	var stored bool
	err := m.write(t, p, func(st *Stack) (err error) {
		version, stored, err = st.Put(bg, k, &it, want)
		return err
	})
	if want != Anyhow && want != there {
		if version != 0 || stored || err != nil {
			t.Fatalf("%#x, %v, %v though %#x is there and %#x was wanted", version, stored, err, there, want)
		}
		return
	}
	delete(m.records, k.claim().ID())
	if m.refused(t, err) {
		return
	}
	if !stored {
		t.Fatal("not stored")
	}
	m.stored(t, p, k, it, version)
}

func (m *stackMachine) PutBatch(t *rapid.T) {
	p := m.member(t)
	var items []KeyItem
	for range rapid.IntRange(0, 12).Draw(t, "items") {
		items = append(items, KeyItem{m.key(t, p), m.item(t)})
	}
	var n int
	var err error
	if len(items) > 0 { // of none it need not know that the view is stale
		err = m.write(t, p, func(st *Stack) (err error) {
			n, err = st.PutBatch(bg, items)
			return err
		})
	}
	slices.SortStableFunc(items, func(a, b KeyItem) int {
		return cmp.Compare(p.view.shardOf(a.Key.hash).number, p.view.shardOf(b.Key.hash).number)
	})
	for _, it := range items[:n] {
		delete(m.records, it.Key.claim().ID())
		m.stored(t, p, it.Key, it.Item, m.next(p, it.Key))
	}
	if m.refused(t, err) {
		delete(m.records, items[n].Key.claim().ID())
	} else if n != len(items) {
		t.Fatalf("%d of %d stored", n, len(items))
	}
}

func (m *stackMachine) Add(t *rapid.T) {
	p := m.member(t)
	k, it := m.key(t, p), m.item(t)
	it.Value = binary.LittleEndian.AppendUint64(nil, 5)
	var sum int64
	err := m.write(t, p, func(st *Stack) (err error) { sum, err = st.Add(bg, k, 3, it); return err })
	if r := m.live(k); r != nil {
		if len(r.Value) != 8 {
			if !errors.Is(err, ErrNotCounter) {
				t.Fatal(err)
			}
			return
		}
		it = r.Item
	}
	delete(m.records, k.claim().ID())
	if m.refused(t, err) {
		return
	}
	n := binary.LittleEndian.Uint64(it.Value) + 3
	if uint64(sum) != n {
		t.Fatalf("%d, want %d", sum, n)
	}
	it.Value = binary.LittleEndian.AppendUint64(nil, n)
	m.stored(t, p, k, it, m.next(p, k))
}

func (m *stackMachine) Keep(t *rapid.T) {
	p := m.member(t)
	k, it := m.key(t, p), m.item(t)
	var value []byte
	err := m.write(t, p, func(st *Stack) (err error) { value, err = st.Keep(bg, nil, k, &it); return err })
	if r := m.live(k); r != nil && len(r.Value) == len(it.Value) {
		if err != nil || !bytes.Equal(value, r.Value) {
			t.Fatalf("%q, %v; want %q", value, err, r.Value)
		}
		return
	}
	delete(m.records, k.claim().ID())
	if !m.refused(t, err) {
		if !bytes.Equal(value, it.Value) {
			t.Fatalf("%q, want %q", value, it.Value)
		}
		m.stored(t, p, k, it, m.next(p, k))
	}
}

func (m *stackMachine) Touch(t *rapid.T) {
	p := m.member(t)
	k, expiry := m.key(t, p), m.expiry(t)
	var ok bool
	err := m.write(t, p, func(st *Stack) (err error) { ok, err = st.Touch(bg, k, expiry); return err })
	r := m.live(k)
	if ok != (r != nil) || err != nil {
		t.Fatal(ok, err)
	}
	if r != nil {
		r.Expiry, r.stamp = expiry, max(r.stamp, m.w.now.Load())
	}
}

func (m *stackMachine) Remove(t *rapid.T) {
	p := m.member(t)
	k := m.key(t, p)
	var ok bool
	err := m.write(t, p, func(st *Stack) (err error) { ok, err = st.Remove(bg, k); return err })
	if ok != (m.live(k) != nil) || err != nil {
		t.Fatal(ok, err)
	}
	delete(m.records, k.ID())
	delete(m.records, k.claim().ID())
}

// Get does lookups of all kinds.
func (m *stackMachine) Get(t *rapid.T) {
	p := m.member(t)
	k := m.key(t, p)
	how := rapid.SampledFrom([]string{"get", "get", "slowly", "waiting", "look", "peek", "stale"}).Draw(t, "how")
	want := m.live(k)
	var it Item
	var old bool
	ok, err := m.look(t, p, func(st *Stack) (ok bool, err error) {
		switch how {
		case "get":
			it.Value, ok, err = st.Get([]byte("prefix"), k.bytes)
		case "slowly":
			it.Value, ok, err = st.GetSlowly(append(make([]byte, 0, 1000), "prefix"...), k)
		case "waiting":
			it.Value, ok, err = st.GetWaiting(bg, []byte("prefix"), k)
		case "look":
			it, ok, err = st.Look([]byte("prefix"), k, 0)
		case "peek":
			it, ok, err = st.Peek([]byte("prefix"), k)
		case "stale":
			it.Value, ok, old, err = st.GetStale([]byte("prefix"), k)
		}
		return ok, err
	})
	if r := m.records[k.ID()]; how == "stale" && r != nil && m.expired(r) {
		if m.w.wall.Load() < r.Expiry+1000*uint64(r.Stale) {
			want = r
		}
	}
	if ok && want != nil && old != (how == "stale" && m.expired(want)) {
		t.Fatalf("expired %v", old)
	}
	if ok != (want != nil) || err != nil {
		t.Fatalf("%s: %v, %v, want %+v", how, ok, err, want)
	}
	if !ok {
		return
	}
	if string(it.Value) != "prefix"+string(want.Value) ||
		(how == "look" || how == "peek") && (it.Expiry != want.Expiry || it.Stale != want.Stale || it.Tag != want.Tag || it.Version != want.Version) {
		t.Fatalf("%s: %+v, want %+v", how, it, want)
	}
	if how != "waiting" && how != "peek" {
		m.use(want)
	}
}

func (m *stackMachine) GetBatch(t *rapid.T) {
	p := m.member(t)
	keys := rapid.SliceOfN(rapid.SampledFrom(m.keys), 0, 40).Draw(t, "keys")
	var b Batch
	_, err := m.look(t, p, func(st *Stack) (bool, error) {
		err := st.GetBatch(&b, keys)
		return b.Hits() == len(keys), err
	})
	if err != nil {
		t.Fatal(err)
	}
	present := m.present(t)
	for i := range keys {
		r := m.live(p.view.Key(keys[i]))
		if _, is := present[p.view.Key(keys[i]).ID()]; !is && m.may {
			continue // room for a hit before, on its way up, was made of it
		}
		if v, ok := b.Value(i); ok != (r != nil) || ok && !bytes.Equal(v, r.Value) {
			t.Fatalf("%q: %q, %v; want %+v", keys[i], v, ok, r)
		}
		if r != nil {
			m.use(r)
		}
	}
}

func (m *stackMachine) Claim(t *rapid.T) {
	p := m.member(t)
	k, now := m.key(t, p), m.w.now.Load()
	deadline := now + rapid.Uint64Range(0, 60).Draw(t, "deadline")
	var value []byte
	var ok, won bool
	var c Claim
	err := m.write(t, p, func(st *Stack) (err error) { value, ok, won, c, err = st.Claim(bg, nil, k, deadline); return err })
	if r := m.live(k); r != nil {
		if !ok || won || err != nil || !bytes.Equal(value, r.Value) {
			t.Fatal(ok, won, err)
		}
		return
	}
	ck := k.claim()
	if there := m.records[ck.ID()]; there != nil {
		if s := there.claim; s.State == Loading && s.Deadline > now || s.State == Failed && s.Until > m.w.wall.Load() {
			if ok || won || err != nil || c.State != s.State || c.Text != s.Text {
				t.Fatalf("%v, %v, %+v, %v; there is %+v", ok, won, c, err, s)
			}
			return
		}
	}
	if m.refused(t, err) {
		if _, there := m.present(t)[ck.ID()]; !there {
			delete(m.records, ck.ID()) // it is nobody's any more
		}
		return
	}
	if ok || !won {
		t.Fatal(ok, won)
	}
	present := m.present(t)
	if _, there := present[k.ID()]; !there && m.full && m.records[k.ID()] != nil && m.expired(m.records[k.ID()]) {
		delete(m.records, k.ID()) // the claim stands where the expired value stood, or it made room
		m.correct(t, present)
	}
	r := m.stored(t, p, ck, Item{Value: (&Claim{State: Loading, Owner: p.token, Deadline: deadline}).bytes(layout.ClaimText)}, c.Version)
	r.claim = c
}

// correct takes back that a record is gone if it was counted as having made room.
func (m *stackMachine) correct(t *rapid.T, present map[string]survivor) {
	var evicted, gone uint64
	for _, s := range m.directory {
		st, _ := m.members[0].slabs[s].Stats()
		evicted += st.EvictedFull
	}
	for id := range m.records {
		if _, ok := present[id]; !ok {
			gone++
		}
	}
	m.evicted = evicted - gone
}

// End ends a claim, somebody's or none.
func (m *stackMachine) End(t *rapid.T) {
	p := m.member(t)
	k, it := m.key(t, p), m.item(t)
	ck := k.claim()
	claim := rapid.Uint64().Draw(t, "claim")
	r := m.records[ck.ID()]
	if r != nil && rapid.IntRange(0, 5).Draw(t, "own") > 0 {
		claim = r.Version
	}
	how := rapid.SampledFrom([]string{"fill", "fill", "release", "fail"}).Draw(t, "how")
	until := m.w.wall.Load() + 30
	var version uint64
	err := m.write(t, p, func(st *Stack) (err error) {
		switch how {
		case "fill":
			version, err = st.Fill(bg, k, claim, &it)
		case "release":
			err = st.Release(bg, k, claim)
		case "fail":
			err = st.Fail(bg, k, claim, "why", until)
		}
		return err
	})
	if r == nil || r.Version != claim {
		if !errors.Is(err, ErrClaimLost) {
			t.Fatal(err)
		}
		return
	}
	if how != "fail" {
		delete(m.records, ck.ID())
	}
	if how != "release" && m.refused(t, err) {
		return
	}
	switch {
	case err != nil:
		t.Fatal(err)
	case how == "fill":
		m.stored(t, p, k, it, version)
	case how == "fail":
		got, ok, err := p.view.Peek(nil, ck)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		m.stored(t, p, ck, Item{}, got.Version).claim = parseClaim(got.Value)
	}
}

// eligible are the records that pass, in order of last use, and as many as an eviction
// removes, the library's own aside.
func (m *stackMachine) eligible(limit int, pass func(*stackRecord) bool) (out []*stackRecord) {
	all := slices.SortedFunc(maps.Values(m.records), func(a, b *stackRecord) int {
		return cmp.Or(cmp.Compare(a.stamp, b.stamp), cmp.Compare(a.Version, b.Version))
	})
	n := 0
	for _, r := range all {
		if n >= limit {
			break
		}
		if pass(r) {
			out = append(out, r)
			if !r.inner() {
				n++
			}
		}
	}
	return out
}

func (m *stackMachine) cutoff(t *rapid.T) (uint64, int, func(*stackRecord) bool) {
	margin := layout.ClockSlackMillis + m.grain
	cutoff := m.w.now.Load() + margin - rapid.Uint64Range(0, 150).Draw(t, "age")
	limit := rapid.SampledFrom([]int{-1, 0, 1, 2, 5, 1000, math.MaxInt}).Draw(t, "limit")
	return cutoff, limit, func(r *stackRecord) bool { return r.stamp+margin < cutoff }
}

// removed compares what went with what had to, and forgets it.
func (m *stackMachine) removed(t *rapid.T, hashes []uint64, want []*stackRecord) {
	for _, r := range want {
		delete(m.records, r.ID())
	}
	want = slices.DeleteFunc(want, (*stackRecord).inner)
	if len(hashes) != len(want) {
		t.Fatalf("%d evicted, want %d", len(hashes), len(want))
	}
	left := slices.Clone(want)
	for i, h := range hashes { // of one age those of several shards come in any order
		at := slices.IndexFunc(left, func(r *stackRecord) bool { return r.hash == h && r.stamp == want[i].stamp })
		if at < 0 {
			t.Fatalf("record %d must not go, or not yet", i)
		}
		left = slices.Delete(left, at, at+1)
	}
}

func (m *stackMachine) Evict(t *rapid.T) {
	p := m.member(t)
	cutoff, limit, pass := m.cutoff(t)
	if limit <= 0 {
		t.Skip()
	}
	switch rapid.IntRange(0, 2).Draw(t, "how") {
	case 0:
		var hashes []uint64
		if err := m.write(t, p, func(st *Stack) (err error) { hashes, err = st.Evict(bg, cutoff, limit); return err }); err != nil {
			t.Fatal(err)
		}
		m.removed(t, hashes, m.eligible(limit, pass))
	case 1:
		var pairs []Pair
		if err := m.write(t, p, func(st *Stack) (err error) { pairs, err = st.EvictPairs(bg, cutoff, limit); return err }); err != nil {
			t.Fatal(err)
		}
		want := m.eligible(limit, pass)
		for _, p := range pairs {
			r := m.records[Key{bytes: p.Key}.ID()]
			if r == nil || !bytes.Equal(p.Value, r.Value) || p.Version != r.Version || p.Tag != r.Tag || p.Expiry != r.Expiry || p.LastUse != r.stamp {
				t.Fatalf("%+v, want %+v", p, r)
			}
		}
		m.removed(t, hashes(pairs), want)
	case 2:
		tag := rapid.Uint32Range(0, 2).Draw(t, "tag")
		var hashes []uint64
		if err := m.write(t, p, func(st *Stack) (err error) { hashes, err = st.EvictTag(bg, tag, limit); return err }); err != nil {
			t.Fatal(err)
		}
		m.removed(t, hashes, m.eligible(limit, func(r *stackRecord) bool { return !r.inner() && r.Tag == tag }))
	}
}

// EvictNear chooses by buckets, of which the model knows nothing.
func (m *stackMachine) EvictNear(t *rapid.T) {
	p := m.member(t)
	cutoff, limit, pass := m.cutoff(t)
	if limit <= 0 {
		t.Skip()
	}
	k := m.key(t, p)
	var gone []uint64
	if err := m.write(t, p, func(st *Stack) (err error) { gone, err = st.EvictNear(bg, k, cutoff, limit); return err }); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range m.eligible(math.MaxInt, pass) {
		if !r.inner() {
			n++
		}
	}
	if len(gone) != min(n, limit) {
		t.Fatalf("%d evicted, want %d of %d", len(gone), limit, n)
	}
	present := m.present(t)
	for id, r := range m.records {
		if _, ok := present[id]; !ok && pass(r) {
			delete(m.records, id)
			n--
		}
	}
}

func (m *stackMachine) Clear(t *rapid.T) {
	if rapid.IntRange(0, 5).Draw(t, "rarely") > 0 {
		t.Skip()
	}
	if err := m.write(t, m.member(t), func(st *Stack) error { return st.Clear(bg) }); err != nil {
		t.Fatal(err)
	}
	clear(m.records)
}

func (m *stackMachine) Rebuild(t *rapid.T) {
	if err := m.write(t, m.member(t), func(st *Stack) error { return st.Rebuild(bg) }); err != nil {
		t.Fatal(err)
	}
}

func (m *stackMachine) Scan(t *rapid.T) {
	seen := map[string]bool{}
	var at Position
	err := m.write(t, m.member(t), func(st *Stack) error {
		return st.ScanFrom(bg, &at, func(r Record) bool {
			id := Key{bytes: r.Key}.ID()
			x := m.records[id]
			if seen[id] || x == nil || !bytes.Equal(r.Value, x.Value) || r.LastUse != x.stamp || r.Expiry != x.Expiry || r.Tag != x.Tag || r.Version != x.Version {
				t.Fatalf("%+v, again %v, want %+v", r, seen[id], x)
			}
			seen[id] = true
			return true
		})
	})
	for id, r := range m.records {
		if !r.inner() && !seen[id] {
			t.Fatalf("%q is left out", id)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (m *stackMachine) Clock(t *rapid.T) {
	m.w.now.Add(rapid.Uint64Range(0, 60).Draw(t, "now"))
	m.w.wall.Add(rapid.Uint64Range(0, 60).Draw(t, "wall"))
}

// Move moves records between any two tiers.
func (m *stackMachine) Move(t *rapid.T) {
	p := m.member(t)
	tier := rapid.IntRange(0, len(m.directory)-1)
	from, to := m.directory[tier.Draw(t, "from")], m.directory[tier.Draw(t, "to")]
	cutoff, limit, pass := m.cutoff(t)
	if from == to || limit <= 0 {
		t.Skip()
	}
	var n int
	m.open(t, p, from, to)
	err := m.write(t, p, func(st *Stack) (err error) {
		n, err = st.Move(bg, p.slabs[from], p.slabs[to], cutoff, limit)
		return err
	})
	if err != nil && !errors.Is(err, ErrFull) && !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	if to.state.Load()&^drainsMask != openState && n > 0 {
		t.Fatal("moved where nothing is taken")
	}
	if all := len(m.eligible(math.MaxInt, pass)); n > all*evictPasses {
		t.Fatalf("%d moved of %d", n, all)
	}
}

// draining returns a tier below 0 that drains, if there is one.
func (m *stackMachine) draining() *shelf {
	for _, s := range m.directory[1:] {
		if s.state.Load()&layout.EntryStateMask == layout.EntryDraining {
			return s
		}
	}
	return nil
}

// Drain goes the next step of emptying a tier: DRAINING, a pass, RETIRED or OPEN again.
func (m *stackMachine) Drain(t *rapid.T) {
	s := m.draining()
	if s == nil {
		if len(m.directory) == 1 || !m.may && !m.full && len(m.directory) == 2 {
			t.Skip()
		}
		last := len(m.directory) - 1
		if !m.may && !m.full {
			last-- // the one with room for all stays
		}
		s = m.directory[rapid.IntRange(1, last).Draw(t, "which")]
		drains := s.state.Load()&drainsMask + 1<<layout.EntryDrainsShift&drainsMask
		s.state.Store(openState&^layout.EntryStateMask | drains | layout.EntryDraining)
		m.change.Add(1)
		return
	}
	p := m.member(t)
	giveUp := uint64(0)
	if m.may {
		giveUp = m.w.now.Load() - rapid.Uint64Range(0, 200).Draw(t, "give up")
	}
	before := m.present(t)
	var empty bool
	var moved int
	m.open(t, p, s)
	err := m.write(t, p, func(st *Stack) (err error) { moved, empty, err = st.Empty(bg, p.slabs[s], giveUp); return err })
	if err != nil && !errors.Is(err, ErrFull) && !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	present := m.present(t)
	for id, r := range m.records { // what has expired goes
		_, was := before[id]
		if _, is := present[id]; was && !is && m.expired(r) && m.w.wall.Load() >= r.Expiry+1000*uint64(r.Stale) {
			delete(m.records, id)
		}
	}
	m.correct(t, present)
	stats, _ := p.slabs[s].Stats()
	if empty != (stats.Records == 0) || empty != (err == nil) {
		t.Fatalf("%d moved, empty %v, %v; %d are left", moved, empty, err, stats.Records)
	}
	m.sync(t, present)
	if empty { // RETIRED
		m.directory = slices.DeleteFunc(m.directory, func(o *shelf) bool { return o == s })
		m.evicted -= stats.EvictedFull
	} else {
		s.state.Store(s.state.Load()&^layout.EntryStateMask | layout.EntryOpen)
	}
	m.change.Add(1)
}

func (m *stackMachine) AddTier(t *rapid.T) {
	if len(m.directory) == 4 || rapid.IntRange(0, 3).Draw(t, "rarely") > 0 {
		t.Skip()
	}
	m.addShelf(m.shapes.Draw(t, "tier"))
}

func TestProperty_StackOfTiers_ExactlyAsOneMap(t *testing.T) {
	evict, refuse, both := []Policy{Evict}, []Policy{Refuse}, []Policy{Evict, Refuse}
	for _, v := range []stackVariant{
		{"evict", stackShape([]uint64{10, 25}, []int{300}, evict, []int{0, 20}), stackShape([]uint64{6, 20}, []int{100, 300, 600}, both, []int{0, 99}), 3, true, true},
		{"refuse", stackShape([]uint64{10, 25}, []int{300}, refuse, []int{0}), stackShape([]uint64{6, 40}, []int{100, 300, 600}, refuse, []int{0}), 3, false, true},
		{"room for all", stackShape([]uint64{8, 20}, []int{300}, evict, []int{0}), stackShape([]uint64{700}, []int{300}, evict, []int{0}), 3, false, false},
	} {
		t.Run(v.name, func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) {
				m := newStackMachine(r, t, v)
				if !v.evict && !v.full && len(m.directory) == 1 {
					m.addShelf(v.other.Draw(r, "room"))
				}
				r.Repeat(map[string]func(*rapid.T){
					"Put": m.Put, "Put again": m.Put, "Put more": m.Put, "PutBatch": m.PutBatch, "Add": m.Add, "Keep": m.Keep, "Touch": m.Touch,
					"Remove": m.Remove, "Get": m.Get, "Get again": m.Get, "Get more": m.Get, "GetBatch": m.GetBatch,
					"Claim": m.Claim, "End": m.End, "Evict": m.Evict, "EvictNear": m.EvictNear, "Clear": m.Clear, "Rebuild": m.Rebuild,
					"Scan": m.Scan, "Clock": m.Clock, "Move": m.Move, "Move again": m.Move, "Drain": m.Drain, "Drain on": m.Drain, "AddTier": m.AddTier,
					"": m.Check,
				})
			})
		})
	}
}
