//go:build linux

package table

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
)

func spec(name string) Spec {
	return Spec{Kind: KindApplication + 5, Tier: 3, Name: name, Params: [4]uint64{1, 2, 3, 4}, Size: 8192}
}

// publish makes a segment whose first byte is 42.
func publish(t *testing.T, table *Table, s Spec) *Segment {
	t.Helper()
	segment, err := table.PublishSegment(s, func(b []byte) error {
		b[0] = 42
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return segment
}

// files counts the segment files of a domain.
func files(t *testing.T, table *Table) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(table.Dir(), "*-*"))
	must(t, err)
	return len(names)
}

func state(table *Table, index int) State { return stateOf(table.entryAt(index).State.Load()) }

func TestPublish_PeerFindsAndReads(t *testing.T) {
	o := options(t.TempDir())
	a, b := openTable(t, o), openTable(t, o)
	before := b.Changes()
	segment := publish(t, a, spec("shared"))
	if b.Changes() == before {
		t.Fatal("publication did not move changes")
	}
	select {
	case <-b.C():
	case <-limited(t).Done():
		t.Fatal("the peer was not woken")
	}
	e, ok := b.Find(KindApplication+5, "shared")
	if !ok || e != segment.Entry() {
		t.Fatalf("found %+v, want %+v", e, segment.Entry())
	}
	if e.State != StateOpen || e.Tier != 3 || e.Params != [4]uint64{1, 2, 3, 4} || e.Size != 8192 ||
		e.Creator != (Holder{a.Self(), a.generation}) || e.MutexID != uint32(e.Index) {
		t.Fatalf("%+v", e)
	}
	theirs, err := b.OpenSegment(e)
	must(t, err)
	if theirs.Bytes()[0] != 42 {
		t.Fatal("other bytes")
	}
	theirs.Bytes()[1] = 43
	if segment.Bytes()[1] != 43 {
		t.Fatal("not shared")
	}
	if got := a.Pinners(e); len(got) != 2 {
		t.Fatalf("mapped by %v, want both", got)
	}
	must(t, theirs.Close())
	must(t, theirs.Close())
	if got := a.Pinners(e); len(got) != 1 || got[0] != a.Self() {
		t.Fatalf("mapped by %v, want %d", got, a.Self())
	}
}

func TestPublish_FillFails_NothingLeft(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	oops := errors.New("oops")
	_, err := table.PublishSegment(spec("x"), func([]byte) error { return oops })
	mustFail(t, err, oops)
	if n := files(t, table); n != 0 || len(table.Entries()) != 0 {
		t.Fatalf("%d files and entries %v left", n, table.Entries())
	}
	if r := table.Regions()[0]; len(r.Mapped) != 0 {
		t.Fatalf("still lists %v", r.Mapped)
	}
}

func TestReserve_BadSpec_ErrOptions(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	for _, s := range []Spec{
		{Kind: 0, Size: 8},
		{Kind: 2, Size: 8},
		{Kind: KindApplication},
		{Kind: KindApplication, Size: 12},
		{Kind: KindApplication, Size: 8, Stack: 1},
		{Kind: KindApplication, Size: 1 << 63},
		{Kind: KindApplication, Size: 8, Name: strings.Repeat("x", 33)},
		{Kind: KindApplication, Size: 8, Name: "x\x00"},
	} {
		_, err := table.Reserve(s)
		mustFail(t, err, ErrOptions)
	}
	if len(table.Entries()) != 0 {
		t.Fatal("an entry was taken")
	}
}

func TestReserve_NoRoomForFile_ErrNoSpaceNothingLeft(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	s := spec("huge")
	s.Size = 1 << 60
	_, err := table.PublishSegment(s, func([]byte) error { return nil })
	mustFail(t, err, ErrNoSpace)
	if n := files(t, table); n != 0 || len(table.Entries()) != 0 {
		t.Fatalf("%d files and entries %v left", n, table.Entries())
	}
}

func TestReserve_DirectoryFull_ErrNoEntryUntilRetired(t *testing.T) {
	o := options(t.TempDir())
	o.Entries = 2
	table := openTable(t, o)
	first := publish(t, table, spec("a"))
	publish(t, table, spec("b"))
	_, err := table.Reserve(spec("c"))
	mustFail(t, err, ErrNoEntry)
	must(t, table.Retire(first.Entry()))
	_, err = table.Reserve(spec("c")) // we map it still
	mustFail(t, err, ErrNoEntry)
	must(t, first.Close())
	third := publish(t, table, spec("c"))
	if e := third.Entry(); e.Index != first.Entry().Index || e.Generation != first.Entry().Generation+1 ||
		e.SegmentID == first.Entry().SegmentID {
		t.Fatalf("%+v after %+v", e, first.Entry())
	}
}

