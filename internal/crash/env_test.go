//go:build linux && steps

package crash

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

const (
	domain   = "c"
	patience = 60 * time.Second // of the parent with a child
	bound    = 5 * time.Second  // of a wait for what somebody dead has left
	never    = 24 * time.Hour
)

// failure is a panic of an operation or a check.
type failure struct{ error }

func must(err error, what ...any) {
	if err != nil {
		panic(failure{fmt.Errorf("%s%w", fmt.Sprintln(what...), err)})
	}
}

func wrong(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

func guarded(f func()) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = r.error
		default:
			panic(r)
		}
	}()
	f()
	return nil
}

// still is a clock that stands. All processes of one time have it, so that what an
// operation does to clock words and stamps does not depend on the day.
type still uint64

const (
	dawn  still = 1_000_000 // when templates are begun
	noon  still = 2_000_000 // when everything else is
	begun       = 1_700_000_000_000
)

func (s still) Wall() uint64      { return begun + uint64(s) }
func (s still) Monotonic() uint64 { return uint64(s) }

// env is what an operation works with: in the child that is killed, and in those who
// live.
type env struct {
	dir   string
	o     *operation
	clock table.Clock
	again bool // it comes after a crash
	wake  signal.Options

	cache  *flagstone.Cache
	tables []*table.Table // further handles
	stack  *slab.Stack    // the primary one, by hand
	worst  time.Duration  // the longest of the calls in timed
	any    any            // what one part leaves for the next
}

func newEnv(dir string, o *operation) *env {
	return &env{dir: dir, o: o, clock: noon, wake: signal.Options{Mode: signal.ModePoll, Poll: never}}
}

// ctx bounds a wait.
func (e *env) ctx() context.Context { return e.within(bound) }

func (e *env) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// options make small caches: a record of one cell has 80 bytes, the longest six cells.
func (e *env) options() flagstone.Options {
	o := flagstone.Options{
		Dir: e.dir, Entries: 128, Shards: 2, MaxKey: 40, MaxValue: 512, Regions: 6, Precision: time.Millisecond,
		LoadTimeout: time.Second, Clock: e.clock, Wake: e.wake,
	}
	o.Steward.Off = true
	if e.o != nil && e.o.options != nil {
		e.o.options(&o)
	}
	return o
}

func (e *env) open() *flagstone.Cache {
	if e.cache == nil {
		c, err := flagstone.Open(e.ctx(), domain, e.options())
		must(err)
		e.cache = c
	}
	return e.cache
}

// table opens another handle.
func (e *env) table() *table.Table {
	t, err := table.Open(e.ctx(), table.Options{Dir: e.dir, Name: domain, MustExist: true, Clock: e.clock, Wake: e.wake})
	must(err)
	e.tables = append(e.tables, t)
	return t
}

func (e *env) close() {
	if e.cache != nil {
		if err := e.cache.Close(); !errors.Is(err, flagstone.ErrDestroyed) {
			must(err)
		}
		e.cache = nil
	}
	for _, t := range e.tables {
		must(t.Close())
	}
	e.tables = nil
}

// prepare comes before the operation.
func (e *env) prepare() {
	if e.o.prepare != nil {
		e.o.prepare(e)
	}
}

// redo is the operation, by one who comes after a crash.
func (e *env) redo() {
	e.again = true
	e.prepare()
	for _, part := range e.o.do {
		part(e)
	}
}

// value is a key's value of a generation: it says what it is, and differs in length
// from those before and after.
func value(key string, generation int) []byte {
	v := fmt.Appendf(nil, "%s#%d#", key, generation)
	v = append(v, bytes.Repeat([]byte{byte('a' + generation%26)}, [...]int{12, 100, 30, 250}[generation%4])...)
	return binary.LittleEndian.AppendUint32(v, crc32.ChecksumIEEE(v))
}

