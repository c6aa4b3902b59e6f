package table

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Drain lets a published segment take nothing new, counts that in the entry, and
// wakes all. The segment stays readable. It returns the entry as it is now, which
// names this drain: Reopen ends it, Retire completes it, and anybody may. An entry
// that is draining already is returned as it is. It returns ErrRetired if the
// segment is not published any more. If the process dies afterwards the entry
// stays Draining.
func (t *Table) Drain(e Entry) (now Entry, err error) {
	err = t.use(func() error {
		now, err = t.drain(e)
		return err
	})
	return now, wrap(err, "drain entry %d", e.Index)
}

// drain takes step 1 of PROTOCOL.md, "Draining a segment".
func (t *Table) drain(e Entry) (Entry, error) {
	for range readAttempts {
		if err := t.checkPublished(e); err != nil {
			return Entry{}, err
		}
		entry := t.entryAt(e.Index)
		t.open(entry) // so that what drains was announced, and may be reopened
		now, word, ok := t.readEntry(e.Index)
		if !ok || now.Generation != e.Generation {
			continue // retired meanwhile
		}
		if now.State == StateDraining {
			return now, nil
		}
		was := now.Drains
		now.State, now.Drains = StateDraining, was+1
		if stateOf(word) == StateOpen && entry.State.CompareAndSwap(word, now.word()) { // pairs with the load of StateWord by who moves records in
			t.announce()
			t.ringPeers(layout.ReasonTable)
			return now, nil
		}
	}
	return Entry{}, t.moved(e)
}

// Reopen ends the drain that e is of, as Drain or Entries returned it: the segment
// takes records again, and all are woken. It returns ErrState if the entry is open
// or in another drain by now, and ErrRetired if it is not published any more.
func (t *Table) Reopen(e Entry) (now Entry, err error) {
	err = t.use(func() error {
		now = e
		now.State = StateOpen
		if err := t.endDrain(e, now); err != nil {
			return err
		}
		t.announce()
		t.ringPeers(layout.ReasonTable)
		return nil
	})
	if err != nil {
		return Entry{}, wrap(err, "reopen entry %d", e.Index)
	}
	return now, nil
}

// endDrain changes the entry from exactly the drain that e is of. The number of
// drains in the word keeps a later one from being ended by who knows of this one
// alone.
func (t *Table) endDrain(e, next Entry) error {
	if err := t.checkPublished(e); err != nil {
		return err
	}
	e.State = StateDraining
	if !t.entryAt(e.Index).State.CompareAndSwap(e.word(), next.word()) { // pairs with the CAS in drain, and of others who end it
		return t.moved(e)
	}
	return nil
}

// moved says why an entry is not in the drain that e is of.
func (t *reading) moved(e Entry) error {
	if err := t.checkPublished(e); err != nil {
		return err
	}
	word := t.entryAt(e.Index).State.Load()
	return fmt.Errorf("entry %d, segment %016x: %w: %v after %d drains, wanted drain %d", e.Index, e.SegmentID,
		ErrState, stateOf(word), drainsOf(word), e.Drains)
}

// Retire takes a published segment out of the directory: it can no longer be
// attached, its file is removed, and all are woken. The entry is free again once
// nobody living maps it.
//
// If e is Draining, exactly that drain is completed: ErrState says that the entry
// is open or in another drain by now. Otherwise it is drained first. So whoever
// retires a slab has made sure since Drain that it is empty, and gives what Drain
// returned. A slab's memory is given back at once, who maps it reads zeros;
// an application's segment stays as it is for those who map it.
//
// It may be called by any handle; if that dies in between, the entry is left
// Draining, to be retired or reopened by another, or Retired, and whoever next
// reaps, detaches or closes does the rest. It returns ErrRetired if somebody else
// was quicker. PROTOCOL.md, "Retiring a segment".
func (t *Table) Retire(e Entry) error {
	return wrap(t.use(func() (err error) {
		if e.State != StateDraining {
			if e, err = t.drain(e); err != nil {
				return err
			}
		}
		retired := e
		retired.State = StateRetired
		if err := t.endDrain(e, retired); err != nil { // pairs with the load in Attach
			return err
		}
		_, err = t.bury(e)
		t.ringPeers(layout.ReasonTable)
		t.recycle()
		return err
	}), "retire entry %d", e.Index)
}

// bury does what follows RETIRED but the ring. The file goes last: while it is there,
// somebody may have died on the way, and all of it is done again. Many may do it at
// once, all who notice early; mine says that the file went by this call.
func (t *Table) bury(e Entry) (mine bool, err error) {
	t.announce()
	if e.Kind == KindSlab { // it is empty; applications' may still be read
		err = t.giveBack(segmentFile(e.Kind, e.SegmentID))
	}
	mine, failed := removed(t.dir, segmentFile(e.Kind, e.SegmentID))
	return mine, errors.Join(err, failed)
}

// rebury buries for a retirer that may have died, if the file is still there. If it
// lives it rings too: of all others only one does, or everybody would ring everybody.
func (t *Table) rebury(e Entry) error {
	if !exists(t.dir, segmentFile(e.Kind, e.SegmentID)) {
		return nil
	}
	mine, err := t.bury(e)
	if mine {
		t.ringPeers(layout.ReasonTable)
	}
	return err
}

// giveBack frees the pages of a file, also of one that others map.
func (t *Table) giveBack(name string) error {
	f, err := t.files().openFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // buried by another
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := fileSize(f)
	if err != nil {
		return err
	}
	return shm.Release(f, size)
}

// recycle frees the RETIRED entries whose segments nobody living maps, after
// finishing for retirers that died.
func (t *Table) recycle() {
	for i := range int(t.header.Entries) {
		e, word, ok := t.readEntry(i)
		if !ok || e.State != StateRetired {
			continue
		}
		// Whether somebody maps it or not: who does may not know that it is retired.
		if t.rebury(e) != nil {
			continue // stays for the next one
		}
		if len(t.pinnedBy(e.SegmentID)) > 0 {
			continue
		}
		if t.entryAt(i).State.CompareAndSwap(word, packed(e.Generation+1, layout.EntryFree)) {
			t.announce()
		}
	}
}
