package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
)

// stage is one set of caches, all of one shape and with the same records, from
// being filled to being closed. There is one at a time, or two, so that the
// memory need not hold them all.
type stage struct {
	options
	workload *workload
	caches   map[string]cache
	size     map[string]float64 // bytes per entry of each
	crew     map[string][]*worker
}

// run opens the caches that an act needs, measures, and closes them.
func (s *session) run(ctx context.Context, a act) (err error) {
	names := []string{subject}
	for _, c := range a.contests {
		names = append(names, c.rivals()...)
	}
	st, err := s.open(ctx, a.shape, names...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	for _, c := range a.contests {
		progress(a.title(c))
		if err := c.run(ctx, s, st); err != nil {
			return fmt.Errorf("%s: %w", c.title(), err)
		}
	}
	return nil
}

// newStage returns an empty stage of o's shape for that domain.
func newStage(o options, domain string) *stage {
	o.Domain = domain
	return &stage{
		options: o, workload: newWorkload(o.Shape, o.Seed, 0),
		caches: make(map[string]cache), size: make(map[string]float64), crew: make(map[string][]*worker),
	}
}

// open makes caches of a shape and fills them.
func (s *session) open(ctx context.Context, sh shape, names ...string) (st *stage, err error) {
	o := s.options
	o.Shape = sh
	st = newStage(o, fmt.Sprintf("%s-%dx%d", o.Domain, sh.Entries, sh.Value))
	for _, name := range names {
		if slices.Contains(s.missing, name) || st.caches[name] != nil {
			continue
		}
		progress("fill", name, "with", sh)
		err := st.add(ctx, name)
		if errors.Is(err, errNoRedis) {
			s.missing = append(s.missing, name)
			s.report.Notes = append(s.report.Notes, "left out: "+err.Error())
		} else if err != nil {
			return nil, errors.Join(fmt.Errorf("open %s: %w", name, err), st.close())
		}
	}
	return st, nil
}

// add makes and fills a cache, and notes what it takes for an entry: of the heap,
// or, for a domain, of its file system.
func (st *stage) add(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	before := heapInUse()
	c, err := makers[name](ctx, st.options)
	if err != nil {
		return err
	}
	st.caches[name] = c
	if err := fill(name, c, st.workload); err != nil {
		return err
	}
	grown := heapInUse() - before
	if name == subject {
		if grown, err = filesIn(filepath.Join(st.Dir, st.Domain+".flagstone")); err != nil {
			return err
		}
	}
	st.size[name] = float64(grown) / float64(st.Shape.Entries)
	return nil
}

// heapInUse returns the bytes of the heap that are not garbage.
func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// filesIn returns the bytes of all files below a directory.
func filesIn(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

// workers returns the two processes that host one contestant, and starts them
// when they are asked for first.
func (st *stage) workers(name string) ([]*worker, error) {
	for len(st.crew[name]) < 2 {
		progress("start process", len(st.crew[name])+1, "with", name)
		a := assignment{Cache: name, Salt: uint64(len(st.crew[name])) + 1, Options: st.options, Shape: st.Shape}
		w, err := startWorker(a)
		if err != nil {
			return nil, err
		}
		st.crew[name] = append(st.crew[name], w)
	}
	return st.crew[name], nil
}

// close ends the processes, closes the caches and gives the memory back.
func (st *stage) close() (err error) {
	for _, workers := range st.crew {
		for _, w := range workers {
			err = errors.Join(err, w.close())
		}
	}
	for _, c := range st.caches {
		err = errors.Join(err, c.close())
	}
	clear(st.caches)
	clear(st.workload.made)
	debug.FreeOSMemory()
	return err
}
