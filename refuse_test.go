//go:build linux

package flagstone_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/format"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// everything calls all that a handle can do and returns the errors. The key "k"
// is one of the cache's.
func everything(t testing.TB, c *flagstone.Cache) map[string]error {
	ctx, k := limited(t), []byte("k")
	errs := map[string]error{}
	_, _, errs["Get"] = c.Get(nil, k)
	_, _, errs["GetHash"] = c.GetHash(nil, 1)
	errs["GetBatch"] = c.GetBatch(new(flagstone.Batch), [][]byte{k, []byte("missing")})
	errs["SetHash"] = c.SetHash(ctx, 1, k, 0)
	_, errs["Delete"] = c.Delete(ctx, k)
	_, errs["DeleteHash"] = c.DeleteHash(ctx, 1)
	_, errs["Evict"] = c.Evict(ctx, 0, 1)
	_, errs["EvictPairs"] = c.EvictPairs(ctx, 0, 1)
	_, errs["EvictNear"] = c.EvictNear(ctx, k, 0, 1)
	_, errs["EvictNearHash"] = c.EvictNearHash(ctx, 1, 0, 1)
	_, errs["EvictTag"] = c.EvictTag(ctx, 1, 1)
	_, errs["Len"] = c.Len()
	space := c.Namespace("never used")
	_, _, errs["Namespace.ID"] = space.ID()
	for prefix, s := range map[string]store{"": c, "Namespace.": space} {
		_, _, errs[prefix+"Get, missing"] = s.Get(nil, []byte("missing"))
		_, _, errs[prefix+"GetItem, missing"] = s.GetItem(nil, []byte("missing"))
		_, _, errs[prefix+"Peek, missing"] = s.Peek(nil, []byte("missing"))
		_, _, errs[prefix+"TTL, missing"] = s.TTL([]byte("missing"))
		errs[prefix+"GetBatch, missing"] = s.GetBatch(new(flagstone.Batch), [][]byte{[]byte("missing")})
		_, errs[prefix+"Delete, missing"] = s.Delete(ctx, []byte("missing"))
		_, errs[prefix+"Touch"] = s.Touch(ctx, k, time.Second)
		for _, token := range []flagstone.Token{0, 1, 4} {
			_, _, errs[fmt.Sprint(prefix, "CompareAndSwap, token ", token)] = s.CompareAndSwap(ctx, k, token, k, 0)
		}
		errs[prefix+"Set"] = s.Set(ctx, k, k, time.Second)
		_, errs[prefix+"SetItem"] = s.SetItem(ctx, k, flagstone.Item{Tag: 1})
		_, errs[prefix+"SetIfAbsent"] = s.SetIfAbsent(ctx, k, k, 0)
		_, errs[prefix+"SetBatch"] = s.SetBatch(ctx, []flagstone.KeyItem{{Key: k}})
		_, errs[prefix+"Increment"] = s.Increment(ctx, []byte("counter"), 1, 0, 0)
		for _, err := range s.All(ctx) {
			errs[prefix+"All"] = err
		}
		for _, err := range s.Tagged(ctx, 1) {
			errs[prefix+"Tagged"] = err
		}
	}
	errs["Namespace.Clear"] = space.Clear(ctx)
	errs["Clear"] = c.Clear(ctx)
	errs["Rebuild"] = c.Rebuild(ctx)
	_, errs["Check"] = c.Check(ctx)
	_, errs["Stats"] = c.Stats()
	_, errs["Holders"] = c.Holders()
	return errs
}

func TestCache_Closed_EveryMethodSaysSo(t *testing.T) {
	c := open(t, options(t.TempDir()))
	must(t, c.Set(limited(t), []byte("k"), []byte("v"), 0))
	must(t, c.Close())
	for name, err := range everything(t, c) {
		mustFail(t, fmt.Errorf("%s: %w", name, err), flagstone.ErrClosed)
	}
	for range c.Watch(limited(t)) {
		t.Fatal("an event")
	}
	c.HashOf(nil)
	c.Differences()
	must(t, c.Close())
}

