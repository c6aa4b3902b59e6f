package table

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/flagstone-shm/flagstone/internal/format"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Check compares the directory with the files it names, the header with what this
// handle knows, and the regions with their states, and returns what contradicts what,
// nothing for a sound control segment. It changes nothing and takes no lock; what is
// on its way at the moment is no contradiction. It maps each segment's first page:
// some 20 us each. What a lock word or a clock word says is no problem by itself: the
// protocol puts those right as they are used.
func (t *Table) Check() (problems []string, err error) {
	err = t.useLive(func() error {
		flaws, err := t.survey()
		for _, f := range flaws {
			problems = append(problems, f.text)
		}
		return err
	})
	return problems, wrap(err, "check domain %s", t.name)
}

// flaw is a contradiction, and what puts it right; nil if nothing in place does. Last
// is for what is given up, when nothing else is left to be put right.
type flaw struct {
	text string
	mend func() error
	last bool
}

// survey looks at everything. Files are listed before the directory is read: a
// creator writes the segment id before it makes the file, and a file goes before its
// entry does, so one that was there before and is there after has an entry.
func (t *Table) survey() (flaws []flaw, err error) {
	s := surveyor{Table: t, files: map[string]bool{}, named: map[string]int{}, tops: map[uint64]int{}}
	dir, err := openPlain(t.dir, ".") // a descriptor of its own: reading a folder moves it
	if err != nil || dir == nil {
		return nil, orElse(err, ErrDestroyed)
	}
	defer dir.Close()
	names, err := readNames(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if isSegmentFile(name) {
			s.files[name] = true
		}
	}
	s.page()
	s.gather()
	for i := range int(t.header.Entries) {
		s.entry(i)
	}
	s.primary()
	for name := range s.files {
		if !s.taken(name) && exists(t.dir, name) {
			s.last(func() error { return t.discard(name) }, "file %s: no entry names it", name)
		}
	}
	for i := range int(t.header.Regions) {
		if state := uint32(t.regionAt(i).State.Load()); state > layout.RegionReaping {
			s.report(nil, "region %d: state %d is none", i, state) // its owner stores it anew, or whoever reaps it
		}
	}
	return s.flaws, nil
}

// surveyor gathers what is wrong.
type surveyor struct {
	*Table
	files map[string]bool
	named map[string]int // by the first entry in use that names them
	tops  map[uint64]int // published entries that are the tier 0 of a stack
	flaws []flaw
}

func (s *surveyor) report(mend func() error, format string, args ...any) {
	s.flaws = append(s.flaws, flaw{text: fmt.Sprintf(format, args...), mend: mend})
}

// last is report for what is given up.
func (s *surveyor) last(mend func() error, format string, args ...any) {
	s.report(mend, format, args...)
	s.flaws[len(s.flaws)-1].last = true
}

// page compares the page that openers check with what this handle read of it.
func (s *surveyor) page() {
	_, err := readHeader(s.win, s.header.FileSize, false)
	if err != nil {
		s.report(func() error { s.header.write(s.win); return nil }, "control: %v", err)
	}
}

// gather notes which files the directory names, and the stacks. What is published while
// others are looked at is noted by another call.
func (s *surveyor) gather() {
	for i := range int(s.header.Entries) {
		e := s.entryAt(i)
		state := stateOf(e.State.Load())
		if state == StateFree || state > StateRetired {
			continue
		}
		id := e.SegmentID.Load()
		if name := segmentFile(e.Kind.Load(), id); !s.taken(name) {
			s.named[name] = i
		}
		if state.Published() && e.Kind.Load() == KindSlab && e.Tier.Load() == 0 && e.Stack.Load() == id {
			s.tops[id] = i
		}
	}
}

// taken reports whether an entry that was looked at names the file.
func (s *surveyor) taken(name string) bool { _, ok := s.named[name]; return ok }

// rival returns another entry that names the file of entry i, the first there is, or -1.
func (s *surveyor) rival(i int, name string) int {
	if !s.taken(name) {
		s.gather()
	}
	if first, ok := s.named[name]; ok && first != i {
		return first
	}
	return -1
}