func TestReserve_CreatorKilledAndDirectoryFull_EntryTakenBack(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	o.Entries = 1
	table := openTable(t, o)
	c := start(t, "creating", dir)
	c.number()
	_, err := table.Reserve(spec("mine"))
	mustFail(t, err, ErrNoEntry)
	c.kill()
	publish(t, table, spec("mine"))
	if n := files(t, table); n != 1 {
		t.Fatalf("%d files, want 1", n)
	}
}

func TestCreator_KilledAtActive_ReaperAnnouncesAndOpens(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	c := start(t, "active", dir)
	entry := c.number()
	c.kill()
	if s := state(table, entry); s != StateActive {
		t.Fatalf("entry is %v, want ACTIVE", s)
	}
	before := table.Changes()
	if n, err := table.Reap(); n != 1 || err != nil {
		t.Fatalf("reaped %d, %v", n, err)
	}
	if s := state(table, entry); s != StateOpen || table.Changes() < before+2 {
		t.Fatalf("entry is %v, changes moved by %d", s, table.Changes()-before)
	}
	e, ok := table.Find(KindApplication, "active")
	if !ok {
		t.Fatal("not found")
	}
	segment, err := table.OpenSegment(e)
	must(t, err)
	must(t, segment.Close())
}

func TestReservation_Over_ErrState(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	r, err := table.Reserve(spec("x"))
	must(t, err)
	_, err = r.Publish()
	mustFail(t, err, ErrState) // no file
	seg, err := r.Create()
	must(t, err)
	e, err := r.Publish()
	must(t, err)
	mustFail(t, r.Abort(), ErrState)
	_, err = r.Publish()
	mustFail(t, err, ErrState)
	table.Detach(e.SegmentID)
	must(t, seg.Close())
	if n := files(t, table); n != 1 {
		t.Fatalf("%d files, want 1", n)
	}
	r, err = table.Reserve(spec("y"))
	must(t, err)
	must(t, r.Abort())
	mustFail(t, r.Abort(), ErrState)
	_, err = r.Create()
	mustFail(t, err, ErrState)
}

func TestRetire_Pinners(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	s := Spec{Kind: KindApplication, Name: "shared", Size: 4096}

	t.Run("None_FreeAtOnce", func(t *testing.T) {
		segment := publish(t, table, s)
		must(t, segment.Close())
		if table.Retired(segment.Entry()) {
			t.Fatal("retired already")
		}
		before := table.Changes()
		must(t, table.Retire(segment.Entry()))
		if state(table, segment.Entry().Index) != StateFree || files(t, table) != 0 || table.Changes() == before {
			t.Fatalf("entry %v, %d files", state(table, segment.Entry().Index), files(t, table))
		}
		if !segment.Retired() {
			t.Fatal("does not know")
		}
		mustFail(t, table.Retire(segment.Entry()), ErrRetired)
		_, err := table.OpenSegment(segment.Entry())
		mustFail(t, err, ErrRetired)
	})
	t.Run("Alive_KeptUntilItLeaves", func(t *testing.T) {
		segment := publish(t, table, s)
		must(t, segment.Close())
		c := start(t, "pin", dir)
		region := c.number()
		must(t, table.Retire(segment.Entry()))
		if got := table.Pinners(segment.Entry()); len(got) != 1 || got[0] != region {
			t.Fatalf("mapped by %v, want %d", got, region)
		}
		if state(table, segment.Entry().Index) != StateRetired || files(t, table) != 0 {
			t.Fatalf("entry %v, %d files", state(table, segment.Entry().Index), files(t, table))
		}
		c.finish()
		if state(table, segment.Entry().Index) != StateFree {
			t.Fatalf("entry %v after the last has left", state(table, segment.Entry().Index))
		}
	})
	t.Run("Dead_ReapFrees", func(t *testing.T) {
		segment := publish(t, table, s)
		must(t, segment.Close())
		c := start(t, "pin", dir)
		c.hear()
		must(t, table.Retire(segment.Entry()))
		c.kill()
		if got := table.Pinners(segment.Entry()); len(got) != 0 {
			t.Fatalf("mapped by the dead %v", got)
		}
		_, err := table.Reap()
		must(t, err)
		if state(table, segment.Entry().Index) != StateFree {
			t.Fatalf("entry %v, want FREE", state(table, segment.Entry().Index))
		}
	})
}

func TestRetire_RetirerDied_AnybodyFinishes(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	// After DRAINING: still readable, and retirable.
	segment := publish(t, table, spec("x"))
	drained(t, table, segment.Entry())
	e, ok := table.Find(KindApplication+5, "x")
	if !ok || e.State != StateDraining {
		t.Fatalf("%+v", e)
	}
	again, err := table.OpenSegment(e)
	must(t, err)
	must(t, again.Close())
	must(t, segment.Close())
	must(t, table.Retire(e))
	// After RETIRED, the file still there.
	segment = publish(t, table, spec("x"))
	must(t, segment.Close())
	e = segment.Entry()
	table.entryAt(e.Index).State.Store(packed(e.Generation, layout.EntryRetired))
	_, err = table.Reap()
	must(t, err)
	if state(table, e.Index) != StateFree || files(t, table) != 0 {
		t.Fatalf("entry %v, %d files", state(table, e.Index), files(t, table))
	}
}

