package table

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// reading is what a handle knows and can do without a region: it only looks.
type reading struct {
	name     string
	group    bool
	readOnly bool     // files are opened and mapped for reading
	dir      *os.File // DIR/NAME.flagstone/vN
	control  *os.File
	seg      *shm.Segment
	win      shm.Window
	header   header
	words    Words
	ready    *layout.Uint64
	self     int // number of the handle's own region, or none

	elsewhere atomic.Uint64 // 1 from when the domain's path was found to lead elsewhere

	gate   *gate              // public calls are inside while they use what Close takes away
	stop   context.Context    // ends at Close: nobody waits on
	cancel context.CancelFunc // of stop
	sums   sums

	doubts  doubts
	steward stewardship // only a Table leads
}

// Words are words of the header for those who look at them in every operation:
// loads without a check. They may be used under shm.Guard only, as a truncated
// file makes them fault, and while the Table is reachable; after Close they are 0.
type Words struct{ Changes, Wall, Domain *layout.Uint64 }

// attach makes the handle one on the domain, whose files it keeps open.
func (t *reading) attach(d *domain) (err error) {
	*t = reading{
		name: d.name, group: d.group, readOnly: d.readOnly, dir: d.dir, control: d.control,
		self: none, gate: newGate(),
	}
	if t.seg, t.header, err = d.attach(); err != nil {
		return err
	}
	t.stop, t.cancel = context.WithCancel(context.Background())
	t.win = t.seg.Window()
	c := shm.At[layout.ControlHeader](t.win, 0)
	t.words = Words{&c.Changes, &c.WallClock, &c.DomainClock}
	t.ready = &c.Ready
	return nil
}

// shut lets no call in any more and waits for those inside.
func (t *reading) shut() {
	t.cancel()
	t.gate.close()
	<-t.gate.idle
}

// detach gives mapping and files back.
func (t *reading) detach() error {
	return errors.Join(t.seg.Close(), t.dir.Close(), t.control.Close())
}

// letGo is Close in a forked child: it gives the child's descriptors back, with which
// it would keep the lease when its parent dies, and touches nothing of the parent's.
func (t *reading) letGo() error {
	_, _ = t.dir.Close(), t.control.Close() // or they were closed before
	return nil
}

// use runs f with the handle open and faults turned into errors.
func (t *reading) use(f func() error) (err error) {
	if shm.Forked() { // before the gate, which a thread that the child has not may be passing
		return ErrForked
	}
	if !t.gate.enter() {
		return ErrClosed
	}
	defer t.gate.leave()
	defer t.seg.Catch(shm.Guard(), &err)
	return f()
}

// useLive is use for what makes no sense in a destroyed domain.
func (t *reading) useLive(f func() error) error {
	return t.use(func() error {
		if t.ready.Load() == layout.ControlDestroyed { // pairs with the store in tellDestroyed
			return ErrDestroyed
		}
		if t.elsewhere.Load() != 0 {
			return fmt.Errorf("%w: %s is gone, or another's", ErrDestroyed, t.control.Name())
		}
		return f()
	})
}

// load loads a word of the header; 0 if the file is gone from under it, and in a
// forked child.
func (t *reading) load(word *layout.Uint64) (value uint64) {
	if shm.Forked() {
		return 0
	}
	var err error
	defer t.seg.Catch(shm.Guard(), &err)
	return word.Load()
}

// Name returns the domain's name.
func (t *reading) Name() string { return t.name }

// Dir returns the path of the folder that holds the domain's files.
func (t *reading) Dir() string { return t.dir.Name() }

// UUID returns the domain's random identity, which its segments repeat.
func (t *reading) UUID() [2]uint64 { return t.header.uuid }

// HashSeed returns the seed of the domain's key hashes.
func (t *reading) HashSeed() uint64 { return t.header.seed }

// Geometry returns the sizes that the domain was made with.
func (t *reading) Geometry() Geometry { return t.header.Geometry }

// Words returns the words to look at in every operation.
func (t *reading) Words() Words { return t.words }

// Changes returns a number that moves after every change of the directory or of
// a region's lifecycle or flags, by any process. One load, some 10 ns.
func (t *reading) Changes() uint64 { return t.load(t.words.Changes) + t.elsewhere.Load() }

// Usable returns nil, or why the handle is of no use any more: ErrClosed,
// ErrDestroyed, ErrForked, or ErrFault if the control segment was truncated. Some 50 ns.
func (t *reading) Usable() error { return t.useLive(func() error { return nil }) }

// Destroyed reports whether the domain was destroyed. One load.
func (t *reading) Destroyed() bool {
	return t.load(t.ready) == layout.ControlDestroyed || t.elsewhere.Load() != 0
}

// Present looks whether the domain's path still leads to its control file. Otherwise
// somebody has removed, replaced or moved the files: who opens the name gets another
// domain, and this handle says ErrDestroyed from then on. Only this handle: what it sees
// may not be what others see. It is true where there is no telling. About 3 us.
func (t *reading) Present() bool {
	_ = t.use(func() error {
		// By the directory's own parents, which it keeps when it is renamed or removed.
		path := filepath.Join("..", "..", t.name+suffix, versionDir, controlFile)
		here, err := leadsTo(t.dir, path, t.control)
		if err == nil && !here && t.elsewhere.Swap(1) == 0 && !t.readOnly {
			t.words.Changes.Add(1) // for who compares the word itself under a shard's lock; others look in vain
		}
		return nil
	})
	return t.elsewhere.Load() == 0
}
