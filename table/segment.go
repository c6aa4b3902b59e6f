package table

import (
	"errors"
	"fmt"
	"sync"

	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Segment is an application's own shared segment, mapped by this handle.
type Segment struct {
	t     *Table
	seg   *shm.Segment
	entry Entry
	close func() error
}

func newSegment(t *Table, seg *shm.Segment, e Entry) *Segment {
	s := &Segment{t: t, seg: seg, entry: e}
	s.close = sync.OnceValue(func() error {
		s.t.Detach(s.entry.SegmentID)
		return s.seg.Close()
	})
	return s
}

// PublishSegment makes a segment, lets fill write its content, and publishes it.
// If anything fails, fill's error included, nothing is left. Errors are those of
// Reserve and of Create.
func (t *Table) PublishSegment(s Spec, fill func(b []byte) error) (*Segment, error) {
	r, err := t.Reserve(s)
	if err != nil {
		return nil, err
	}
	seg, err := r.Create()
	if err != nil {
		return nil, errors.Join(err, r.Abort())
	}
	published := newSegment(t, seg, r.Entry())
	if err = published.Do(fill); err == nil {
		published.entry, err = r.Publish()
	}
	if err != nil {
		return nil, errors.Join(err, r.Abort(), seg.Close())
	}
	return published, nil
}

// OpenSegment maps the segment of a published entry. Errors are those of Attach.
func (t *Table) OpenSegment(e Entry) (*Segment, error) {
	if e.Kind < KindApplication {
		return nil, fmt.Errorf("entry %d of kind %#x is not an application's: %w", e.Index, e.Kind, ErrOptions)
	}
	seg, err := t.Attach(e)
	if err != nil {
		return nil, err
	}
	return newSegment(t, seg, e), nil
}

// Entry returns the segment's directory entry as it was when it was mapped.
func (s *Segment) Entry() Entry { return s.entry }

// Retired reports whether the segment was retired: nobody finds it any more, and
// its bytes are seen only by those who map it still. One load.
func (s *Segment) Retired() bool { return s.t.Retired(s.entry) }

// Bytes returns the segment's memory, shared with all who map it: races are the
// caller's to avoid, with atomics or the mutex Entry().MutexID. It must not be
// written after Close, and be used only while s is reachable. If a peer
// truncates the file, an access kills the process; Do is the careful way.
func (s *Segment) Bytes() []byte { return s.seg.Bytes() }

// Do calls f with the segment's memory and returns its error, or ErrFault if the
// file was truncated under it.
func (s *Segment) Do(f func(b []byte) error) (err error) {
	defer s.seg.Catch(shm.Guard(), &err)
	return f(s.seg.Bytes())
}

// Close takes the segment off this handle's list and gives its memory back; what
// Bytes returned reads as zeros then. Further calls return the same.
func (s *Segment) Close() error { return s.close() }
