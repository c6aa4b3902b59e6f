package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/slab"
)

// grownJSON is what grow prints.
type grownJSON struct {
	Name  string    `json:"name"`
	Slab  slabJSON  `json:"slab"`
	Shape shapeJSON `json:"shape"` // of the new slab
}

func (a *app) growCommand() *cobra.Command {
	var shape flagstone.Shape
	var fileSize, cell, maxKey, maxValue size
	policy, by := onFull(flagstone.Evict), order(flagstone.LRU)
	cmd := &cobra.Command{
		Use: "grow NAME [SLAB]", Short: "Add a slab below the others", Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeNames,
		Long: `Adds a slab, named SLAB or tier1, tier2, ..., below those that the cache has. What
these have no room for goes there instead of out, and a lookup that does not find
a key above looks there too. All processes that have the cache open attach it when
they are woken, or at the latest when a miss or a write needs it.

What is not said is as in the first slab. The memory is reserved at once;
"flagstone drain" moves the records elsewhere and gives it back.`,
		Example: `  flagstone grow sessions
  flagstone grow sessions overflow --size 1GiB
  flagstone grow pages large --entries 1000 --cell 4KiB --max-value 1MiB`,
		RunE: func(cmd *cobra.Command, args []string) error {
			shape.Size, shape.CellSize, shape.MaxKey, shape.MaxValue = uint64(fileSize), int(cell), int(maxKey), int(maxValue)
			shape.OnFull = flagstone.Policy(policy)
			if cmd.Flags().Changed("order") { // else the first slab's
				shape.Order = flagstone.Order(by)
			}
			return a.use(cmd.Context(), args[0], func(ctx context.Context, c *flagstone.Cache) error {
				name, err := newSlabName(c, args[1:])
				if err != nil {
					return err
				}
				grown, err := c.Grow(ctx, name, shape)
				if err != nil {
					return err
				}
				return a.showGrown(c, grown)
			})
		},
	}
	flags := cmd.Flags()
	flags.Var(&fileSize, "size", "size of the slab's file (default: that of the first one)")
	flags.Uint64Var(&shape.Entries, "entries", 0, "instead of --size: records of one cell that must fit")
	flags.Var(&cell, "cell", "size of a cell, a multiple of 64 (default: the first slab's)")
	flags.Var(&maxKey, "max-key", "longest key (default: the first slab's)")
	flags.Var(&maxValue, "max-value", "longest value (default: the first slab's)")
	flags.Var(&policy, "on-full", "what the slab does when it is full and there is none below: evict or refuse")
	flags.Var(&by, "order", "in which order it gives records up: lru or s3fifo (default: the first slab's)")
	addPrecision(cmd, &shape.Precision)
	flags.Lookup("precision").Usage = "how exactly last uses are known, 1ms to 1h (default: the first slab's)"
	cmd.MarkFlagsMutuallyExclusive("size", "entries")
	for _, name := range []string{"size", "cell", "max-key", "max-value", "order"} {
		flags.Lookup(name).DefValue = "" // the text says it
	}
	return cmd
}

// newSlabName returns the name asked for, or the first of tier1, tier2, ... that is
// free.
func newSlabName(c *flagstone.Cache, asked []string) (string, error) {
	all, err := c.Tiers()
	if err != nil {
		return "", err
	}
	taken := func(name string) bool {
		return slices.ContainsFunc(all, func(s *flagstone.Slab) bool { return s.Name() == name })
	}
	if len(asked) > 0 {
		if taken(asked[0]) {
			return "", usage{fmt.Errorf("there is a slab %q already: take another name, or none", asked[0])}
		}
		return asked[0], nil
	}
	for n := 1; ; n++ {
		if name := fmt.Sprint("tier", n); !taken(name) {
			return name, nil
		}
	}
}

func (a *app) showGrown(c *flagstone.Cache, grown *flagstone.Slab) error {
	all, err := c.TierStats()
	if err != nil {
		return err
	}
	var g slab.Geometry
	for _, t := range all {
		if t.ID == grown.ID() {
			g = t.Geometry
		}
	}
	if g.Shards == 0 { // drained by somebody already
		return fmt.Errorf("slab %s: %w", slabText(grown), flagstone.ErrRetired)
	}
	st := flagstone.Stats{Geometry: g, FileSize: g.FileSize(), Headroom: g.Headroom()}
	out := grownJSON{c.Table().Name(), newSlab(grown), newShape(st, c.Table().Geometry())}
	return a.show(out, func(w io.Writer) {
		fmt.Fprintf(w, "%s has a new slab: %s\n", out.Name, slabText(grown))
		out.Shape.print(w)
	})
}
