package fuzz

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/internal/identity"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/table"
)

func domainOptions(dir string) table.Options {
	return table.Options{
		Dir: dir, Name: "d", Regions: 3, Entries: 3, Mutexes: 6, Held: 2, Mapped: 2,
		Wake: signal.Options{Mode: signal.ModePoll, Poll: time.Hour},
	}
}

func FuzzOpenDomain(f *testing.F) {
	if *update {
		saveDomains(f)
	}
	names, all := images(f, "control")
	for i := range names {
		f.Add(uint8(i), []byte{}, int16(0), true)
		f.Add(uint8(i), []byte{0, 64, 1, 5}, int16(0), true) // absurd regions
	}
	f.Add(uint8(0), []byte{}, int16(-1), false)
	f.Add(uint8(0), []byte{}, int16(-1<<15), false)
	f.Add(uint8(0), []byte{}, int16(layout.PageSize), false)
	for ready := range byte(4) { // and half made, destroyed, unknown
		f.Add(uint8(0), []byte{0, 192, 0, ready}, int16(0), true)
	}
	boot, err := identity.BootID()
	must(f, err)
	o := domainOptions(f.TempDir())
	first, err := table.Open(context.Background(), o) // makes the directories
	must(f, err)
	dir := first.Dir()
	must(f, first.Close())
	f.Fuzz(func(t *testing.T, which uint8, patches []byte, longer int16, sealed bool) {
		file := damaged(all, which, patches, longer)
		if sealed && len(file) >= layout.PageSize { // and of this boot
			binary.LittleEndian.PutUint64(file[128:], boot[0])
			binary.LittleEndian.PutUint64(file[136:], boot[1])
			seal[layout.ControlHeader](file)
		}
		must(t, os.MkdirAll(dir, 0o700))
		path := filepath.Join(dir, "control")
		_ = os.Remove(path)
		must(t, os.WriteFile(path, file, 0o600))
		d, err := table.Open(limited(t), o)
		if err != nil {
			var bad *table.FormatError
			if !errors.Is(err, table.ErrNoRegion) && (!errors.As(err, &bad) || bad.Got == bad.Want || bad.File != path) {
				t.Fatal(err)
			}
			return
		}
		useDomain(t, d)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// useDomain does everything once. Damage may cost answers, nothing else.
func useDomain(t *testing.T, d *table.Table) {
	d.Regions()
	d.Tick()
	d.Poll()
	d.Reasons()
	d.Acknowledge(d.Changes())
	for _, e := range d.Entries() {
		d.Pinners(e)
		d.Retired(e)
		if s, err := d.OpenSegment(e); err == nil {
			must(t, s.Close())
		}
		_, err := d.Drain(e)
		must(t, allow(err, table.ErrRetired))
	}
	for id := range uint32(d.Geometry().Mutexes) {
		m, err := d.Mutex(id)
		must(t, err)
		m.Holder()
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
		_, err = m.Lock(ctx) // everybody else is dead
		cancel()
		must(t, allow(err, table.ErrDestroyed))
		if err == nil {
			must(t, m.Unlock(true))
		}
	}
	_, err := d.Reap()
	must(t, err)
	must(t, allow(d.SetFlags(3, 1), table.ErrDestroyed))
	d.RingAll(1)
	s, err := d.PublishSegment(table.Spec{Kind: table.KindApplication, Name: "x", Size: 8}, func(b []byte) error {
		b[0] = 1
		return nil
	})
	must(t, allow(err, table.ErrNoEntry, table.ErrDestroyed))
	if err == nil {
		must(t, d.Retire(s.Entry()))
		must(t, s.Close())
	}
	for region := range int(d.Geometry().Regions) {
		_ = d.Ring(region, 1)
		d.Dead(uint64(region) << layout.LockRegionShift)
	}
}

func saveDomains(f *testing.F) {
	d, err := table.Open(context.Background(), domainOptions(f.TempDir()))
	must(f, err)
	keep := func(name string) {
		b, err := os.ReadFile(filepath.Join(d.Dir(), "control"))
		must(f, err)
		clear(b[128:144]) // the boot id; sealing puts in that of the day
		save(f, "control", name, b)
	}
	keep("one-region")
	s, err := d.PublishSegment(table.Spec{Kind: table.KindApplication, Name: "x", Size: 4096}, func([]byte) error { return nil })
	must(f, err)
	m, err := d.Mutex(5)
	must(f, err)
	_, err = m.Lock(context.Background())
	must(f, err)
	keep("in-use")
	must(f, d.Retire(s.Entry()))
	keep("retired")
	r, err := d.Reserve(table.Spec{Kind: table.KindSlab, Name: "y", Size: 4096})
	must(f, err)
	keep("creating")
	must(f, r.Abort())
	must(f, s.Close())
	must(f, m.Unlock(true))
	must(f, d.Close())
	keep("left")
}
