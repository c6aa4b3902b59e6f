//go:build linux && steps

package crash

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/table"
)

// allowed are the values that each key may have, "" standing for none, and in which
// order: from one look to the next it never goes back.
type allowed map[string]map[string]int

// allow allows what is in the states, which came one after the other.
func allow(states ...state) allowed {
	a := allowed{}
	for _, s := range states {
		for k := range s {
			a[k] = map[string]int{}
		}
	}
	for i, s := range states {
		for k := range a {
			a[k][s[k]] = i
		}
	}
	return a
}

// both allows what either does, in any order.
func both(a, b allowed) allowed {
	c := allowed{}
	for _, one := range []allowed{a, b} {
		for k := range one {
			c[k] = map[string]int{}
		}
	}
	for k := range c {
		for _, one := range []allowed{a, b} {
			if one[k] == nil {
				c[k][""] = 0
			}
			for v := range one[k] {
				c[k][v] = 0
			}
		}
	}
	return c
}

// keys lists the keys.
func (a allowed) keys() []string { return slices.Sorted(maps.Keys(a)) }

// timed runs one call, and keeps how long the longest one took.
func (e *env) timed(call func()) {
	began := time.Now()
	call()
	e.worst = max(e.worst, time.Since(began))
	if took := time.Since(began); took > bound {
		wrong("a wait of %v", took)
	}
}

// look looks a key up, wherever it is.
func (e *env) look(key string) (v string, ok bool) {
	c := e.open()
	slabName, rest, inSlab := strings.Cut(key, ":")
	if inSlab && slices.Contains(independent, slabName) {
		s, err := c.OpenSlab(e.ctx(), slabName)
		if errors.Is(err, flagstone.ErrNoSlab) || errors.Is(err, flagstone.ErrRetired) {
			return "", false
		}
		must(err)
		defer s.Close()
		c, key = s.Cache(), rest
	}
	var of interface {
		Get(dst, key []byte) ([]byte, bool, error)
	} = c
	if space, rest, ok := strings.Cut(key, ":"); ok {
		of, key = c.Namespace(space), rest
	}
	var b []byte
	var err error
	e.timed(func() {
		if key == "hash99" {
			b, ok, err = c.GetHash(nil, 99)
		} else {
			b, ok, err = of.Get(nil, []byte(key))
		}
	})
	if errors.Is(err, flagstone.ErrRetired) {
		return "", false
	}
	must(err, "look for", key)
	return string(b), ok
}

// see looks all keys up and checks what is found.
func (e *env) see(a allowed, missing bool) state {
	s := state{}
	for _, key := range a.keys() {
		v, ok := e.look(key)
		if ok {
			must(whole(key, []byte(v)))
			s[key] = v
		}
		if _, may := a[key][v]; !may && !(missing && !ok) {
			wrong("%s is %.40q, %v, allowed are %.300q", key, v, ok, slices.Sorted(maps.Keys(a[key])))
		}
	}
	return s
}

// same compares two looks between which nobody wrote.
func same(what string, before, after state, missing bool) {
	for k, v := range before {
		if now, ok := after[k]; now != v && !(missing && !ok) {
			wrong("%s: %s was %.40q, is %.40q, %v", what, k, v, now, ok)
		}
	}
	for k, v := range after {
		if _, ok := before[k]; !ok {
			wrong("%s: %s was not there, is %.40q", what, k, v)
		}
	}
}

// scan lists all records.
func (e *env) scan() state {
	s := state{}
	e.timed(func() { s.add(e, "", e.open()) })
	return s
}

// verify is what those who live see of a domain after somebody was killed in it, and
// the operation once more. E has it open, maybe with an old view, unless nobody could.
// Later says that others have written since, to whom keys may have made room.
func (e *env) verify(a allowed, later bool) {
	o := e.o
	if o.mend != nil {
		o.mend(e)
	}
	if o.gone {
		e.verifyGone()
		return
	}
	first := e.see(a, o.loses || later && o.evicts)
	if seen := e.scan(); !o.loses {
		same("scan", first, seen, false)
	}
	e.mutexes()
	e.tidy()
	if o.loses {
		e.timed(func() { must(e.open().Rebuild(e.ctx()), "rebuild") })
	} else {
		e.timed(e.sound) // under the locks, which whoever takes them from the dead repairs
	}
	for key, v := range e.see(a, o.loses || later && o.evicts) { // what nobody had seen may have come to light
		if was := first[key]; a[key][v] < a[key][was] && !o.loses {
			wrong("%s was %.40q, and is %.40q again", key, was, v)
		}
	}
	e.timed(e.redo)
	after := e.scan()
	for k, v := range after {
		must(whole(k, []byte(v)))
	}
	e.probe()
	e.sound()
	if again := e.scan(); !o.loses {
		same("second look", after, again, o.evicts)
	}
	e.tidy()
	e.timed(e.close)
}

