//go:build linux

package table

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// debris makes everything that the dead leave, beside a domain that is open, and
// returns what Collect is to say of it.
func debris(t *testing.T, o Options) map[string]Verdict {
	t.Helper()
	at := func(parts ...string) string { return filepath.Join(append([]string{o.Dir}, parts...)...) }
	mkdir := func(path string) string { must(t, os.MkdirAll(path, 0o700)); return path }
	write := func(path string) string {
		mkdir(filepath.Dir(path))
		must(t, os.WriteFile(path, make([]byte, 8192), 0o600))
		return path
	}
	empty := func(path string) string { must(t, os.Truncate(write(path), 0)); return path }
	spoil := func(name string, change func(*layout.ControlHeader)) string {
		o.Name = name
		must(t, openTable(t, o).Close())
		must(t, os.MkdirAll(at(name), 0o700)) // rewrite knows one name
		must(t, os.Rename(at(name+suffix), at(name, "d"+suffix)))
		rewrite(t, Options{Dir: at(name)}, true, change)
		must(t, os.Rename(at(name, "d"+suffix), at(name+suffix)))
		must(t, os.Remove(at(name)))
		return at(name+suffix, versionDir)
	}
	home := at("d.flagstone")
	want := map[string]Verdict{
		mkdir(at(hidden("d.flagstone"))):                                                          VerdictUnfinished,
		mkdir(at(hidden("never.flagstone"))):                                                      VerdictUnfinished,
		mkdir(filepath.Join(home, hidden(versionDir))):                                            VerdictUnfinished,
		mkdir(filepath.Join(home, hidden("v77"))):                                                 VerdictUnfinished,
		write(filepath.Join(home, versionDir, hidden(controlFile))):                               VerdictUnfinished,
		write(filepath.Join(home, versionDir, "slab-0123456789abcdef")):                           VerdictOrphan,
		write(filepath.Join(home, versionDir, "app-0123456789abcdef")):                            VerdictOrphan,
		filepath.Dir(write(filepath.Join(home, hidden(versionDir), "control"))):                   VerdictDestroyed,
		filepath.Dir(write(filepath.Join(home, hidden("v78"), "control"))):                        VerdictDestroyed,
		mkdir(at("empty.flagstone")):                                                              VerdictUnfinished,
		mkdir(at("bare.flagstone", versionDir)):                                                   VerdictUnfinished,
		filepath.Dir(write(at("lost.flagstone", versionDir, "slab-1"))):                           VerdictUnfinished,
		filepath.Dir(empty(at("begun.flagstone", versionDir, controlFile))):                       VerdictUnfinished,
		filepath.Dir(empty(at("begun.flagstone", "v79", controlFile))):                            VerdictUnfinished,
		spoil("stale", func(c *layout.ControlHeader) { c.BootID[1].Add(1) }):                      VerdictStaleBoot,
		spoil("marked", func(c *layout.ControlHeader) { c.Ready.Store(layout.ControlDestroyed) }): VerdictDestroyed,
		spoil("half", func(c *layout.ControlHeader) { c.Ready.Store(0) }):                         VerdictUnfinished,
	}
	return want
}

func TestCollect_Debris_RemovedAndNothingElse(t *testing.T) {
	o := options(t.TempDir())
	table := openTable(t, o)
	segment := publish(t, table, spec("x"))
	defer segment.Close()
	want := debris(t, o)
	must(t, os.Mkdir(filepath.Join(o.Dir, ".other.0123456789abcdef"), 0o700))
	must(t, os.Mkdir(filepath.Join(o.Dir, ".d.flagstone.short"), 0o700))
	must(t, os.Mkdir(filepath.Join(o.Dir, "d.flagstone", "vx"), 0o700))
	for _, name := range notSegments {
		must(t, os.WriteFile(filepath.Join(table.Dir(), name), nil, 0o600))
	}
	want[filepath.Join(o.Dir, "d.flagstone", versionDir)] = VerdictInUse

	for _, dry := range []bool{true, false} {
		all, err := Collect(CollectOptions{Dir: o.Dir, DryRun: dry})
		must(t, err)
		got := map[string]Verdict{}
		for _, c := range all {
			got[c.Path] = c.Verdict
			if garbage := c.Verdict != VerdictInUse; c.Err != nil || c.Garbage != garbage || c.Removed != (garbage && !dry) {
				t.Errorf("dry %v: %+v", dry, c)
			}
			if _, err := os.Lstat(c.Path); (err == nil) == c.Removed {
				t.Errorf("dry %v: %s: %v", dry, c.Path, err)
			}
		}
		for path, verdict := range want {
			if got[path] != verdict {
				t.Errorf("dry %v: %s: %v, want %v", dry, path, got[path], verdict)
			}
		}
		if len(got) != len(want) {
			t.Errorf("dry %v: %d found, want %d: %v", dry, len(got), len(want), got)
		}
	}
	left, err := os.ReadDir(o.Dir)
	must(t, err)
	if len(left) != 3 || table.Destroyed() {
		t.Errorf("left %v", left)
	}
	again, err := table.OpenSegment(segment.Entry())
	must(t, err)
	must(t, again.Close())
}

