package table

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// Repair puts right what Check finds, where that can be done in place, inside
// Exclusive, and returns what Check finds afterwards. Segments whose records may be
// old by now, as some peers may have left them out, are given up, and so are files that
// no entry names. It reaps, and rings all, so that the living disown locks that they
// do not hold and take their regions back; for that it waits some seconds at most.
// PROTOCOL.md, "Untrusted numbers".
func (t *Table) Repair(ctx context.Context) (remaining []string, err error) {
	err = t.Exclusive(ctx, func() error {
		return t.use(func() error { return t.repair() })
	})
	if err != nil {
		return nil, wrap(err, "repair domain %s", t.name)
	}
	t.Tick()
	if _, err = t.Reap(); err != nil {
		return nil, err
	}
	for i := range int(t.header.Regions) { // not RingAll: those whose state says nothing, too
		_ = t.Ring(i, layout.ReasonTable|layout.ReasonLocks)
	}
	for range repairLooks {
		if remaining, err = t.Check(); err != nil || len(remaining) == 0 {
			break
		}
		if pause(ctx, repairNap) != nil {
			break
		}
	}
	return remaining, err
}

// Listeners that were not woken look every second.
const (
	repairNap   = 50 * time.Millisecond
	repairLooks = 40
)

// repair mends flaw by flaw. What one mending brings to light the next round mends;
// nothing is given up while there is something to put right, which may be what was
// missing.
func (t *Table) repair() error {
	for range repairRounds {
		flaws, err := t.survey()
		if err != nil {
			return err
		}
		better := slices.ContainsFunc(flaws, func(f flaw) bool { return f.mend != nil && !f.last })
		changed := false
		for _, f := range flaws {
			if f.mend != nil && f.last != better {
				err = errors.Join(err, f.mend())
				changed = true
			}
		}
		if !changed || err != nil {
			return err
		}
		t.announce()
	}
	return nil
}

// repairRounds is more than any damage takes; what never ends is somebody's doing.
const repairRounds = 8

// giveUp returns what frees an entry that is still what it was, after the pages of its
// file, unless that is another's or gone, were given back: nobody finds in it by an
// older view what newer ones have left out.
func (s *surveyor) giveUp(i int, word uint64, name string) func() error {
	return func() error {
		var err error
		if name != "" {
			err = s.giveBack(name)
		}
		free := s.entryAt(i).State.CompareAndSwap(word, packed(generationOf(word)+1, layout.EntryFree))
		if free && name != "" {
			s.announce()
			err = errors.Join(err, s.discard(name))
		}
		return err
	}
}

// discard removes a file that no entry names. Who maps it reads zeros.
func (t *Table) discard(name string) error {
	return errors.Join(t.giveBack(name), removeEntry(t.dir, name))
}
