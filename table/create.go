package table

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/flagstone-shm/flagstone/internal/identity"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/internal/step"
	"github.com/flagstone-shm/flagstone/signal"
)

// prepare makes the control segment unless it is there. PROTOCOL.md, "Opening a
// domain".
func (d *domain) prepare(ctx context.Context, g Geometry, o Options) error {
	if todo, err := d.look(); err != nil || todo == nothing {
		return err
	}
	// Somebody is at work, or died at it: who has the init byte finds out.
	if err := awaitLock(ctx, d.control, layout.InitByte); err != nil {
		return err
	}
	defer unlock(d.control, layout.InitByte)
	if same, err := d.current(); err != nil || !same {
		return orElse(err, errMoved)
	}
	todo, err := d.look()
	switch {
	case err != nil || todo == nothing:
		return err
	case todo == removal:
		return orElse(d.remove(), errMoved)
	case o.MustExist:
		return fmt.Errorf("%s was not finished: %w", d.control.Name(), ErrNotFound)
	}
	// Nobody can have a region before READY. Where somebody has, the header was
	// damaged, and truncating would pull the file from under the living.
	if used, err := lockedByOthers(d.control, layout.LeaseByte, toTheEnd); err != nil || used {
		return orElse(err, &FormatError{File: d.control.Name(), Field: "Ready", Got: 0, Want: layout.ControlReady, Err: ErrNotReady})
	}
	// Before READY, so that it is done again should we die at it.
	unhide(d.base, d.name+suffix)
	unhide(d.parent, d.version)
	unhide(d.dir, controlFile)
	if err := d.initialise(g, o.Clock); err != nil {
		return errors.Join(err, d.remove())
	}
	return nil
}

// What a control file needs.
const (
	nothing    = iota // READY, or so odd that attach will say what is wrong
	initialise        // empty, or half made
	removal           // its destroyer has not finished
)

// look tells what the control file needs. It reads, as mapping what another may
// truncate is for later.
func (d *domain) look() (todo int, err error) {
	size, err := fileSize(d.control)
	if err != nil || size == 0 {
		return initialise, err
	}
	page := make([]byte, layout.PageSize)
	if n, err := d.control.ReadAt(page, 0); n < len(page) {
		if size < layout.PageSize {
			return nothing, &FormatError{File: d.control.Name(), Field: "file size", Got: size, Want: layout.PageSize, Err: ErrTruncated}
		}
		return nothing, fmt.Errorf("read header: %w", err)
	}
	w := shm.Heap(layout.PageSize).Window()
	w.Write(0, page)
	c := shm.At[layout.ControlHeader](w, 0)
	magic, ready := c.Magic.Load(), c.Ready.Load()
	switch {
	case magic == layout.ControlMagic && ready == layout.ControlDestroyed:
		return removal, nil
	case (magic == layout.ControlMagic || magic == 0) && ready == 0:
		return initialise, nil
	}
	return nothing, nil
}

// initialise makes the control segment. The caller holds the init byte.
func (d *domain) initialise(g Geometry, clock Clock) (err error) {
	h := header{Geometry: g, seed: random(), uuid: [2]uint64{random(), random()}, created: clock.Wall()}
	if h.boot, err = identity.BootID(); err != nil {
		return err
	}
	step.Here()
	if err := d.control.Truncate(0); err != nil {
		return err
	}
	if err := d.removeSegments(); err != nil {
		return err
	}
	if err := shm.Reserve(d.control, g.FileSize); err != nil {
		return err
	}
	seg, err := shm.Map(d.control, g.FileSize)
	if err != nil {
		return err
	}
	defer seg.Close()
	defer seg.Catch(shm.Guard(), &err)
	h.write(seg.Window())
	return nil
}

// attach maps the control segment and checks its header. It returns errMoved if
// the domain was destroyed.
func (d *domain) attach() (seg *shm.Segment, h header, err error) {
	size, err := fileSize(d.control)
	if err != nil {
		return nil, h, err
	}
	biggest, _ := Plan(Options{
		Regions: layout.MaxRegions, Entries: layout.MaxEntries, Mutexes: layout.MaxMutexes,
		Held: layout.MaxHeld, Mapped: layout.MaxMapped,
	})
	// No more than a control segment can have; readHeader judges the size.
	if seg, err = d.mapFile(d.control, roundUp(min(max(size, 1), biggest.FileSize), layout.PageSize)); err != nil {
		return nil, h, err
	}
	if h, err = readGuarded(seg, size, d.readOnly); err == nil {
		err = checkBoot(&h)
	}
	if err != nil {
		if e := (*FormatError)(nil); errors.As(err, &e) {
			e.File = d.control.Name()
			if e.Err == ErrNotReady && e.Got == layout.ControlDestroyed {
				err = errMoved
			}
		}
		return nil, h, errors.Join(err, seg.Close())
	}
	return seg, h, nil
}

func readGuarded(seg *shm.Segment, size uint64, reading bool) (h header, err error) {
	defer seg.Catch(shm.Guard(), &err)
	return readHeader(seg.Window(), size, reading)
}

func checkBoot(h *header) error {
	boot, err := identity.BootID()
	if err != nil {
		return err
	}
	for i := range boot {
		if h.boot[i] != boot[i] {
			return &FormatError{File: "", Field: "BootID", Got: h.boot[i], Want: boot[i], Err: ErrStaleBoot}
		}
	}
	return nil
}

// tellDestroyed marks the control segment, if it is one, and wakes everybody.
// The caller holds the init byte.
func (d *domain) tellDestroyed() {
	seg, h, err := d.attach()
	if err != nil {
		return // nobody can be using it, or nobody can be told
	}
	defer seg.Close()
	defer seg.Catch(shm.Guard(), &err)
	c := shm.At[layout.ControlHeader](seg.Window(), 0)
	c.Ready.Store(layout.ControlDestroyed) // pairs with the loads of useLive and Destroyed
	c.Changes.Add(1)
	for i := range int(h.Regions) {
		r := shm.At[layout.Region](seg.Window(), h.region(i))
		if uint32(r.State.Load()) == layout.RegionClaimed {
			_ = signal.Ring(r, layout.ReasonTable, func() bool { // unsent is found by polling
				held, err := lockedByOthers(d.control, leaseByte(i), 1)
				return err == nil && held
			})
		}
	}
}

func fileSize(f *os.File) (uint64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return uint64(info.Size()), nil
}

// orElse returns the first error that is not nil.
func orElse(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
