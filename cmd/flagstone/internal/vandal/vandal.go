// Package vandal writes wrong numbers into the segments of a domain, as a process
// gone astray would: random words anywhere, and plausible ones in known fields. It
// takes no part in the domain and no lock, and rings nobody. It is for tests.
package vandal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// Options say what is written where. Only Dir is required.
type Options struct {
	Dir  string // with the file `control`: what table.Table.Dir returns
	Seed uint64

	// What is hit; the zero value is Everything.
	What What
	// Hits, if set, chooses among the places that What allows.
	Hits func(Place) bool
	// Pause is the time between two bursts of some writes. Default: none.
	Pause time.Duration
	// Log, if set, is told of each write before it is done.
	Log func(Write)
}

// What is a set of kinds of places.
type What uint

// Kinds of places.
const (
	Anywhere What = 1 << iota // any word but those of Headers
	Clocks                    // the clock words
	Changes                   // `changes`
	Sums                      // counters, totals, the steward's word
	Entries                   // directory entries
	Regions                   // regions with what they list
	Mutexes                   // the table's mutexes
	Locks                     // lock and futex words of shards
	Epochs                    // epoch, turn and sequence of shards
	Heads                     // other words of shards
	Buckets                   // slots and links
	Cells                     // headers of cells
	Headers                   // what is written once, for good: not put right in place by those who attach later

	// Everything but Headers.
	Everything = Headers - 1
)

// Place is where a word is.
type Place struct {
	What  What
	File  string // its name
	At    uint64 // offset in the file
	Width uint64 // 4 or 8 bytes
	Name  string // field, "word" if it is none
	// Of a slab's words: the shard, and for Cells the cell. Else -1.
	Shard, Cell int
	// Of entries, regions and mutexes.
	Index int
}

// Write is a word that was overwritten.
type Write struct {
	Place
	Was, Is uint64
}

// String names place and values.
func (w Write) String() string {
	return fmt.Sprintf("%s at %#x, %s: %#x, was %#x", w.File, w.At, w.Name, w.Is, w.Was)
}

// Vandal writes into one domain. It is not for concurrent use.
type Vandal struct {
	Options
	random  *rand.Rand
	control *mapped
	table   table.Geometry
	slabs   []*mapped
	looked  int // writes until the folder is looked into again
}

// mapped is a file.
type mapped struct {
	name string
	seg  *shm.Segment
	geo  slab.Geometry
	// Where things are, as the header said when it was mapped.
	first, stride, index, cells uint64
}

// Open maps the control segment of a domain, and slabs as they come.
func Open(o Options) (*Vandal, error) {
	if o.What == 0 {
		o.What = Everything
	}
	v := &Vandal{Options: o, random: rand.New(rand.NewPCG(o.Seed, 0))}
	var err error
	if v.control, err = v.open("control"); err != nil {
		return nil, err
	}
	w := v.control.seg.Window()
	if v.table, err = table.ReadGeometry(w, w.Len()); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	v.look()
	return v, nil
}

// Close gives the mappings back.
func (v *Vandal) Close() error {
	err := v.control.seg.Close()
	for _, m := range v.slabs {
		err = errors.Join(err, m.seg.Close())
	}
	return err
}

func (v *Vandal) open(name string) (*mapped, error) {
	f, err := os.OpenFile(filepath.Join(v.Dir, name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	seg, err := shm.Map(f, uint64(info.Size()))
	return &mapped{name: name, seg: seg}, err
}

// look maps the slabs that came and lets go of those whose file has gone.
func (v *Vandal) look() {
	v.looked = 1000
	entries, _ := os.ReadDir(v.Dir)
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = strings.HasPrefix(e.Name(), "slab-")
	}
	kept := v.slabs[:0]
	for _, m := range v.slabs {
		if names[m.name] {
			kept = append(kept, m)
			names[m.name] = false
		} else {
			_ = m.seg.Close()
		}
	}
	v.slabs = kept
	for name, wanted := range names {
		if !wanted {
			continue
		}
		if m, err := v.slab(name); err == nil { // else it is half made, or gone
			v.slabs = append(v.slabs, m)
		}
	}
}

func (v *Vandal) slab(name string) (*mapped, error) {
	m, err := v.open(name)
	if err != nil {
		return nil, err
	}
	if err = m.read(); err != nil {
		return nil, errors.Join(err, m.seg.Close())
	}
	return m, nil
}

// read reads where things are in a slab.
func (m *mapped) read() (err error) {
	defer m.seg.Catch(shm.Guard(), &err)
	w := m.seg.Window()
	if m.geo, err = slab.ReadGeometry(m.name, w, w.Len()); err != nil {
		return err
	}
	h := shm.At[layout.SlabHeader](w, 0)
	m.first, m.stride = h.ShardOffset.Load(), h.ShardStride.Load()
	m.index, m.cells = h.IndexOffset.Load(), h.CellOffset.Load()
	if m.first+uint64(m.geo.Shards)*m.stride > w.Len() || max(m.index, m.cells) > m.stride {
		return fmt.Errorf("%s: %w", m.name, slab.ErrOptions) // another vandal was quick
	}
	return nil
}

// burst is how many tries to write come one after the other.
const burst = 16

// Run writes until ctx ends, or n words if n is not 0, and returns how many it wrote.
func (v *Vandal) Run(ctx context.Context, n int) (writes int, err error) {
	for tries := 1; ctx.Err() == nil && (n == 0 || writes < n); tries++ {
		if _, ok := v.Write(); ok {
			writes++
		}
		if tries%burst != 0 {
			continue
		}
		if v.Pause > 0 {
			select {
			case <-time.After(v.Pause):
			case <-ctx.Done():
			}
		}
		if _, err := os.Stat(filepath.Join(v.Dir, "control")); errors.Is(err, fs.ErrNotExist) {
			return writes, err // destroyed
		}
	}
	return writes, nil
}

// Write overwrites one word; ok is false if it chose a place that is not to be hit, or
// that is gone.
func (v *Vandal) Write() (done Write, ok bool) {
	if v.looked--; v.looked < 0 {
		v.look()
	}
	m, p, is := v.choose()
	if m == nil || v.Hits != nil && !v.Hits(p) {
		return done, false
	}
	var err error
	func() {
		defer m.seg.Catch(shm.Guard(), &err)
		w := m.seg.Window()
		if p.Width == 4 {
			word := shm.At[layout.Uint32](w, p.At)
			done = Write{p, uint64(word.Load()), uint64(uint32(is))}
			v.log(done)
			word.Store(uint32(is))
			return
		}
		word := shm.At[layout.Uint64](w, p.At)
		done = Write{p, word.Load(), is}
		v.log(done)
		word.Store(is)
	}()
	return done, err == nil
}

func (v *Vandal) log(w Write) {
	if v.Log != nil {
		v.Log(w)
	}
}