// entry looks at one entry. What no view can have left out is put right in place: a
// stack without its tier 0 takes no writes. What some view may have left out, so that
// others wrote without it, is given up: what is in it may be old.
func (s *surveyor) entry(i int) {
	e, word, ok := s.readEntry(i)
	where := fmt.Sprintf("entry %d", i)
	name := segmentFile(e.Kind, e.SegmentID)
	switch {
	case !ok && e.State == StateFree:
		s.unnamed(i, word, where)
		return
	case !ok && e.State > StateRetired:
		where = fmt.Sprintf("%s: state %d is none", where, uint32(e.State))
		if !s.unnamed(i, word, where) {
			s.last(s.giveUp(i, word, ""), "%s", where)
		}
		return
	case !ok || e.State == StateRetired:
		return // changing, or going
	case e.State == StateCreating:
		if owner := e.Creator.Region; owner < 0 || owner >= int(s.header.Regions) {
			s.last(s.giveUp(i, word, ""), "%s: made by region %d of %d", where, owner, s.header.Regions)
		}
		return
	}
	where = fmt.Sprintf("%s, segment %016x", where, e.SegmentID)
	raw := s.entryAt(i)
	if !s.files[name] && !exists(s.dir, name) {
		s.lost(i, e, word, where)
		return
	}
	size, err := s.inspect(e.Kind, e.SegmentID)
	switch {
	case s.entryAt(i).State.Load() != word: // meanwhile
	case err != nil && e.Kind == KindSlab && e.Tier > 0:
		s.last(s.giveUp(i, word, name), "%s: %v", where, err)
	case err != nil:
		s.report(nil, "%s: %v: nothing but `destroy` helps", where, err)
	case s.rival(i, name) >= 0:
		s.last(s.giveUp(i, word, ""), "%s: entry %d names the file too", where, s.rival(i, name))
	case size != e.Size:
		s.report(func() error { raw.Size.Store(size); return nil }, "%s: %d bytes, the file has %d", where, e.Size, size)
	case e.Kind != KindSlab:
	case e.Name == Primary && e.Stack == e.SegmentID && e.State == StateDraining:
		open := e
		open.State = StateOpen
		s.report(func() error { raw.State.CompareAndSwap(word, open.word()); return nil }, "%s: the primary slab is being retired", where)
	case e.Tier > 0 && e.Stack == e.SegmentID:
		s.report(func() error { raw.Tier.Store(0); return nil }, "%s: tier %d of a stack of its own", where, e.Tier)
	case e.Tier > 0 && !s.isTop(e.Stack):
		s.last(s.giveUp(i, word, name), "%s: tier %d of stack %016x, which has no tier 0", where, e.Tier, e.Stack)
	case e.Tier == 0 && e.Stack != e.SegmentID && s.isTop(e.Stack):
		s.last(s.giveUp(i, word, name), "%s: tier 0 of stack %016x, which has another", where, e.Stack)
	case e.Tier == 0 && e.Stack != e.SegmentID:
		s.report(func() error { raw.Stack.Store(e.SegmentID); return nil }, "%s: tier 0 of stack %016x", where, e.Stack)
	}
}

func (s *surveyor) isTop(stack uint64) bool {
	if _, ok := s.tops[stack]; !ok {
		s.gather()
	}
	_, ok := s.tops[stack]
	return ok
}

// primary reports that the primary slab has lost its name: the only tier 0 there is has
// another, and nothing else is wrong.
func (s *surveyor) primary() {
	for stack, i := range s.tops {
		e, _, ok := s.readEntry(i)
		if len(s.tops) > 1 || len(s.flaws) > 0 || !ok || e.Name == Primary || stack != e.SegmentID {
			return
		}
		s.report(func() error {
			var name [layout.NameLength]byte
			copy(name[:], Primary)
			for n := range name[:layout.NameLength/8] {
				s.entryAt(i).Name[n].Store(binary.LittleEndian.Uint64(name[8*n:]))
			}
			return nil
		}, "entry %d, segment %016x: named %q, and there is no slab %q", i, e.SegmentID, e.Name, Primary)
	}
}

