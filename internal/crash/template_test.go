//go:build linux && steps

package crash

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/table"
)

// Templates are domains that operations begin with: made once, copied for each kill.
// Keys have generations 1 to 3 in them, of which only the last is there: an older one
// that comes back is seen.

// template makes a domain in e.dir, or goes on from where a child died.
type template struct {
	make func(e *env)
	// Or: the operation of that name, killed at that step, its nth passing, "" being
	// the end.
	killed, at string
	n          int
	damage     func(e *env) // afterwards, by hand
}

var templates = map[string]*template{
	"nothing": {make: func(*env) {}},
	"one":     {make: one},
	"turned": {make: func(e *env) { // the next hit of k0 promotes it
		one(e)
		for i := range 30 {
			e.set("k15", 3+i%4*4)
		}
		e.set("k15", 3)
	}},
	"overflow": {make: func(e *env) {
		keys := e.crowd(24)
		for generation := 1; generation <= 3; generation++ {
			for _, k := range keys[:16] {
				e.set(k, generation)
			}
		}
	}},
	"trimmed": {make: func(e *env) { // there are free overflow buckets
		keys := e.crowd(24)
		for _, k := range keys[:16] {
			e.set(k, 2)
		}
		for _, k := range keys[6:16] {
			_, err := e.open().Delete(e.ctx(), []byte(k))
			must(err)
		}
		for _, k := range keys[6:7] {
			e.set(k, 2)
		}
	}},
	"full": {make: full},
	"worn": {make: func(e *env) {
		one(e)
		for i := 8; i < 16; i++ { // free cells have numbers too
			_, err := e.open().Delete(e.ctx(), []byte("k"+strconv.Itoa(i)))
			must(err)
		}
	}, damage: wear},
	"queue": {make: queues},
	"tiers": {make: tiers},
	"tight": {make: func(e *env) { // tier 0 is full, and there is room below
		e.grow("below", 64)
		for generation := 1; generation <= 2; generation++ {
			e.sets("k", 0, 80, 2*generation)
		}
	}},
	"slabs": {make: slabs},

	// After a crash.
	"dead":      {killed: "flags and counters"},
	"creating":  {killed: "publish a segment", at: "shm.Create O_CREAT"},
	"active":    {killed: "grow", at: "table.Table.open State.CompareAndSwap"},
	"torn":      {killed: "set in place", at: "slab.place.store Slots.Store"},
	"draining":  {killed: "drain", at: "slab.shard.fill Version.Store 3"},
	"retired":   {killed: "publish and retire a segment", at: "table.removed Unlinkat"},
	"retiring":  {killed: "retire a slab", at: "slab.shard.clear Cleared.Add"},
	"claimed":   {killed: "claim"},
	"held":      {killed: "lock writers"},
	"crowded":   {killed: "set into an overflow bucket", at: "lru.Order.push first.Store"},
	"rebuilt":   {killed: "set after a crash", at: "slab.column.rebuild Rebuilds.Add"},
	"unmade":    {killed: "create", at: "table.header.write Ready.Store"},
	"unremoved": {killed: "destroy", at: "table.removed Unlinkat"},
	"damaged": {killed: "set in place", at: "slab.place.store Slots.Store", damage: func(e *env) {
		// One record of each shard that has one gets a length beyond all bounds, and one
		// cell a version of another shard.
		damage(e)
	}},
}

// begin makes an empty domain with small tables.
func (e *env) begin() *flagstone.Cache {
	t, err := table.Open(e.ctx(), table.Options{
		Dir: e.dir, Name: domain, Regions: 6, Entries: 8, Mutexes: 12, Held: 4, Mapped: 10, Clock: e.clock, Wake: e.wake,
	})
	must(err)
	c := e.open()
	must(t.Close())
	return c
}

// later lets time go by in a template.
func (e *env) later(d time.Duration) {
	e.clock.(*moving).add(d)
	e.open().Table().Tick()
}

// moving is a clock that a template moves.
type moving struct {
	mu  sync.Mutex // guards now
	now still
}

func (m *moving) add(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now += still(d / time.Millisecond)
}

