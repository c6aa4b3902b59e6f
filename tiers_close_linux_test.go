package flagstone_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/table"
)

// Grow is anywhere when the handle is closed: what it had begun is taken back.
func TestGrow_ClosedMeanwhile_NoEntryLeftInTheMaking(t *testing.T) {
	o := options(t.TempDir())
	other := open(t, o)
	for range 40 {
		c := open(t, o)
		grown := make(chan struct{})
		go func() {
			defer close(grown)
			_, _ = c.Grow(limited(t), "", flagstone.Shape{})
		}()
		must(t, c.Close())
		<-grown
		for _, e := range other.Table().Entries() {
			if e.State == table.StateCreating {
				t.Fatalf("entry %d is being made by nobody", e.Index)
			}
		}
		tiers, err := other.Tiers()
		must(t, err)
		for _, s := range tiers[1:] {
			_, err := s.Drain(limited(t))
			must(t, err)
		}
	}
}

func TestOpenSlab_AfterClose_ErrClosed(t *testing.T) {
	o := options(t.TempDir())
	c := open(t, o)
	create(t, c, "own", shapeOfSlab)
	must(t, c.Close())
	if _, err := c.OpenSlab(limited(t), "own"); !errors.Is(err, flagstone.ErrClosed) {
		t.Fatal(err)
	}
}

// Somebody says that the first slab is being retired: whoever is the steward lives on.
func TestSteward_FirstSlabDraining_NothingToDo(t *testing.T) {
	o := options(t.TempDir())
	o.Steward.KeepFor = time.Hour
	c := open(t, o)
	e, _ := c.Table().Find(table.KindSlab, "primary")
	_, err := c.Table().Drain(e)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond) // some rounds
	defer cancel()
	must(t, c.Lead(ctx))
	if _, _, err := c.Get(nil, []byte("key")); !errors.Is(err, flagstone.ErrRetired) {
		t.Fatal(err)
	}
}

// A slab whose retirement a lock holds up holds nobody else up.
func TestRetire_LockIsHeld_DomainGoesOn(t *testing.T) {
	o := options(t.TempDir())
	a, b, c := open(t, o), open(t, o), open(t, o)
	x := create(t, a, "x", shapeOfSlab)
	bx := openSlab(t, b, "x")
	_, err := x.LockWriters(limited(t)) // as a stopped process would
	must(t, err)
	brief, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := bx.Retire(brief); !errors.Is(err, flagstone.ErrBusy) {
		t.Fatal(err)
	}
	create(t, b, "y", shapeOfSlab)
	got[*flagstone.Slab](t)(c.Grow(limited(t), "", flagstone.Shape{}))
}