func TestAttach_WrongSize_BothValues(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	segment := publish(t, table, spec("x"))
	e := segment.Entry()
	must(t, os.Truncate(filepath.Join(table.Dir(), segmentFile(e.Kind, e.SegmentID)), 4096))
	_, err := table.OpenSegment(e)
	var size *SizeError
	if !errors.As(err, &size) || size.Got != 4096 || size.Want != 8192 {
		t.Fatal(err)
	}
	mustFail(t, err, ErrSegmentSize)
	// And the one who has it mapped gets an error, no crash.
	mustFail(t, segment.Do(func(b []byte) error { b[5000]++; return nil }), ErrFault)
	must(t, segment.Do(func(b []byte) error { b[5]++; return nil }))
}

func TestAttach_NotSafe_ErrUnsafeFile(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	e := publish(t, table, spec("x")).Entry()
	path := filepath.Join(table.Dir(), segmentFile(e.Kind, e.SegmentID))
	must(t, os.Chmod(path, 0o604))
	_, err := table.OpenSegment(e)
	mustFail(t, err, ErrUnsafeFile)
	must(t, os.Rename(path, path+"x"))
	must(t, os.Symlink(path+"x", path))
	_, err = table.OpenSegment(e)
	mustFail(t, err, ErrUnsafeFile)
	if r := table.Regions()[0]; len(r.Mapped) != 1 {
		t.Fatalf("failed attempts stay listed: %x", r.Mapped)
	}
}

func TestAttach_PastMaximum_ErrTooManyMapped(t *testing.T) {
	o := options(t.TempDir())
	o.Mapped = 2
	table := openTable(t, o)
	a := publish(t, table, spec("a"))
	publish(t, table, spec("b"))
	_, err := table.PublishSegment(spec("c"), func([]byte) error { return nil })
	mustFail(t, err, ErrTooManyMapped)
	again, err := table.OpenSegment(a.Entry()) // the same once more takes no place
	must(t, err)
	must(t, a.Close())
	_, err = table.PublishSegment(spec("c"), func([]byte) error { return nil })
	mustFail(t, err, ErrTooManyMapped)
	must(t, again.Close())
	publish(t, table, spec("c"))
	if n := len(table.Entries()); n != 3 {
		t.Fatalf("%d entries, want 3", n)
	}
}

func TestEntries_Garbage_Skipped(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	for i := range int(table.header.Entries) {
		e := table.entryAt(i)
		e.State.Store(random())
		e.SegmentID.Store(uint64(i) * 7)
		e.Size.Store(random())
		e.Kind.Store(uint32(random()))
	}
	for slot := range int(table.header.Held) {
		table.heldWord(7, slot).Store(random())
	}
	table.regionAt(7).State.Store(packed(9, layout.RegionClaimed))
	table.regionAt(6).State.Store(random())
	for _, e := range table.Entries() {
		_, _ = table.OpenSegment(e)
		_ = table.Retire(e)
		table.Pinners(e)
	}
	table.Regions()
	_, _ = table.Reserve(spec("x"))
	_, err := table.Reap()
	must(t, err)
	_, err = table.Attach(Entry{Index: -1, SegmentID: 5})
	if err == nil {
		t.Fatal("attached entry -1")
	}
	mustFail(t, table.Retire(Entry{Index: 1 << 30}), ErrOptions)
}

func TestMutex_HolderKilled_StolenInconsistent(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	c := start(t, "lock", dir)
	if line := c.hear(); !strings.HasPrefix(line, "true ") {
		t.Fatalf("the first holder hears %q", line)
	}
	m, err := table.Mutex(100)
	must(t, err)
	if ok, _, err := m.TryLock(); ok || err != nil {
		t.Fatalf("took what another holds: %v, %v", ok, err)
	}
	h, ok := m.Holder()
	if !ok || h.Region == table.Self() {
		t.Fatalf("holder %+v, %v", h, ok)
	}
	c.kill()
	consistent, err := m.Lock(limited(t))
	if err != nil || consistent {
		t.Fatalf("consistent %v, %v", consistent, err)
	}
	if n := table.Locks().Steals.Load(); n != 1 {
		t.Fatalf("%d steals counted, want 1", n)
	}
	must(t, m.Unlock(false))
	consistent, err = m.Lock(limited(t))
	if err != nil || consistent {
		t.Fatalf("not repaired, and consistent %v, %v", consistent, err)
	}
	must(t, m.Unlock(true))
	ok, consistent, err = m.TryLock()
	if !ok || !consistent || err != nil {
		t.Fatalf("repaired: %v, %v, %v", ok, consistent, err)
	}
	must(t, m.Unlock(true))
}