func (m *moving) at() still {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

func (m *moving) Wall() uint64      { return m.at().Wall() }
func (m *moving) Monotonic() uint64 { return m.at().Monotonic() }

// one fills a cache of one slab to the half: plain keys, counters, tags, what expires, a
// namespace.
func one(e *env) {
	c := e.begin()
	for generation := 1; generation <= 3; generation++ {
		e.sets("k", 0, 16, generation)
		e.later(time.Second)
	}
	for _, n := range []string{"n0", "n1"} {
		_, err := c.Increment(e.ctx(), []byte(n), 7, 0, 0)
		must(err)
	}
	for i := range 3 {
		key := "t" + strconv.Itoa(i)
		_, err := c.SetItem(e.ctx(), []byte(key), flagstone.Item{Value: value(key, 3), Tag: 7})
		must(err)
		key = "x" + strconv.Itoa(i)
		must(c.Set(e.ctx(), []byte(key), value(key, 3), time.Second))
		must(c.Namespace("ns").Set(e.ctx(), []byte(key), value(key, 3), 0))
	}
	must(c.SetHash(e.ctx(), 99, value("hash99", 3), 0))
	must(c.Set(e.ctx(), []byte("ttl"), value("ttl", 3), 24*time.Hour))
}

// crowd returns n keys of one bucket.
func (e *env) crowd(n int) (keys []string) {
	c := e.cache
	if c == nil {
		c = e.openOrBegin()
	}
	buckets := uint64(1)
	for ; buckets < 1<<20; buckets++ { // as many as the slab has, at least
		if g := c.Table().Entries()[0].Params; buckets*layout.RecordsPerBucket >= g[1] {
			break
		}
	}
	for i := 0; len(keys) < n; i++ {
		k := fmt.Sprintf("c%d", i)
		if h := c.HashOf([]byte(k)); h&1 == 0 && (h&0xffffffff)*buckets>>32 == 0 {
			keys = append(keys, k)
		}
	}
	return keys
}

func (e *env) openOrBegin() *flagstone.Cache {
	if _, err := os.Stat(filepath.Join(e.dir, domain+".flagstone")); errors.Is(err, fs.ErrNotExist) {
		return e.begin()
	}
	return e.open()
}

// full fills a cache until it evicts.
func full(e *env) {
	e.begin()
	for generation := 1; generation <= 3; generation++ {
		e.sets("k", 0, 40, 2*generation) // of one cell
		e.later(time.Second)
	}
	e.sets("f", 0, 60, 2)
	e.later(time.Second)
}

// queues fills a cache of the s3fifo order until it evicts, with ghosts and uses.
func queues(e *env) {
	e.begin()
	e.sets("k", 0, 40, 2)
	for range 3 {
		e.later(time.Second)
		for i := range 40 {
			e.get("k" + strconv.Itoa(i))
		}
	}
	e.sets("k", 0, 10, 4)
	e.sets("f", 0, 700, 2)
	e.later(time.Second)
	for i := range 700 {
		for range 3 {
			e.get("f" + strconv.Itoa(i))
		}
	}
}

func (e *env) grow(name string, entries uint64) *flagstone.Slab {
	s, err := e.openOrBegin().Grow(e.ctx(), name, flagstone.Shape{Entries: entries})
	must(err)
	return s
}

func (e *env) tiers() []*flagstone.Slab {
	all, err := e.open().Tiers()
	must(err)
	return all
}

// tiers makes three slabs with records in all of them.
func tiers(e *env) {
	one(e)
	e.grow("below", 64)
	e.grow("last", 64)
	all := e.tiers()
	e.sets("d", 0, 8, 1)
	e.sets("d", 0, 8, 3)
	expiring := flagstone.Pair{Key: []byte("dx"), Value: value("dx", 3), Expires: time.UnixMilli(int64(e.clock.Wall()) + 2000)}
	_, err := all[2].InsertBatch(e.ctx(), []flagstone.Pair{expiring})
	must(err)
	e.later(time.Second)
	for _, to := range all[1:] {
		_, err := e.open().Move(e.ctx(), all[0], to, 500*time.Millisecond, 6)
		must(err)
	}
	e.sets("u", 0, 6, 3)
}

// slabs makes two independent slabs beside the primary one.
func slabs(e *env) {
	one(e)
	s, err := e.open().CreateSlab(e.ctx(), "other", flagstone.Shape{Entries: 64, Shards: 2, MaxKey: 40, MaxValue: 512})
	must(err)
	for generation := 1; generation <= 3; generation++ {
		for i := range 6 {
			key := "o" + strconv.Itoa(i)
			must(s.Set(e.ctx(), []byte(key), value(key, generation), 0))
		}
	}
	must(s.Cache().Namespace("ns").Set(e.ctx(), []byte("o9"), value("o9", 3), 0))
}

// file returns the domain's only slab.
func (e *env) file() string {
	found, err := filepath.Glob(filepath.Join(e.dir, domain+".flagstone", "v*", "slab-*"))
	must(err)
	return found[0]
}

// wear brings the first shard's numbers near their end, and a stamp far ahead.
func wear(e *env) {
	e.shardWord(layout.OffsetShardSequence).Store(layout.VersionHigh >> layout.VersionSequenceShift)
	w := e.words(e.file())
	h := shm.At[layout.SlabHeader](w, 0)
	cells := h.ShardOffset.Load() + h.CellOffset.Load()
	for n := range uint64(h.Cells.Load()) {
		c := shm.At[layout.CellHeader](w, cells+n*uint64(h.CellSize.Load()))
		if v := c.Version.Load(); v != 0 && v&layout.VersionStateMask == layout.VersionLive {
			c.Recency.Store(c.Recency.Load() | 1<<63)
		}
	}
}

// damage writes garbage into the slab's cells.
func damage(e *env) {
	name := e.file()
	b, err := os.ReadFile(name)
	must(err)
	le := binary.LittleEndian
	shards := le.Uint32(b[layout.OffsetSlabHeaderShards:])
	cells, cellSize := le.Uint32(b[layout.OffsetSlabHeaderCells:]), le.Uint32(b[layout.OffsetSlabHeaderCellSize:])
	first, stride := le.Uint64(b[layout.OffsetSlabHeaderShardOffset:]), le.Uint64(b[layout.OffsetSlabHeaderShardStride:])
	inShard := le.Uint64(b[layout.OffsetSlabHeaderCellOffset:])
	for shard := range uint64(shards) {
		done := 0
		for n := range uint64(cells) {
			cell := b[first+shard*stride+inShard+n*uint64(cellSize):]
			if v := le.Uint64(cell); v == 0 || v&layout.VersionStateMask != layout.VersionLive {
				continue
			}
			switch done++; done {
			case 1:
				le.PutUint32(cell[layout.OffsetCellHeaderValueLength:], 1<<30)
			case 2:
				le.PutUint64(cell, 77<<layout.VersionSequenceShift|200<<layout.VersionShardShift)
			}
		}
	}
	must(os.WriteFile(name, b, 0o600))
}

// library keeps the templates that were made, below one folder.
type library struct {
	dir   string
	names *names
	made  map[string]string // folder by name

	mu     sync.Mutex       // guards states
	states map[string]state // of templates, once they are recovered, by operation
}

// after reports whether a template is what somebody left who was killed.
func (t *template) after() bool { return t.make == nil }

// get returns the folder of a template, which it makes if need be.
func (l *library) get(name string, o *operation) (dir string, err error) {
	key := name
	if o.options != nil {
		key += "/" + o.name // made with other options
	}
	if dir, ok := l.made[key]; ok {
		return dir, nil
	}
	t := templates[name]
	if t == nil {
		return "", fmt.Errorf("no template %q", name)
	}
	dir = filepath.Join(l.dir, "template-"+strings.ReplaceAll(key, "/", "-"))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if t.make != nil {
		err = guarded(func() {
			e := newEnv(dir, o)
			e.clock = &moving{now: dawn}
			t.make(e)
			e.close()
		})
	} else {
		err = l.kill(dir, t)
	}
	if err != nil {
		return "", fmt.Errorf("template %s: %w", name, err)
	}
	if t.damage != nil {
		if err := guarded(func() { t.damage(newEnv(dir, o)) }); err != nil {
			return "", err
		}
	}
	l.made[key] = dir
	return dir, nil
}

// kill makes a template by the death of a child.
func (l *library) kill(dir string, t *template) error {
	o := find(t.killed)
	before, err := l.get(o.on, o)
	if err != nil {
		return err
	}
	if err := copyTree(before, dir); err != nil {
		return err
	}
	where := end
	if t.at != "" {
		found := false
		for at, name := range l.names.steps {
			if name == t.at {
				where, found = passage{Site: site{File: at.file, Line: at.line}, N: max(t.n, 1)}, true
			}
		}
		if !found {
			return fmt.Errorf("no step %q", t.at)
		}
	}
	out, err := spawn(job{Dir: dir, Operation: o.name, Kill: &where})
	if err == nil && out.died == nil {
		err = fmt.Errorf("%s did not die at %s", o.name, t.at)
	}
	return err
}

// copyTree copies folders and files, with their modes.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || rel == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.Mkdir(target, info.Mode().Perm())
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, info.Mode().Perm())
	})
}