func TestCache_ClosedInUse_OnlyErrClosed(t *testing.T) {
	dir := t.TempDir()
	open(t, options(dir))
	for range 8 {
		c := open(t, options(dir))
		var users sync.WaitGroup
		begun := make(chan bool, 8)
		for i := range cap(begun) {
			users.Go(func() {
				k := fmt.Append(nil, i%4)
				var b flagstone.Batch
				for first := true; ; first = false {
					err := c.Set(context.Background(), k, k, 0)
					if err == nil {
						_, _, err = c.Get(nil, k)
					}
					if err == nil {
						err = c.GetBatch(&b, [][]byte{k, nil})
					}
					if first {
						begun <- true
					}
					if err != nil {
						if !errors.Is(err, flagstone.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		for range cap(begun) {
			<-begun
		}
		must(t, c.Close())
		users.Wait()
	}
	c := open(t, options(dir))
	sound(t, c)
}

func TestCache_DeadlinePassed_ErrBusyAndNothingChanged(t *testing.T) {
	c := open(t, options(t.TempDir()))
	must(t, c.Set(limited(t), []byte("k"), []byte("v"), 0))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	mustFail(t, c.Set(ctx, []byte("k"), []byte("x"), 0), flagstone.ErrBusy, context.Canceled)
	_, err := c.Delete(ctx, []byte("k"))
	mustFail(t, err, flagstone.ErrBusy, context.Canceled)
	mustFail(t, c.Rebuild(ctx), flagstone.ErrBusy, context.Canceled)
	mustGet(t, c, "k", "v")
	if st, err := c.Stats(); err != nil || st.Sets != 1 || st.Deletes != 0 || st.Rebuilds != 0 {
		t.Fatalf("%+v, %v", st, err)
	}
}

func TestCache_BadArguments_TypedErrorsAndNothingChanged(t *testing.T) {
	o := options(t.TempDir())
	o.MaxKey, o.MaxValue = 16, 100
	c := open(t, o)
	ctx, long := limited(t), make([]byte, 101)
	space, far := c.Namespace("n"), c.Namespace(string(long[:17]))
	tooLong := func(err error) {
		t.Helper()
		mustFail(t, err, flagstone.ErrKeyTooLong)
		mustName(t, err, "17", "16")
	}
	for _, s := range []struct {
		store
		key []byte // one byte too long
	}{{c, long[:17]}, {space, long[:16-7]}, {far, nil}} {
		tooLong(s.Set(ctx, s.key, nil, 0))
		_, err := s.SetItem(ctx, s.key, flagstone.Item{})
		tooLong(err)
		_, err = s.SetIfAbsent(ctx, s.key, nil, 0)
		tooLong(err)
		_, err = s.SetBatch(ctx, []flagstone.KeyItem{{}, {Key: s.key}})
		tooLong(err)
		_, err = s.Increment(ctx, s.key, 1, 0, 0)
		tooLong(err)
		// Nothing can be there.
		var b flagstone.Batch
		_, ok1, err1 := s.Get(nil, s.key)
		_, ok2, err2 := s.GetItem(nil, s.key)
		_, ok3, err3 := s.TTL(s.key)
		ok4, err4 := s.Touch(ctx, s.key, 0)
		ok5, err5 := s.Delete(ctx, s.key)
		err6 := s.GetBatch(&b, [][]byte{s.key})
		if ok1 || ok2 || ok3 || ok4 || ok5 || b.Hits() != 0 {
			t.Fatal(ok1, ok2, ok3, ok4, ok5, b.Hits())
		}
		must(t, errors.Join(err1, err2, err3, err4, err5, err6))
	}
	for _, s := range []store{c, space} {
		_, err := s.SetBatch(ctx, []flagstone.KeyItem{{}, {Item: flagstone.Item{Value: long}}})
		mustFail(t, err, flagstone.ErrValueTooLong)
		_, err = s.SetItem(ctx, nil, flagstone.Item{TTL: -1})
		mustFail(t, err, flagstone.ErrTTL)
		_, err = s.SetItem(ctx, nil, flagstone.Item{StaleFor: flagstone.MaxStaleFor + 1})
		mustFail(t, err, flagstone.ErrTTL)
		_, err = s.SetItem(ctx, nil, flagstone.Item{StaleFor: -1})
		mustFail(t, err, flagstone.ErrTTL)
		_, err = s.SetBatch(ctx, []flagstone.KeyItem{{}, {Item: flagstone.Item{TTL: -1}}})
		mustFail(t, err, flagstone.ErrTTL)
		_, err = s.SetIfAbsent(ctx, nil, nil, -1)
		mustFail(t, err, flagstone.ErrTTL)
		_, _, err = s.CompareAndSwap(ctx, nil, 0, nil, -1)
		mustFail(t, err, flagstone.ErrTTL)
		_, err = s.Increment(ctx, nil, 1, 0, -1)
		mustFail(t, err, flagstone.ErrTTL)
		_, err = s.Touch(ctx, nil, -1)
		mustFail(t, err, flagstone.ErrTTL)
		for _, token := range []flagstone.Token{0, 1, 2, 3, 4, 1<<64 - 1} {
			if next, ok, err := s.CompareAndSwap(ctx, nil, token, nil, 0); next != 0 || ok || err != nil {
				t.Fatal(next, ok, err)
			}
		}
	}
	must(t, c.Clear(ctx)) // of a namespace's id
	err := c.Set(limited(t), long[:17], nil, 0)
	mustFail(t, err, flagstone.ErrKeyTooLong)
	mustName(t, err, "17", "16")
	err = c.Set(limited(t), nil, long, 0)
	mustFail(t, err, flagstone.ErrValueTooLong)
	mustName(t, err, "101", "100")
	mustFail(t, c.SetHash(limited(t), 1, long, 0), flagstone.ErrValueTooLong)
	mustFail(t, c.Set(limited(t), nil, nil, -1), flagstone.ErrTTL)
	mustFail(t, c.SetHash(limited(t), 1, nil, -time.Hour), flagstone.ErrTTL)
	mustMiss(t, c, string(long[:17]))
	if ok, err := c.Delete(limited(t), long[:17]); ok || err != nil {
		t.Fatal(ok, err)
	}
	if gone, err := c.Evict(limited(t), -time.Hour, -1); len(gone) != 0 || err != nil {
		t.Fatal(gone, err)
	}
	if st, err := c.Stats(); err != nil || st.Records != 0 || st.Sets != 1 {
		t.Fatalf("%+v, %v", st, err)
	}
}

// Where there is nothing, reading and removing makes nothing.
func TestNamespace_ReadOrDeleteInAnEmptyOne_NothingIsMade(t *testing.T) {
	o := options(t.TempDir())
	o.OnFull = flagstone.Refuse
	c := open(t, o)
	ctx, n, k := limited(t), c.Namespace("n"), []byte("k")
	_, _, err1 := n.Get(nil, k)
	_, _, err2 := n.GetItem(nil, k)
	_, err3 := n.Delete(ctx, k)
	_, err4 := n.Touch(ctx, k, 0)
	_, _, err5 := n.CompareAndSwap(ctx, k, 1024, k, 0)
	must(t, errors.Join(err1, err2, err3, err4, err5, n.Clear(ctx), n.GetBatch(new(flagstone.Batch), [][]byte{k})))
	for r, err := range n.All(ctx) {
		t.Fatal(r, err)
	}
	if st, err := c.Stats(); st.Sets != 0 || st.Records != 0 || err != nil {
		t.Fatalf("%+v, %v", st, err)
	}
}

func TestCache_Destroyed_AllButHitsSaySo(t *testing.T) {
	dir := t.TempDir()
	c := open(t, options(dir))
	must(t, c.Set(limited(t), []byte("k"), []byte("v"), 0))
	must(t, flagstone.Destroy(limited(t), dir, name))
	for range 2 {
		for what, err := range everything(t, c) {
			if what == "Get" {
				must(t, err)
			} else {
				mustFail(t, fmt.Errorf("%s: %w", what, err), flagstone.ErrDestroyed)
			}
		}
	}
}

func TestOpen_AbsurdOptions_ErrOptionsNothingMade(t *testing.T) {
	dir := t.TempDir()
	for _, o := range []flagstone.Options{
		{Size: 1},
		{Size: 1 << 63},
		{Size: 1 << 20, Entries: 10},
		{Entries: 1 << 62},
		{CellSize: -1},
		{CellSize: 100},
		{CellSize: 1 << 30},
		{MaxKey: -1},
		{MaxKey: 1 << 16},
		{MaxValue: -1},
		{MaxValue: 1 << 31},
		{Size: 1 << 20, MaxValue: 1 << 20},
		{Shards: -1},
		{Shards: 3},
		{Shards: 512},
		{OnFull: 7},
		{Regions: -1},
		{Regions: 1 << 20},
	} {
		o.Dir = dir
		_, err := flagstone.Open(limited(t), name, o)
		mustFail(t, err, flagstone.ErrOptions)
	}
	for _, bad := range []string{"", ".", "a/b", strings.Repeat("a", 65)} {
		_, err := flagstone.Open(limited(t), bad, flagstone.Options{Dir: dir})
		mustFail(t, err, flagstone.ErrOptions)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
}

func TestOpen_OtherSizes_AttachesAndReports(t *testing.T) {
	dir := t.TempDir()
	first := open(t, flagstone.Options{Dir: dir, Entries: 100, Regions: 8})
	if d := first.Differences(); len(d) != 0 {
		t.Fatalf("%+v", d)
	}
	if d := open(t, flagstone.Options{Dir: dir}).Differences(); len(d) != 0 {
		t.Fatalf("nothing was asked, but %+v", d)
	}
	if d := open(t, flagstone.Options{Dir: dir, Entries: 100, Regions: 8, CellSize: 128, Order: flagstone.LRU}).Differences(); len(d) != 0 {
		t.Fatalf("the same was asked, but %+v", d)
	}
	other := open(t, flagstone.Options{
		Dir: dir, Entries: 200, CellSize: 256, MaxKey: 10, MaxValue: 50, Shards: 2, OnFull: flagstone.Refuse, Order: flagstone.S3FIFO, Regions: 9,
	})
	want := []flagstone.Difference{
		{Option: "Entries", Asked: 200, Found: 100},
		{Option: "CellSize", Asked: 256, Found: 128},
		{Option: "MaxKey", Asked: 10, Found: 1024},
		{Option: "MaxValue", Asked: 50, Found: 65536},
		{Option: "Shards", Asked: 2, Found: 1},
		{Option: "OnFull", Asked: 1, Found: 0},
		{Option: "Order", Asked: 2, Found: 1},
		{Option: "Regions", Asked: 9, Found: 8},
	}
	if got := other.Differences(); !slices.Equal(got, want) {
		t.Fatalf("%+v, want %+v", got, want)
	}
	if d := open(t, flagstone.Options{Dir: dir, Size: 4 << 20}).Differences(); len(d) != 1 || d[0].Option != "Size" {
		t.Fatalf("%+v", d)
	}
}

func TestOpen_MustExist_ErrNotFound(t *testing.T) {
	dir := t.TempDir()
	_, err := flagstone.Open(limited(t), name, flagstone.Options{Dir: dir, MustExist: true})
	mustFail(t, err, flagstone.ErrNotFound)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
	// A domain without a cache is none.
	d, err := table.Open(limited(t), table.Options{Dir: dir, Name: name})
	must(t, err)
	defer d.Close()
	_, err = flagstone.Open(limited(t), name, flagstone.Options{Dir: dir, MustExist: true})
	mustFail(t, err, flagstone.ErrNotFound)
}

func TestOpen_NoRoom_ErrNoSpaceSaysHowMuch(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small tmpfs")
	}
	for what, size := range map[string]string{"Control": "64k", "Slab": "512k"} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
				t.Skipf("may not mount a small tmpfs: %v", err)
			}
			defer func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) }()
			o := flagstone.Options{Dir: dir, Size: 1 << 20}
			_, err := flagstone.Open(limited(t), name, o)
			mustFail(t, err, flagstone.ErrNoSpace)
			if !regexp.MustCompile(`[1-9]\d+ bytes needed, \d+ free`).MatchString(err.Error()) {
				t.Fatal(err)
			}
			if slabs, _ := filepath.Glob(filepath.Join(dir, "*", "*", "slab-*")); len(slabs) != 0 {
				t.Fatalf("left behind: %v", slabs)
			}
			must(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "mode=0700,size=4m"))
			c := open(t, o)
			must(t, c.Set(limited(t), []byte("k"), []byte("v"), 0))
		})
	}
}