// whole checks that a value is one that was set for the key.
func whole(key string, v []byte) error {
	if i := strings.LastIndexByte(key, ':'); i >= 0 {
		key = key[i+1:]
	}
	if strings.HasPrefix(key, "n") && len(v) == 8 {
		return nil
	}
	parts := bytes.SplitN(v, []byte("#"), 3)
	if len(parts) == 3 {
		if g, err := strconv.Atoi(string(parts[1])); err == nil && bytes.Equal(v, value(key, g)) {
			return nil
		}
	}
	return fmt.Errorf("%s is %.60q, which nobody set", key, v)
}

func (e *env) set(key string, generation int) {
	must(e.open().Set(e.ctx(), []byte(key), value(key, generation), 0), "set", key)
}

func (e *env) sets(prefix string, from, to, generation int) {
	for i := from; i < to; i++ {
		e.set(prefix+strconv.Itoa(i), generation)
	}
}

func (e *env) get(key string) (v []byte, ok bool) {
	v, ok, err := e.open().Get(nil, []byte(key))
	must(err, "get", key)
	return v, ok
}

// state is what a domain holds: values by keys, those of namespaces and independent
// slabs with their names before them.
type state map[string]string

// MarshalJSON keeps values that are no text as they are.
func (s state) MarshalJSON() ([]byte, error) {
	b := map[string][]byte{}
	for k, v := range s {
		b[k] = []byte(v)
	}
	return json.Marshal(b)
}

// UnmarshalJSON undoes it.
func (s *state) UnmarshalJSON(text []byte) error {
	b := map[string][]byte{}
	err := json.Unmarshal(text, &b)
	*s = state{}
	for k, v := range b {
		(*s)[k] = string(v)
	}
	return err
}

// state looks at the domain as one who takes no part in it, or, where that cannot be,
// at a copy of it that is recovered.
func (e *env) state() state {
	s := state{}
	err := guarded(func() {
		o := e.options()
		o.ReadOnly = true
		c, err := flagstone.Open(e.ctx(), domain, o)
		if errors.Is(err, flagstone.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			return
		}
		must(err, "look")
		defer c.Close()
		s.add(e, "", c)
	})
	if err == nil {
		return s
	}
	return recovered(e.dir, e.o)
}

// recovered is what a copy of the domain holds once somebody has opened it.
func recovered(dir string, o *operation) (s state) {
	aside, err := os.MkdirTemp(filepath.Dir(dir), "aside-")
	must(err)
	defer os.RemoveAll(aside)
	must(copyTree(dir, aside))
	e := newEnv(aside, o)
	if o.mend != nil {
		o.mend(e)
	}
	must(e.open().Rebuild(e.ctx()))
	s = e.scan()
	e.close()
	return s
}

// spaces are the namespaces that operations use, and independent their slabs.
var (
	spaces      = []string{"ns", "new"}
	independent = []string{"other", "made"}
)

// add adds what a cache holds, and the independent slabs that it finds.
func (s state) add(e *env, prefix string, c *flagstone.Cache) {
	s.all(e, prefix, c)
	for _, name := range spaces {
		s.all(e, prefix+name+":", c.Namespace(name))
	}
	if prefix != "" {
		return
	}
	for _, name := range independent {
		sl, err := c.OpenSlab(e.ctx(), name)
		if errors.Is(err, flagstone.ErrNoSlab) || errors.Is(err, flagstone.ErrRetired) {
			continue
		}
		must(err, "open slab", name)
		s.add(e, name+":", sl.Cache())
		must(sl.Close())
	}
}

func (s state) all(e *env, prefix string, of flagstone.Store) {
	for r, err := range of.All(e.ctx()) {
		if errors.Is(err, flagstone.ErrRetired) {
			return
		}
		must(err, "all of", prefix)
		key := prefix + string(r.Key)
		if r.ByHash {
			key = fmt.Sprintf("%shash%d", prefix, r.Hash)
		}
		if strings.HasPrefix(key, "probe") {
			continue // the checks' own
		}
		if _, twice := s[key]; twice {
			wrong("%s is there twice", key)
		}
		s[key] = string(r.Value)
	}
}
