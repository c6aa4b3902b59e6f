//go:build linux

package vandal_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/vandal"
	"github.com/flagstone-shm/flagstone/table"
)

// One process writes nonsense into all segments while two others do everything that
// there is to do: nobody panics, dies, hangs, or returns an error that is not known.
func TestHostile_ProcessesWorkBesideAVandal_NobodyPanicsOrHangs(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, c := range []struct {
		name string
		what vandal.What
	}{
		{"slabs", vandal.Locks | vandal.Epochs | vandal.Heads | vandal.Buckets | vandal.Cells},
		{"control", vandal.Clocks | vandal.Changes | vandal.Sums | vandal.Entries | vandal.Regions | vandal.Mutexes},
		{"everything", vandal.Everything},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			first, err := flagstone.Open(limited(t), name, options(dir))
			must(t, err)
			segments := first.Table().Dir()
			must(t, first.Close())
			workers := []*child{start(t, "worker", dir, seed, 0), start(t, "worker", dir, seed+1, 0)}
			time.Sleep(300 * time.Millisecond)
			astray := start(t, "vandal", segments, seed, c.what)
			time.Sleep(long(time.Second)) // there is no event to wait for: the longer, the more is found
			t.Log(astray.end())
			for _, w := range workers {
				t.Log(w.end())
			}
			repaired(t, dir)
		})
	}
}

// repaired brings the domain back as `flagstone check --repair` does, and uses it.
func repaired(t *testing.T, dir string) {
	t.Helper()
	control, err := table.Open(limited(t), table.Options{Dir: dir, Name: name, MustExist: true})
	must(t, err)
	found, err := control.Check()
	must(t, err)
	remaining, err := control.Repair(limited(t))
	must(t, err)
	if len(remaining) > 0 {
		t.Fatalf("found:\n%s\nremains:\n%s", strings.Join(found, "\n"), strings.Join(remaining, "\n"))
	}
	must(t, control.Close())
	o := options(dir)
	o.Steward.Off = true
	c, err := flagstone.Open(limited(t), name, o)
	must(t, err)
	defer c.Close()
	must(t, c.Repair(limited(t)))
	sound(t, c)
	for i := range 200 {
		k := fmt.Append(nil, "after", i)
		must(t, c.Set(limited(t), k, k, 0))
		if v, ok, err := c.Get(nil, k); !ok || err != nil || !bytes.Equal(v, k) {
			t.Fatalf("%s: %q, %v, %v", k, v, ok, err)
		}
	}
	sound(t, c)
}

func sound(t *testing.T, c *flagstone.Cache) {
	t.Helper()
	problems, err := c.Check(limited(t))
	must(t, err)
	if len(problems) > 0 {
		t.Fatal(strings.Join(problems, "\n"))
	}
}