func TestOpen_UnsafeFiles_Refused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		err   error
		field string // of the AccessError
	}{
		"DomainIsLink": {func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/c.flagstone", dir+"/x"))
			must(t, os.Symlink(dir+"/x", dir+"/c.flagstone"))
		}, table.ErrUnsafeDir, "type"},
		"VersionIsLink": {func(t *testing.T, dir string) {
			version := filepath.Dir(slabFile(t, dir))
			must(t, os.Rename(version, dir+"/x"))
			must(t, os.Symlink(dir+"/x", version))
		}, table.ErrUnsafeDir, "type"},
		"ControlIsLink": {func(t *testing.T, dir string) { link(t, controlFile(t, dir), dir) }, table.ErrUnsafeFile, ""},
		"SlabIsLink":    {func(t *testing.T, dir string) { link(t, slabFile(t, dir), dir) }, table.ErrUnsafeFile, ""},
		"SlabIsDirectory": {func(t *testing.T, dir string) {
			file := slabFile(t, dir)
			must(t, os.Remove(file))
			must(t, os.Mkdir(file, 0o700))
		}, table.ErrUnsafeFile, ""},
		"DirectoryOpen": {func(t *testing.T, dir string) { must(t, os.Chmod(dir+"/c.flagstone", 0o755)) }, table.ErrUnsafeDir, "mode"},
		"SlabOpen":      {func(t *testing.T, dir string) { must(t, os.Chmod(slabFile(t, dir), 0o644)) }, table.ErrUnsafeFile, "mode"},
		"SlabOfAnother": {func(t *testing.T, dir string) {
			if os.Geteuid() != 0 {
				t.Skip("needs root to give a file away")
			}
			must(t, os.Chown(slabFile(t, dir), 12345, -1))
		}, table.ErrUnsafeFile, "owner"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, open(t, options(dir)).Close())
			c.spoil(t, dir)
			_, err := flagstone.Open(limited(t), "c", options(dir))
			mustFail(t, err, c.err)
			mustName(t, err, dir)
			var access *table.AccessError
			if c.field != "" && (!errors.As(err, &access) || access.Field != c.field || access.Got == access.Want) {
				t.Fatalf("%v, want the field %s", err, c.field)
			}
		})
	}
}