// verifyGone is verify where the domain may be gone or half made.
func (e *env) verifyGone() {
	if e.cache != nil { // opened before it went
		_, _, err := e.cache.Get(nil, []byte("k1"))
		if err != nil && !errors.Is(err, flagstone.ErrDestroyed) {
			must(err)
		}
	}
	e.timed(e.redo)
	e.timed(e.close)
	e.open()
	e.probe()
	e.sound()
	e.tidy()
	e.timed(e.close)
	entries, err := os.ReadDir(e.dir)
	must(err)
	for _, d := range entries {
		if d.Name() != domain+".flagstone" {
			wrong("%s was left behind", d.Name())
		}
	}
}

// mutexes takes all mutexes, and is told inconsistent where a dead one held it.
func (e *env) mutexes() {
	t := e.open().Table()
	for id := range uint32(12) {
		m, err := t.Mutex(id)
		must(err)
		_, held := m.Holder()
		var consistent bool
		e.timed(func() { consistent, err = m.Lock(e.ctx()) })
		must(err, "mutex", id)
		if consistent == held && !e.o.unsure {
			wrong("mutex %d: held by the dead %v, told consistent %v", id, held, consistent)
		}
		must(m.Unlock(true))
	}
}

// probe writes and reads a new key of each shard.
func (e *env) probe() {
	c := e.open()
	done := map[uint64]bool{}
	for i := 0; len(done) < 2 && i < 64; i++ {
		key := fmt.Sprintf("probe%d", i)
		if shard := c.HashOf([]byte(key)) & 1; !done[shard] {
			done[shard] = true
			e.timed(func() { e.set(key, 2) })
			e.wantSet(key, 2)
		}
	}
}

// sound checks all slabs.
func (e *env) sound() {
	c := e.open()
	problems, err := c.Check(e.ctx())
	must(err)
	for _, name := range independent {
		s, err := c.OpenSlab(e.ctx(), name)
		if errors.Is(err, flagstone.ErrNoSlab) || errors.Is(err, flagstone.ErrRetired) {
			continue
		}
		must(err)
		more, err := s.Cache().Check(e.ctx())
		must(err)
		problems = append(problems, more...)
		must(s.Close())
	}
	if len(problems) > 0 {
		wrong("check: %s", strings.Join(problems, "\n"))
	}
}

// tidy reaps, and looks at the directory and the regions then: every segment has its
// file and every file its segment, nothing is half made, and all regions are of the
// living.
func (e *env) tidy() {
	t := e.open().Table()
	var err error
	e.timed(func() { _, err = t.Reap() })
	must(err, "reap")
	for _, r := range t.Regions() {
		if !r.Alive {
			wrong("region %d is of the dead", r.Index)
		}
	}
	dirs, err := filepath.Glob(filepath.Join(e.dir, domain+".flagstone", "v*"))
	must(err)
	if len(dirs) != 1 {
		wrong("folders: %v", dirs)
	}
	files := map[string]bool{}
	listed, err := os.ReadDir(dirs[0])
	must(err)
	for _, f := range listed {
		if f.Name() != "control" {
			files[f.Name()] = true
		}
	}
	for _, entry := range e.settled() {
		name := fmt.Sprintf("app-%016x", entry.SegmentID)
		if entry.Kind == table.KindSlab {
			name = fmt.Sprintf("slab-%016x", entry.SegmentID)
		}
		switch {
		case entry.State == table.StateRetired: // and somebody maps it
		case entry.State == table.StateCreating || entry.State == table.StateActive:
			wrong("entry %d is %v", entry.Index, entry.State)
		default:
			info, err := os.Stat(filepath.Join(dirs[0], name))
			if errors.Is(err, fs.ErrNotExist) {
				wrong("entry %d is %v, and its file is gone", entry.Index, entry.State)
			}
			if must(err); uint64(info.Size()) != entry.Size {
				wrong("%s has %d bytes, its entry says %d", name, info.Size(), entry.Size)
			}
			delete(files, name)
		}
	}
	if len(files) > 0 {
		wrong("files without an entry: %v", slices.Sorted(maps.Keys(files)))
	}
}

// settled returns the directory's entries once those are free that are retired and that
// nobody maps: a handle lets go of a slab beside everything else.
func (e *env) settled() []table.Entry {
	t := e.cache.Table()
	for stop := time.Now().Add(bound); ; time.Sleep(100 * time.Microsecond) {
		all := t.Entries()
		i := slices.IndexFunc(all, func(x table.Entry) bool { return x.State == table.StateRetired && len(t.Pinners(x)) == 0 })
		if i < 0 {
			return all
		}
		if time.Now().After(stop) {
			wrong("entry %d is retired, and nobody maps it", all[i].Index)
		}
	}
}

// recover is what a child does after a crash, which is killed in turn.
func (e *env) recover(keys []string) {
	if e.o.mend != nil {
		e.o.mend(e)
	}
	if e.o.gone {
		return
	}
	for _, key := range keys {
		e.look(key)
	}
	_, err := e.open().Table().Reap()
	must(err)
	e.probe()
	e.mutexes()
}
