package slab

import (
	"os"
	"runtime/debug"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// forbidden returns a formatted slab in a file whose pages, all but the header, must
// not be touched until the test allows it.
func forbidden(t *testing.T, o Options) (seg *shm.Segment, allow func()) {
	t.Helper()
	if os.Getpagesize() > layout.PageSize {
		t.Skipf("pages of %d bytes", os.Getpagesize())
	}
	g, err := Plan(o)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	seg, f, err := shm.Create(dir, "slab", g.FileSize(), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	protect := func(protection int) {
		if err := unix.Mprotect(seg.Bytes()[layout.PageSize:], protection); err != nil {
			t.Fatal(err)
		}
	}
	protect(unix.PROT_NONE)
	if err := Format(seg, g, testID, 0); err != nil {
		t.Fatal(err)
	}
	return seg, func() { protect(unix.PROT_READ | unix.PROT_WRITE) }
}

func TestOpen_TouchesHeaderOnly(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for _, order := range []Order{LRU, S3FIFO} {
		o := Options{Entries: 4000, Shards: 4, MaxKey: 16, MaxValue: 64, Order: order}
		m := newWorld().member(0)
		seg, allow := forbidden(t, o)
		top := open(t, seg, m)
		belowSeg, allowBelow := forbidden(t, o)
		below, err := OpenBelow(belowSeg, top, testID)
		if err != nil {
			t.Fatal(err)
		}
		st := NewStack(StackOptions{}, Tier{Slab: top}, Tier{Slab: below})
		lookingSeg, _ := forbidden(t, o)
		observed(t, lookingSeg, m.world)

		allow() // and it is a slab nevertheless
		allowBelow()
		if err := st.Set(bg, key16(1), []byte("value"), 0); err != nil {
			t.Fatal(err)
		}
		if v, ok, err := st.Get(nil, key16(1)); err != nil || !ok || string(v) != "value" {
			t.Fatalf("%q, %v, %v", v, ok, err)
		}
	}
}