// unnamed reports an entry that is in no state to have a segment, and has one: the
// file goes before the entry is FREE. A tier 0, and an application's segment, are
// published again; if there is another of that name by now, or it is a tier below,
// they are given up.
func (s *surveyor) unnamed(i int, word uint64, where string) bool {
	e := s.entryAt(i)
	kind, id := e.Kind.Load(), e.SegmentID.Load()
	name := segmentFile(kind, id)
	if !s.files[name] || s.taken(name) || !exists(s.dir, name) || e.State.Load() != word {
		return false
	}
	s.named[name] = i
	report, mend := s.last, s.giveUp(i, word, name)
	size, err := s.inspect(kind, id)
	if again := kind != KindSlab || e.Tier.Load() == 0 && e.Stack.Load() == id; again && err == nil && size == e.Size.Load() && !s.another(i) {
		open := packed(generationOf(word), layout.EntryOpen)
		report, mend = s.report, func() error { e.State.CompareAndSwap(word, open); return nil } // lost to a creator: then the file is nobody's
	}
	report(mend, "%s: %v, but file %s is there", where, stateOf(word), name)
	return true
}

// another reports whether there is a published slab with the name of entry i.
func (s *surveyor) another(i int) bool {
	e := s.entryAt(i)
	for _, other := range s.tops {
		same := other != i
		for n := range e.Name {
			same = same && e.Name[n].Load() == s.entryAt(other).Name[n].Load()
		}
		if same {
			return true
		}
	}
	return false
}

// lost reports a published entry without a file: its id, or its kind, may be what was
// overwritten.
func (s *surveyor) lost(i int, e Entry, word uint64, where string) {
	raw := s.entryAt(i)
	if raw.State.Load() != word {
		return
	}
	for _, kind := range []uint32{KindSlab, KindApplication} {
		for _, id := range []uint64{e.SegmentID, e.Stack} {
			name := segmentFile(kind, id)
			if s.taken(name) || !s.files[name] || id == e.Stack && e.Tier != 0 {
				continue
			}
			if size, err := s.inspect(kind, id); err != nil || size != e.Size {
				continue
			}
			s.named[name] = i
			s.report(func() error {
				if e.Kind != KindApplication || kind == KindSlab {
					raw.Kind.Store(kind)
				}
				raw.SegmentID.Store(id)
				return nil
			}, "%s: no such file of kind %#x; it is %s", where, e.Kind, name)
			return
		}
	}
	s.last(s.giveUp(i, word, ""), "%s: no such file of kind %#x", where, e.Kind)
}

// inspect returns the size of a segment's file. A slab's first page is checked, as
// openers do.
func (s *surveyor) inspect(kind uint32, id uint64) (size uint64, err error) {
	d, name := s.Table.files(), segmentFile(kind, id)
	f, err := d.openFile(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if size, err = fileSize(f); err != nil || kind != KindSlab {
		return size, err
	}
	seg, err := d.mapFile(f, size)
	if err != nil {
		return size, err
	}
	defer seg.Close()
	defer seg.Catch(shm.Guard(), &err)
	page, err := format.Freeze(name, seg.Window(), layout.SlabMagic, layout.SlabHeaderChecksummed, size, false)
	if err != nil {
		return size, err
	}
	h := shm.At[layout.SlabHeader](page, 0)
	return size, format.Check(name,
		format.Equal("SegmentID", h.SegmentID.Load(), id, format.ErrForeign),
		format.Equal("DomainUUID[0]", h.DomainUUID[0].Load(), s.header.uuid[0], format.ErrForeign),
		format.Equal("DomainUUID[1]", h.DomainUUID[1].Load(), s.header.uuid[1], format.ErrForeign),
		format.Equal("HashSeed", h.HashSeed.Load(), s.header.seed, format.ErrForeign),
		format.Size(size, h.FileSize.Load()),
		format.Equal("Ready", h.Ready.Load(), 1, format.ErrNotReady),
		format.Within("FileSize", size, layout.PageSize, math.MaxInt64, format.ErrGeometry),
	)
}