func TestCollect_Unused_OnlyIfAskedForAndIdle(t *testing.T) {
	o := options(t.TempDir())
	c := start(t, "join", o.Dir)
	c.hear()
	one := func(options CollectOptions) Collected {
		t.Helper()
		options.Dir, options.Names = o.Dir, []string{o.Name}
		all, err := Collect(options)
		must(t, err)
		if len(all) != 1 || all[0].Err != nil {
			t.Fatalf("%+v", all)
		}
		return all[0]
	}
	if got := one(CollectOptions{Unused: true}); got.Verdict != VerdictInUse || got.Garbage || !slices.Equal(got.Pids, []int{c.cmd.Process.Pid}) || got.Bytes == 0 {
		t.Errorf("%+v", got)
	}
	c.finish()
	reader, err := Inspect(o)
	must(t, err)
	defer reader.Close()
	if got := one(CollectOptions{}); got.Verdict != VerdictUnused || got.Garbage || time.Since(got.Used) > time.Minute {
		t.Errorf("%+v", got)
	}
	if got := one(CollectOptions{Unused: true, Idle: time.Hour}); got.Verdict != VerdictUnused || got.Garbage {
		t.Errorf("%+v", got)
	}
	if got := one(CollectOptions{Unused: true, DryRun: true}); !got.Garbage || got.Removed {
		t.Errorf("%+v", got)
	}
	if got := one(CollectOptions{Unused: true}); !got.Garbage || !got.Removed {
		t.Errorf("%+v", got)
	}
	if !reader.Destroyed() {
		t.Error("who only looked is not told")
	}
	_, err = Collect(CollectOptions{Dir: o.Dir, Names: []string{o.Name}})
	mustFail(t, err, ErrNotFound)
	_, err = Collect(CollectOptions{Dir: o.Dir, Names: []string{"../x"}})
	mustFail(t, err, ErrOptions)
	if left, _ := os.ReadDir(o.Dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// Of other versions nothing is known but what all promise.
func TestCollect_OtherVersion_JudgedByItsLeases(t *testing.T) {
	o := options(t.TempDir())
	must(t, openTable(t, o).Close())
	other := filepath.Join(o.Dir, "d.flagstone", "v12345")
	must(t, os.Mkdir(other, 0o700))
	must(t, os.WriteFile(filepath.Join(other, controlFile), []byte("of a time to come"), 0o600))
	must(t, os.WriteFile(filepath.Join(other, "unheard-of"), nil, 0o600))
	if versions, err := OtherVersions(o.Dir, o.Name); err != nil || !slices.Equal(versions, []string{"v12345"}) {
		t.Errorf("%v, %v", versions, err)
	}
	verdict := func(idle time.Duration) (Verdict, bool) {
		t.Helper()
		all, err := Collect(CollectOptions{Dir: o.Dir, Idle: idle})
		must(t, err)
		if len(all) != 2 || all[0].Verdict != VerdictUnused || all[0].Garbage || all[1].Path != other {
			t.Fatalf("%+v", all)
		}
		return all[1].Verdict, all[1].Removed
	}
	for _, b := range []int64{layout.LeaseByte, layout.LeaseByte + 1<<40, layout.InitByte} {
		f, err := os.OpenFile(filepath.Join(other, controlFile), os.O_RDWR, 0)
		must(t, err)
		if ok, err := tryLock(f, b); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if v, removed := verdict(0); v != VerdictInUse || removed {
			t.Errorf("byte %#x held: %v, removed %v", b, v, removed)
		}
		must(t, f.Close())
	}
	if v, removed := verdict(time.Hour); v != VerdictOtherVersion || removed {
		t.Errorf("%v, removed %v", v, removed)
	}
	if v, removed := verdict(0); v != VerdictOtherVersion || !removed {
		t.Errorf("%v, removed %v", v, removed)
	}
	if _, err := os.Stat(other); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// While leases are looked at nobody gets one, which is no lack of regions.
func TestOpen_WhileCollectorHoldsLeases_Waits(t *testing.T) {
	o := options(t.TempDir())
	must(t, openTable(t, o).Close())
	d, err := findDomain(o.Dir, o.Name, false, false)
	must(t, err)
	defer d.close()
	opened := make(chan error, 1)
	gone, err := d.removeUnused(func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := Open(ctx, o)
		mustFail(t, err, ErrBusy)
		go func() {
			table, err := Open(limited(t), o)
			if err == nil {
				err = table.Close()
			}
			opened <- err
		}()
		return false
	})
	if gone || err != nil {
		t.Error(gone, err)
	}
	must(t, <-opened)
}

// keeps opens and closes over and over, and says if what it has open is taken away. Now
// and then it leaves it closed until somebody removes it, but not always so long.
func keeps(o Options) error {
	say("coming")
	for n := uint64(0); ; n++ {
		t, err := Open(context.Background(), o)
		if err != nil {
			return err
		}
		for range rand.N(20) {
			there, err := os.Stat(filepath.Join(t.Dir(), controlFile))
			if err != nil || t.Destroyed() {
				return fmt.Errorf("turn %d: destroyed %v, %w", n, t.Destroyed(), err)
			}
			if mine, err := t.control.Stat(); err != nil || !os.SameFile(mine, there) {
				return fmt.Errorf("turn %d: another one has its place: %w", n, err)
			}
		}
		if err := t.Close(); err != nil {
			return err
		}
		for end := time.Now().Add(rand.N(50 * time.Millisecond)); n%8 == 0 && time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
			if _, err := os.Stat(t.Dir()); err != nil {
				break
			}
		}
	}
}

func TestCollect_WhileOpened_NobodyLosesIt(t *testing.T) {
	o := options(t.TempDir())
	children := []*child{start(t, "keeps", o.Dir), start(t, "keeps", o.Dir)}
	for _, c := range children {
		c.hear()
	}
	most := 30
	if os.Getenv("FLAGSTONE_LONG") != "" {
		most = 1000
	}
	var removed, inUse int
	for end := time.Now().Add(2 * time.Minute); removed < most || inUse < most; {
		if time.Now().After(end) {
			t.Fatalf("%d removed, %d in use", removed, inUse)
		}
		all, err := Collect(CollectOptions{Dir: o.Dir, Unused: true})
		must(t, err)
		for _, c := range all {
			if c.Err != nil {
				t.Errorf("%+v", c)
			}
			if c.Removed && filepath.Base(c.Path) == versionDir {
				removed++
			}
			if c.Verdict == VerdictInUse {
				inUse++
			}
		}
	}
	t.Logf("%d removed, %d in use", removed, inUse)
	for _, c := range children {
		if c.cmd.ProcessState != nil {
			t.Error(c.cmd.ProcessState)
		}
		must(t, c.cmd.Process.Kill())
		for c.lines.Scan() {
			t.Error(c.lines.Text())
		}
	}
}

// Whatever killed creators and destroyers leave, one Collect takes it all.
func TestCollect_CreatorsKilledAtRandom_NothingLeft(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	o := options(t.TempDir())
	found := map[Verdict]int{}
	for range 25 {
		c := start(t, "churn", o.Dir)
		c.hear()
		time.Sleep(time.Duration(random.IntN(20000)) * time.Microsecond)
		c.kill()
		all, err := Collect(CollectOptions{Dir: o.Dir, Unused: true})
		must(t, err)
		for _, c := range all {
			if c.Err != nil || !c.Removed {
				t.Errorf("%+v", c)
			}
			found[c.Verdict]++
		}
		if left, err := os.ReadDir(o.Dir); err != nil || len(left) != 0 {
			t.Fatalf("left %v, %v", left, err)
		}
	}
	t.Log(found)
}

// churn makes and destroys a domain over and over.
func churn(o Options) error {
	say("coming")
	for {
		t, err := Open(context.Background(), o)
		if err != nil {
			return err
		}
		if err := errors.Join(t.Close(), Destroy(context.Background(), o.Dir, o.Name)); err != nil {
			return err
		}
	}
}

func TestDestroy_LeftByKilledCreators_Swept(t *testing.T) {
	o := options(t.TempDir())
	for _, control := range []bool{true, false} {
		if control {
			must(t, openTable(t, o).Close())
		}
		must(t, os.MkdirAll(filepath.Join(o.Dir, "d.flagstone", versionDir), 0o700))
		must(t, os.Mkdir(filepath.Join(o.Dir, hidden("d.flagstone")), 0o700))
		must(t, os.Mkdir(filepath.Join(o.Dir, "d.flagstone", hidden(versionDir)), 0o700))
		must(t, os.WriteFile(filepath.Join(o.Dir, "d.flagstone", versionDir, hidden(controlFile)), nil, 0o600))
		if err := Destroy(limited(t), o.Dir, o.Name); control == errors.Is(err, ErrNotFound) || control && err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(o.Dir); err != nil || len(left) != 0 {
			t.Fatalf("control %v: left %v, %v", control, left, err)
		}
	}
}

// A later minor version may have fields where this one has none. What it leaves
// there is not its successor's.
func TestReservedBytes_OfTheOneBefore_Cleared(t *testing.T) {
	o := options(t.TempDir())
	o.Entries = 1
	a := openTable(t, o)
	segment := publish(t, a, spec("x"))
	b := openTable(t, o)
	region, entry := a.header.region(b.self), a.header.entry(0)
	fill := func(at uint64, spans []layout.Span) {
		for _, s := range spans {
			for off := range s.N {
				a.win.Write(at+s.Offset+off, []byte{0xff})
			}
		}
	}
	sum := func(at uint64, spans []layout.Span) (n int) {
		for _, s := range spans {
			for _, b := range a.win.Append(nil, at+s.Offset, s.N) {
				n += int(b)
			}
		}
		return n
	}
	fill(region, reservedInRegion)
	fill(entry, reservedInEntry)
	must(t, segment.Close())
	must(t, a.Retire(segment.Entry()))
	must(t, publish(t, a, spec("y")).Close())
	if n := sum(entry, reservedInEntry); n != 0 {
		t.Errorf("entry: %d", n)
	}
	was := b.self
	must(t, b.Close())
	for i := 0; i < 100; i++ {
		c := openTable(t, o)
		again := c.self == was
		if again && sum(region, reservedInRegion) != 0 {
			t.Error("region is not clean")
		}
		must(t, c.Close())
		if again {
			return
		}
	}
	t.Error("the region was not used again")
}

// Who finds no room for the first segment, or dies at it, leaves a domain that nobody
// wants.
func TestCollect_NothingPublished_Unfinished(t *testing.T) {
	for name, leave := range map[string]func(r *Reservation){
		"no room": func(r *Reservation) { must(t, r.Abort()) },
		"died": func(r *Reservation) {
			_, err := r.Create()
			must(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t.TempDir())
			a := openTable(t, o)
			r, err := a.Reserve(Spec{Kind: KindSlab, Name: "primary", Size: 1 << 20})
			must(t, err)
			leave(r)
			must(t, errors.Join(a.control.Close(), a.seg.Close())) // as in death: the lease goes, and nothing else is done
			found, err := Collect(CollectOptions{Dir: o.Dir})
			must(t, err)
			if len(found) == 0 || found[0].Verdict != VerdictUnfinished || !found[0].Removed {
				t.Fatalf("%+v", found)
			}
		})
	}
}

// A fault midway says nothing of the entries behind it.
func TestBarren_TruncatedMeanwhile_ErrFaultNotBarren(t *testing.T) {
	o := options(t.TempDir())
	o.Entries = layout.MaxEntries
	table := openTable(t, o)
	d := table.files()
	d.control = table.control
	seg, h, err := d.attach()
	must(t, err)
	defer seg.Close()
	r, err := table.Reserve(spec("x"))
	must(t, err)
	behind := h.entry(r.Entry().Index)/layout.PageSize*layout.PageSize + layout.PageSize
	if h.entry(int(h.Entries)-1) < behind {
		t.Fatal("all entries are in one page")
	}
	if begun, err := barren(seg, h); !begun || err != nil {
		t.Fatal(begun, err)
	}
	must(t, os.Truncate(filepath.Join(table.Dir(), controlFile), int64(behind)))
	if begun, err := barren(seg, h); begun || !errors.Is(err, ErrFault) {
		t.Fatal(begun, err)
	}
}
