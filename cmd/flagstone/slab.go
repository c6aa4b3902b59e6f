package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/table"
)

// errIndependent says that the command line names a slab that is no tier of the cache.
var errIndependent = fmt.Errorf("%w among the tiers", flagstone.ErrNoSlab)

// findSlab returns the slab that text names: by name, tier number or segment id. A
// slab's name comes before the number of another.
func findSlab(c *flagstone.Cache, text string) (*flagstone.Slab, error) {
	all, err := c.Tiers()
	if err != nil {
		return nil, err
	}
	var known []string
	for _, named := range []func(*flagstone.Slab) bool{
		func(s *flagstone.Slab) bool { return s.Name() == text },
		func(s *flagstone.Slab) bool { return strconv.Itoa(s.Tier()) == text },
		func(s *flagstone.Slab) bool { return isID(text, s.ID()) },
	} {
		var found []*flagstone.Slab
		known = nil
		for _, s := range all {
			if named(s) {
				found = append(found, s)
			}
			known = append(known, slabText(s))
		}
		if len(found) == 1 {
			return found[0], nil
		}
		if len(found) > 1 {
			return nil, fmt.Errorf("%w: %q is the name of %d; take the segment id: %s", flagstone.ErrNoSlab, text, len(found), strings.Join(known, "; "))
		}
	}
	err = flagstone.ErrNoSlab
	if independent(c, text) {
		err = errIndependent
	}
	return nil, fmt.Errorf("%w: %q; there are %s", err, text, strings.Join(known, "; "))
}

// independent reports whether text names a slab that is a cache of its own, or a tier of
// one.
func independent(c *flagstone.Cache, text string) bool {
	for _, e := range c.Table().Entries() {
		if e.Kind == table.KindSlab && e.State.Published() && (e.Name == text || isID(text, e.SegmentID)) {
			return true // else it were among the tiers
		}
	}
	return false
}

// isID reports whether text is that segment id, as stat or a file's name has it.
func isID(text string, id uint64) bool {
	digits := strings.TrimPrefix(strings.TrimPrefix(text, "slab-"), "0x")
	n, err := strconv.ParseUint(digits, 16, 64)
	return err == nil && n == id && len(digits) > 2 // shorter is a tier number that there is not
}

func slabText(s *flagstone.Slab) string {
	return fmt.Sprintf("%s, tier %d, %v", plain(s.Name()), s.Tier(), hex(s.ID()))
}

// slabJSON names a slab.
type slabJSON struct {
	Name    string `json:"name"`
	Tier    int    `json:"tier"`
	Segment hex    `json:"segment"`
}

func newSlab(s *flagstone.Slab) slabJSON { return slabJSON{s.Name(), s.Tier(), hex(s.ID())} }

// completeSlabs completes the name of a cache, then up to n slabs of it.
func (a *app) completeSlabs(n int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return a.completeNames(cmd, args, toComplete)
		}
		var names []string
		if len(args) <= n {
			_ = a.look(cmd.Context(), args[0], func(_ context.Context, c *flagstone.Cache) error {
				all, err := c.Tiers()
				for _, s := range all {
					names = append(names, s.Name())
				}
				return err
			})
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
