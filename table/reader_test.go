//go:build linux

package table

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

func inspected(t *testing.T, dir string) *Reader {
	t.Helper()
	r, err := Inspect(options(dir))
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// contents returns what is in all files below dir.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	}))
	return all
}

// look calls everything that a Reader can do.
func look(t *testing.T, r *Reader) {
	t.Helper()
	_ = [...]any{r.Name(), r.Dir(), r.UUID(), r.HashSeed(), r.Geometry(), r.Words(), r.Changes(), r.Wall(), r.Now(), r.Destroyed(), r.Totals(), r.Regions()}
	must(t, r.Usable())
	for _, e := range r.Entries() {
		_, _ = r.Find(e.Kind, e.Name)
		_, _ = r.Pinners(e), r.Retired(e)
		if seg, err := r.Attach(e); err == nil {
			must(t, seg.Close())
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	events := r.Watch(ctx)
	if len(r.Regions()) > 0 || len(r.Entries()) > 0 {
		<-events
	}
	cancel()
	for range events {
	}
}

func TestInspect_LivingAndDead_SeenByWhoIsNot(t *testing.T) {
	dir := t.TempDir()
	h := openTable(t, options(dir))
	c := start(t, "join", dir)
	region := c.number()
	r := inspected(t, dir)
	before := h.Changes()

	regions := r.Regions()
	if len(regions) != 2 || len(h.Regions()) != 2 || h.Changes() != before {
		t.Fatalf("%+v", regions)
	}
	for _, s := range regions {
		if !s.Alive || s.Self || (s.Index == region) != (s.Pid == uint32(c.cmd.Process.Pid)) {
			t.Errorf("%+v", s)
		}
	}
	if r.UUID() != h.UUID() || r.HashSeed() != h.HashSeed() || r.Geometry() != h.Geometry() || r.Dir() != h.Dir() || r.Changes() != before || r.Now() != h.Now() {
		t.Error("another domain")
	}
	c.kill()
	for _, s := range r.Regions() {
		if s.Alive != (s.Index != region) {
			t.Errorf("after the death of %d: %+v", region, s)
		}
	}
	if n, err := h.Reap(); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if regions := r.Regions(); len(regions) != 1 {
		t.Fatalf("%+v", regions)
	}
}

func TestInspect_Everything_WritesNoByte(t *testing.T) {
	dir := t.TempDir()
	h := openTable(t, options(dir))
	s, err := h.PublishSegment(Spec{Kind: KindApplication, Name: "shared", Size: 4096}, func(b []byte) error { b[0] = 42; return nil })
	must(t, err)
	must(t, s.Close())
	must(t, h.Close()) // nobody is there who could write
	c := start(t, "join", dir)
	c.hear()
	c.kill() // and one is dead

	before := contents(t, dir)
	r := inspected(t, dir)
	look(t, r)
	if _, err := r.control.WriteAt([]byte{1}, 0); err == nil {
		t.Error("its file is open for writing")
	}
	e, ok := r.Find(KindApplication, "shared")
	if !ok {
		t.Fatal("not found")
	}
	seg, err := r.Attach(e)
	must(t, err)
	if seg.Bytes()[0] != 42 {
		t.Error("not the segment")
	}
	must(t, seg.Close())
	for range 2 {
		must(t, r.Close())
	}
	if !maps.Equal(before, contents(t, dir)) {
		t.Error("bytes changed")
	}
	mustFail(t, r.Usable(), ErrClosed)
	_, err = r.Attach(e)
	mustFail(t, err, ErrClosed)
	if r.Changes() != 0 || r.Regions() != nil || r.Totals() != [32]uint64{} {
		t.Error("something is left")
	}
}

func TestInspect_WhileOthersWork_WholeAnswers(t *testing.T) {
	dir := t.TempDir()
	openTable(t, options(dir))
	for range 2 {
		start(t, "come", dir).hear()
	}
	r := inspected(t, dir)
	for from := r.Changes(); r.Changes() < from+500; {
		look(t, r)
		for _, s := range r.Regions() {
			if s.Pid == 0 || s.Generation == 0 {
				t.Fatalf("%+v", s)
			}
		}
	}
}

func TestInspect_Destroyed_Told(t *testing.T) {
	dir := t.TempDir()
	h := openTable(t, options(dir))
	s, err := h.PublishSegment(Spec{Kind: KindApplication, Name: "shared", Size: 4096}, func([]byte) error { return nil })
	must(t, err)
	r := inspected(t, dir)
	e := s.Entry()
	events := r.Watch(limited(t))
	must(t, Destroy(limited(t), dir, "d"))
	last := Event{}
	for last = range events {
	}
	if last.Kind != Destroyed {
		t.Errorf("the last event is %v", last.Kind)
	}
	mustFail(t, r.Usable(), ErrDestroyed)
	if !r.Destroyed() || len(r.Regions()) != 1 {
		t.Error("what is mapped stays readable")
	}
	_, err = r.Attach(e)
	mustFail(t, err, ErrDestroyed)
	_, err = Inspect(options(dir))
	mustFail(t, err, ErrNotFound)
}

func TestInspect_SegmentRetired_ErrRetiredAndMappingStays(t *testing.T) {
	dir := t.TempDir()
	h := openTable(t, options(dir))
	s, err := h.PublishSegment(Spec{Kind: KindApplication, Name: "shared", Size: 4096}, func(b []byte) error { b[0] = 42; return nil })
	must(t, err)
	r := inspected(t, dir)
	e := s.Entry()
	seg, err := r.Attach(e)
	must(t, err)
	must(t, s.Close())
	must(t, h.Retire(e))
	if state := h.entryAt(e.Index).State.Load(); stateOf(state) != StateFree {
		t.Errorf("kept %v by a reader", stateOf(state))
	}
	if _, err := r.Attach(e); !errors.Is(err, ErrRetired) || !r.Retired(e) {
		t.Error(err)
	}
	if seg.Bytes()[0] != 42 {
		t.Error("gone")
	}
	must(t, seg.Close())
}

func TestInspect_NoUsableDomain_TypedErrorNothingMade(t *testing.T) {
	for name, c := range map[string]struct {
		make func(dir, control string) error
		want error
	}{
		"nothing":  {func(string, string) error { return nil }, ErrNotFound},
		"no file":  {func(_, control string) error { return os.Remove(control) }, ErrNotFound},
		"empty":    {func(_, control string) error { return os.Truncate(control, 0) }, ErrNotFound},
		"short":    {func(_, control string) error { return os.Truncate(control, 100) }, ErrTruncated},
		"zeros":    {func(_, control string) error { return os.WriteFile(control, make([]byte, 1<<16), 0o600) }, ErrNotFound},
		"garbage":  {func(_, control string) error { return os.WriteFile(control, garbage(1<<16), 0o600) }, ErrMagic},
		"readable": {func(_, control string) error { return os.Chmod(control, 0o644) }, ErrUnsafeFile},
		"link": {func(dir, control string) error {
			return errors.Join(os.Rename(control, dir+"/x"), os.Symlink(dir+"/x", control))
		}, ErrUnsafeFile},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if name != "nothing" {
				h, err := Open(limited(t), options(dir))
				must(t, err)
				must(t, h.Close())
				must(t, c.make(dir, filepath.Join(h.Dir(), controlFile)))
			}
			before := contents(t, dir)
			_, err := Inspect(options(dir))
			mustFail(t, err, c.want)
			if !maps.Equal(before, contents(t, dir)) {
				t.Error("something changed")
			}
		})
	}
	_, err := Inspect(Options{Dir: t.TempDir(), Name: "../d"})
	mustFail(t, err, ErrOptions)
}

func garbage(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + 1)
	}
	return b
}

// A control file that is being destroyed, by one who died at it.
func TestInspect_DestroyerDied_ErrNotFound(t *testing.T) {
	dir := t.TempDir()
	h := openTable(t, options(dir))
	shm.At[layout.ControlHeader](h.win, 0).Ready.Store(layout.ControlDestroyed)
	_, err := Inspect(options(dir))
	mustFail(t, err, ErrNotFound)
}

func ExampleInspect() {
	dir, err := os.MkdirTemp("", "flagstone-example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	t, err := Open(context.Background(), Options{Dir: dir, Name: "example"})
	if err != nil {
		panic(err)
	}
	defer t.Close()
	t.Count(20, 5) // one of the application's own

	r, err := Inspect(Options{Dir: dir, Name: "example"})
	if err != nil {
		panic(err)
	}
	defer r.Close()
	fmt.Println(len(r.Regions()), r.Regions()[0].Alive, r.Totals()[20])
	// Output: 1 true 5
}