// What a segment of the same entry left half done is no matter of the next one.
func TestReserve_MutexLeftHalfDone_FreshSegmentIsConsistent(t *testing.T) {
	o := options(t.TempDir())
	table, peer := openTable(t, o), openTable(t, o)
	for _, c := range []struct {
		name  string
		leave func(m *Mutex, word *layout.Uint64)
		want  bool
	}{
		{"left so", func(m *Mutex, _ *layout.Uint64) {
			_, err := m.Lock(limited(t))
			must(t, err)
			must(t, m.Unlock(false))
		}, true},
		{"by one who died", func(_ *Mutex, word *layout.Uint64) { word.Store(lock.Token(7, 9)) }, true},
		{"by one who lives", func(m *Mutex, _ *layout.Uint64) {
			_, err := m.Lock(limited(t))
			must(t, err)
		}, false},
	} {
		theirs, err := peer.Mutex(0)
		must(t, err)
		c.leave(theirs, &shm.At[layout.Mutex](table.win, table.header.mutex(0)).Word)
		r, err := table.Reserve(spec("fresh"))
		must(t, err)
		if r.Entry().Index != 0 {
			t.Fatal(r.Entry())
		}
		m, err := table.Mutex(0)
		must(t, err)
		ok, consistent, err := m.TryLock()
		if must(t, err); ok != c.want || consistent != c.want {
			t.Errorf("%s: taken %v, consistent %v, want %v", c.name, ok, consistent, c.want)
		}
		if ok {
			must(t, m.Unlock(true))
		}
		must(t, r.Abort())
	}
}

func TestMutex_PastMaximum_ErrTooManyHeld(t *testing.T) {
	o := options(t.TempDir())
	o.Held = 2
	table := openTable(t, o)
	var all []*Mutex
	for id := range uint32(3) {
		m, err := table.Mutex(64 + id)
		must(t, err)
		all = append(all, m)
	}
	for _, m := range all[:2] {
		_, err := m.Lock(limited(t))
		must(t, err)
	}
	_, err := all[2].Lock(limited(t))
	mustFail(t, err, ErrTooManyHeld)
	_, _, err = all[2].TryLock()
	mustFail(t, err, ErrTooManyHeld)
	must(t, all[0].Unlock(true))
	_, err = all[2].Lock(limited(t))
	must(t, err)
	must(t, all[1].Unlock(true))
	must(t, all[2].Unlock(true))
	mustFail(t, all[2].Unlock(true), ErrNotHeld)
	if held := table.Regions()[0].Held; len(held) != 0 {
		t.Fatalf("still lists %v", held)
	}
	_, err = table.Mutex(128)
	mustFail(t, err, ErrNoMutex)
	if same, _ := table.Mutex(64); same != all[0] {
		t.Fatal("two ends of one mutex in a handle")
	}
}

func TestMutex_GoroutinesShareOneSlot(t *testing.T) {
	o := options(t.TempDir())
	o.Held = 1
	table := openTable(t, o)
	m, err := table.Mutex(0)
	must(t, err)
	_, err = m.Lock(limited(t))
	must(t, err)
	done := make(chan error)
	go func() {
		_, err := m.Lock(limited(t))
		done <- err
	}()
	eventually(t, "the second wants it", func() bool {
		table.mutexes.mu.Lock()
		defer table.mutexes.mu.Unlock()
		return m.wanted == 1
	})
	if held := table.Regions()[0].Held; len(held) != 1 || !held[0].Owned {
		t.Fatalf("%v", held)
	}
	must(t, m.Unlock(true))
	must(t, <-done)
	must(t, m.Unlock(true))
	if held := table.Regions()[0].Held; len(held) != 0 {
		t.Fatalf("still lists %v", held)
	}
}

// notSegments are names that look like those of segments' files.
var notSegments = []string{
	"slab", "slab-", "slab-1", "app-0123456789abcde", "app-0123456789abcdef0", "app-0123456789abcdeF", "app-+123456789abcdef",
	"lab-0123456789abcdef", "slab-0123-456789abcdef", "slab-0123456789abcdef~", "Slab-0123456789abcdef",
}

func TestIsSegmentFile_WhatSegmentFileReturns_NothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]uint32{KindSlab, KindApplication, KindApplication + 7}).Draw(t, "kind")
		if name := segmentFile(kind, rapid.Uint64().Draw(t, "id")); !isSegmentFile(name) {
			t.Fatal(name)
		}
	})
	for _, name := range notSegments {
		if isSegmentFile(name) {
			t.Error(name)
		}
	}
}
