package table

import (
	"errors"
	"io/fs"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// SizeError says that a segment's file has not the size its entry states.
type SizeError struct {
	File      string
	Got, Want uint64 // bytes
}

// Error names the file and both sizes.
func (e *SizeError) Error() string {
	return (&FormatError{File: e.File, Field: "file size", Got: e.Got, Want: e.Want, Err: ErrSegmentSize}).Error()
}

// Unwrap returns ErrSegmentSize.
func (e *SizeError) Unwrap() error { return ErrSegmentSize }

// Attach maps the segment of a published entry, and lists it as mapped by this
// handle. It returns ErrRetired if the entry is no longer what e says,
// ErrTooManyMapped, a SizeError, an AccessError. No page is touched. Each Attach
// needs its Detach, after which the caller closes the segment.
func (t *Table) Attach(e Entry) (seg *shm.Segment, err error) {
	err = t.useLive(func() error {
		// Listed first, looked at last: who retires the entry changes its state
		// first and reads the lists last, so one of the two sees the other.
		if err := t.pins.add(e.SegmentID); err != nil {
			return err
		}
		if seg, err = t.mapPublished(e); err != nil {
			t.unpin(e.SegmentID)
		}
		return err
	})
	return seg, wrap(err, "attach segment %016x of entry %d", e.SegmentID, e.Index)
}

// mapPublished maps the segment of an entry that is published before and after.
func (t *reading) mapPublished(e Entry) (*shm.Segment, error) {
	seg, err := t.mapSegment(e)
	gone := t.checkPublished(e)
	switch {
	case gone == nil:
		return seg, err
	case err == nil:
		return nil, errors.Join(gone, seg.Close())
	case errors.Is(err, fs.ErrNotExist):
		return nil, gone
	}
	return nil, err
}

func (t *reading) mapSegment(e Entry) (*shm.Segment, error) {
	d := domain{dir: t.dir, group: t.group, readOnly: t.readOnly}
	f, err := d.openFile(segmentFile(e.Kind, e.SegmentID))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := fileSize(f)
	if err != nil {
		return nil, err
	}
	if size != e.Size {
		return nil, &SizeError{f.Name(), size, e.Size}
	}
	return d.mapFile(f, size)
}

// Detach takes a segment off the list of those that this handle maps, once for
// each Create or Attach. What nobody living maps any more is recycled if it is
// retired.
func (t *Table) Detach(segment uint64) {
	_ = t.use(func() error {
		t.unpin(segment)
		return nil
	})
}

func (t *Table) unpin(segment uint64) {
	if t.pins.remove(segment) {
		t.recycle()
	}
}

// Drain lets a published segment take nothing new, and wakes all. It stays
// readable.
func (t *Table) Drain(e Entry) error {
	return wrap(t.use(func() error { return t.drain(e) }), "drain entry %d", e.Index)
}

func (t *Table) drain(e Entry) error {
	for range readAttempts {
		if err := t.checkPublished(e); err != nil {
			return err
		}
		if t.step(e, StateActive, StateDraining) || t.step(e, StateOpen, StateDraining) {
			t.announce()
			t.ringPeers(layout.ReasonTable)
		}
		if t.entryAt(e.Index).State.Load() == packed(e.Generation, layout.EntryDraining) {
			return nil
		}
	}
	return t.checkPublished(e)
}

// step changes an entry's state by CAS; it pairs with those of others who try.
func (t *Table) step(e Entry, from, to State) bool {
	return t.entryAt(e.Index).State.CompareAndSwap(packed(e.Generation, uint32(from)), packed(e.Generation, uint32(to)))
}

// Retire takes a published segment out of the directory: it is drained, can then
// no longer be attached, its file is removed, and all are woken. Who maps it
// keeps reading it. The entry is free again once nobody living maps it. It may
// be called by any handle; if that dies in between, the entry is left Draining,
// to be retired by another, or Retired, to be recycled by any. It returns
// ErrRetired if somebody else was quicker. PROTOCOL.md, "Retiring a segment".
func (t *Table) Retire(e Entry) error {
	return wrap(t.use(func() error {
		if err := t.drain(e); err != nil {
			return err
		}
		if !t.step(e, StateDraining, StateRetired) { // pairs with the load in Attach
			return t.checkPublished(e)
		}
		t.announce()
		err := removeEntry(t.dir, segmentFile(e.Kind, e.SegmentID))
		t.ringPeers(layout.ReasonTable)
		t.recycle()
		return err
	}), "retire entry %d", e.Index)
}

// Pinners returns the regions of the living handles that map the segment.
func (t *reading) Pinners(e Entry) []int {
	var regions []int
	_ = t.use(func() error {
		regions = t.pinnedBy(e.SegmentID)
		return nil
	})
	return regions
}

// pinnedBy lists the living regions that map a segment. Who cannot be asked
// counts as living.
func (t *reading) pinnedBy(segment uint64) (regions []int) {
	for i := range int(t.header.Regions) {
		if uint32(t.regionAt(i).State.Load()) != layout.RegionClaimed || !t.lists(i, segment) {
			continue
		}
		if held, err := t.leaseHeld(i); held || err != nil {
			regions = append(regions, i)
		}
	}
	return regions
}

func (t *reading) lists(i int, segment uint64) bool {
	for slot := range int(t.header.Mapped) {
		if segment != 0 && t.mappedWord(i, slot).Load() == segment { // pairs with the store in pins.add
			return true
		}
	}
	return false
}

// recycle frees the RETIRED entries whose segments nobody living maps, and
// finishes for retirers that died.
func (t *Table) recycle() {
	for i := range int(t.header.Entries) {
		e, word, ok := t.readEntry(i)
		if !ok || e.State != StateRetired || len(t.pinnedBy(e.SegmentID)) > 0 {
			continue
		}
		if removeEntry(t.dir, segmentFile(e.Kind, e.SegmentID)) != nil {
			continue // stays for the next one
		}
		if t.entryAt(i).State.CompareAndSwap(word, packed(e.Generation+1, layout.EntryFree)) {
			t.announce()
		}
	}
}
