//go:build linux && steps

package crash

import (
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// The words of a domain for who spoils them, beside the library. Their stores are steps
// too, but are taken before the hook is armed.

func (e *env) words(name string) shm.Window {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(err)
	defer f.Close()
	info, err := f.Stat()
	must(err)
	seg, err := shm.Map(f, uint64(info.Size()))
	must(err)
	mapped.Store(&kept{seg, mapped.Load()})
	return seg.Window()
}

// mapped keeps segments reachable while there are windows of them.
var mapped atomic.Pointer[kept]

type kept struct {
	seg  *shm.Segment
	next *kept
}

func (e *env) control() shm.Window {
	return e.words(filepath.Join(e.home(), "v1", "control"))
}

func (e *env) header() *layout.ControlHeader {
	return shm.At[layout.ControlHeader](e.control(), 0)
}

func (e *env) region(i int) *layout.Region {
	h := e.header()
	return shm.At[layout.Region](e.control(), h.RegionOffset.Load()+uint64(i)*uint64(h.RegionStride.Load()))
}

func (e *env) entries() (all []*layout.Entry) {
	w, h := e.control(), e.header()
	for i := range uint64(h.Entries.Load()) {
		all = append(all, shm.At[layout.Entry](w, h.EntryOffset.Load()+i*layout.SizeEntry))
	}
	return all
}

// shardWord is a word of the first shard of the first slab.
func (e *env) shardWord(at uint64) *layout.Uint64 {
	w := e.words(e.file())
	return shm.At[layout.Uint64](w, shm.At[layout.SlabHeader](w, 0).ShardOffset.Load()+at)
}