// link moves a file away and puts a symbolic link in its place.
func link(t *testing.T, file, dir string) {
	must(t, os.Rename(file, dir+"/x"))
	must(t, os.Symlink(dir+"/x", file))
}

// rewrite changes the header of the slab, and makes its checksum right again if
// sealed.
func rewrite(t *testing.T, file string, sealed bool, change func(h *layout.SlabHeader)) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	seg, err := shm.Map(f, layout.PageSize)
	must(t, err)
	defer seg.Close()
	h := shm.At[layout.SlabHeader](seg.Window(), 0)
	change(h)
	if sealed {
		h.Checksum.Store(format.Checksum(seg.Window(), checksummed))
	}
}

// checksummed is how many bytes of a slab's header stand under its checksum.
const checksummed = layout.SlabHeaderChecksummed

func TestOpen_BadSlabHeader_TypedErrorNothingChanged(t *testing.T) {
	for name, c := range map[string]struct {
		change func(h *layout.SlabHeader)
		field  string
		err    error
	}{
		"Magic":        {func(h *layout.SlabHeader) { h.Magic.Store(layout.ControlMagic) }, "Magic", format.ErrMagic},
		"Garbage":      {func(h *layout.SlabHeader) { h.Magic.Store(0x6567616272616721) }, "Magic", format.ErrMagic},
		"Endian":       {func(h *layout.SlabHeader) { h.Endian.Store(0x0102030405060708) }, "Endian", format.ErrEndian},
		"ReadVersion":  {func(h *layout.SlabHeader) { h.ReadVersion.Store(layout.Major + 1) }, "ReadVersion", format.ErrVersion},
		"WriteVersion": {func(h *layout.SlabHeader) { h.WriteVersion.Store(layout.Major + 1) }, "WriteVersion", format.ErrVersion},
		"Feature":      {func(h *layout.SlabHeader) { h.Incompatible.Store(1 << 63) }, "Incompatible", format.ErrFeature},
		"Fingerprint":  {func(h *layout.SlabHeader) { h.Fingerprint.Add(1) }, "Fingerprint", format.ErrFingerprint},
		"Checksum":     {func(h *layout.SlabHeader) { h.Checksum.Add(1) }, "Checksum", format.ErrChecksum},
		"FileSize":     {func(h *layout.SlabHeader) { h.FileSize.Add(4096) }, "FileSize", format.ErrGeometry},
		"SegmentID":    {func(h *layout.SlabHeader) { h.SegmentID.Add(1) }, "SegmentID", format.ErrForeign},
		"Domain":       {func(h *layout.SlabHeader) { h.DomainUUID[1].Add(1) }, "DomainUUID[1]", format.ErrForeign},
		"HashSeed":     {func(h *layout.SlabHeader) { h.HashSeed.Add(1) }, "HashSeed", format.ErrForeign},
		"Ready":        {func(h *layout.SlabHeader) { h.Ready.Store(0) }, "Ready", format.ErrNotReady},
		"NoShards":     {func(h *layout.SlabHeader) { h.Shards.Store(0) }, "Shards", format.ErrGeometry},
		"ThreeShards":  {func(h *layout.SlabHeader) { h.Shards.Store(3) }, "Shards", format.ErrGeometry},
		"ManyShards":   {func(h *layout.SlabHeader) { h.Shards.Store(1 << 31) }, "Shards", format.ErrGeometry},
		"CellSize":     {func(h *layout.SlabHeader) { h.CellSize.Store(100) }, "CellSize", format.ErrGeometry},
		"HugeCell":     {func(h *layout.SlabHeader) { h.CellSize.Store(1 << 31) }, "CellSize", format.ErrGeometry},
		"NoCells":      {func(h *layout.SlabHeader) { h.Cells.Store(0) }, "Cells", format.ErrGeometry},
		"ManyCells":    {func(h *layout.SlabHeader) { h.Cells.Store(1<<32 - 1) }, "Cells", format.ErrGeometry},
		"MoreCells":    {func(h *layout.SlabHeader) { h.Cells.Add(4096) }, "Overflow", format.ErrGeometry},
		"NoBuckets":    {func(h *layout.SlabHeader) { h.Buckets.Store(0) }, "Buckets", format.ErrGeometry},
		"Overflow":     {func(h *layout.SlabHeader) { h.Overflow.Store(1<<32 - 1) }, "Overflow", format.ErrGeometry},
		"MaxKey":       {func(h *layout.SlabHeader) { h.MaxKey.Store(1 << 16) }, "MaxKey", format.ErrGeometry},
		"MaxValue":     {func(h *layout.SlabHeader) { h.MaxValue.Store(1<<32 - 1) }, "MaxValue", format.ErrGeometry},
		"Reserve":      {func(h *layout.SlabHeader) { h.Reserve.Store(0) }, "Reserve", format.ErrGeometry},
		"Order":        {func(h *layout.SlabHeader) { h.Order.Store(77) }, "Order", format.ErrGeometry},
		"Policy":       {func(h *layout.SlabHeader) { h.Full.Store(2) }, "Full", format.ErrGeometry},
		"NoCapacity":   {func(h *layout.SlabHeader) { h.Capacity.Store(0) }, "Capacity", format.ErrGeometry},
		"Capacity":     {func(h *layout.SlabHeader) { h.Capacity.Store(1 << 40) }, "Capacity", format.ErrGeometry},
		"ShardOffset":  {func(h *layout.SlabHeader) { h.ShardOffset.Store(0) }, "ShardOffset", format.ErrGeometry},
		"ShardStride":  {func(h *layout.SlabHeader) { h.ShardStride.Store(1 << 63) }, "ShardStride", format.ErrGeometry},
		"IndexOffset":  {func(h *layout.SlabHeader) { h.IndexOffset.Add(8) }, "IndexOffset", format.ErrGeometry},
		"CellOffset":   {func(h *layout.SlabHeader) { h.CellOffset.Add(8) }, "CellOffset", format.ErrGeometry},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, open(t, flagstone.Options{Dir: dir, Entries: 10, MaxValue: 100}).Close())
			file := slabFile(t, dir)
			rewrite(t, file, name != "Checksum", c.change)
			before, err := os.ReadFile(file)
			must(t, err)
			_, err = flagstone.Open(limited(t), "c", flagstone.Options{Dir: dir})
			mustFail(t, err, c.err)
			var bad *slab.FormatError
			if !errors.As(err, &bad) || bad.Field != c.field || bad.File != file || bad.Got == bad.Want {
				t.Fatalf("%#v, want the field %s", bad, c.field)
			}
			mustName(t, err, file, c.field, fmt.Sprintf("%#x", bad.Got), fmt.Sprintf("%#x", bad.Want))
			if after, err := os.ReadFile(file); err != nil || !slices.Equal(before, after) {
				t.Fatal("the file was changed", err)
			}
			must(t, flagstone.Destroy(limited(t), dir, "c")) // what the way out is
			open(t, flagstone.Options{Dir: dir, Entries: 10, MaxValue: 100})
		})
	}
}

func TestOpen_SlabOfWrongSizeOrGone_TypedErrorsNothingMade(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(file string) error
		err   error
	}{
		"Shorter": {func(file string) error { return os.Truncate(file, 4095) }, table.ErrSegmentSize},
		"Empty":   {func(file string) error { return os.Truncate(file, 0) }, table.ErrSegmentSize},
		"Longer":  {func(file string) error { return os.Truncate(file, 1<<40) }, table.ErrSegmentSize},
		"Gone":    {os.Remove, os.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, open(t, options(dir)).Close())
			file := slabFile(t, dir)
			must(t, c.spoil(file))
			_, err := flagstone.Open(limited(t), "c", options(dir))
			mustFail(t, err, c.err)
			mustName(t, err, file)
			must(t, flagstone.Destroy(limited(t), dir, "c"))
			open(t, options(dir))
		})
	}
}
