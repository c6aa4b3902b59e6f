package table

import (
	"errors"
	"fmt"
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
// ErrTooManyMapped, ErrMissing, ErrNoDescriptor, ErrNoMemory, a SizeError, an
// AccessError. No page is touched. Each Attach
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
	case gone == nil && errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w, though its entry says %v: somebody removed it; Destroy the domain: %w", ErrMissing, e.State, err)
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
	d := t.files()
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

// files returns what opens and maps files as this handle does.
func (t *reading) files() *domain {
	return &domain{dir: t.dir, group: t.group, readOnly: t.readOnly}
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
		state := t.regionAt(i).State.Load()
		if uint32(state) == layout.RegionClaimed && t.lists(i, segment) && t.living(i, generationOf(state)) {
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
