package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/table"
)

type checkedJSON struct {
	Name     string      `json:"name"`
	Sound    bool        `json:"sound"`    // in the end
	Problems []string    `json:"problems"` // that were found
	Repair   *repairJSON `json:"repair,omitempty"`
}

// repairJSON is what --repair did, if there was anything to do.
type repairJSON struct {
	Rebuilt   uint64   `json:"rebuilt"`   // shards
	Dropped   uint64   `json:"dropped"`   // damaged records given up
	Records   uint64   `json:"records"`   // that there are now
	Remaining []string `json:"remaining"` // problems
}

func (a *app) checkCommand() *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use: "check NAME", Short: "Look for contradictions in a cache; exit 1 if there are any", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames,
		Long: `Compares index, order, free lists and counts with the records, shard by shard and of
all slabs, holding the shard's lock meanwhile; sees that no key is in two slabs; and
compares the directory with the files.

With --repair, if anything is wrong, the directory is put right, all shards are rebuilt
from their records, and all is checked again. Whole records stay; how many damaged ones
had to be given up is said. So is a slab below the first that the directory had left
out, as what is in it may be old, and files that belong to nothing. The exit code is 0
if the cache is sound in the end, 1 if not. If a header is damaged nothing but
` + "`flagstone destroy`" + ` helps, and an error says so.`,
		Example: `  flagstone check sessions
  flagstone check sessions --repair --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			out := checkedJSON{Name: args[0], Problems: []string{}}
			if repair {
				found, err := a.directory(cmd.Context(), args[0], true)
				if err != nil {
					return err
				}
				out.Problems = append(out.Problems, found...)
			}
			err := a.use(cmd.Context(), args[0], func(ctx context.Context, c *flagstone.Cache) error {
				return out.check(ctx, c, repair)
			})
			if errors.Is(err, flagstone.ErrNotFound) && !repair { // or not to be found
				if found, e := a.directory(cmd.Context(), args[0], false); e == nil && len(found) > 0 {
					out.Problems, err = found, nil
				}
			}
			if err != nil {
				return err
			}
			return a.showChecked(out)
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "put right what is wrong, from the files and the records")
	return cmd
}

// directory checks a domain's control segment, which may be so that the cache cannot be
// opened, and repairs it.
func (a *app) directory(ctx context.Context, name string, repair bool) (problems []string, err error) {
	ctx, cancel := a.within(ctx)
	defer cancel()
	a.name = name
	t, err := table.Open(ctx, table.Options{Dir: a.dir, Name: name, Group: a.group, MustExist: true, Wake: noWake})
	if err != nil {
		return nil, err
	}
	problems, err = t.Check()
	if err == nil && repair && len(problems) > 0 {
		_, err = t.Repair(ctx) // what remains the next check finds
	}
	return problems, closing(t, err)
}

// check checks the cache, and repairs it if anything is or was wrong.
func (out *checkedJSON) check(ctx context.Context, c *flagstone.Cache, repair bool) error {
	before, err := c.Stats()
	if err != nil {
		return err
	}
	problems, err := c.Check(ctx)
	if err != nil {
		return err
	}
	out.Problems = append(out.Problems, problems...)
	out.Sound = len(out.Problems) == 0
	if repair && !out.Sound {
		if err := out.repair(ctx, c, before); err != nil {
			return fmt.Errorf("repair: %w", err)
		}
	}
	return nil
}

// repair puts everything right that can be, and checks again. What the first check had
// to rebuild, after a death, counts from before.
func (out *checkedJSON) repair(ctx context.Context, c *flagstone.Cache, before flagstone.Stats) error {
	if err := c.Repair(ctx); err != nil {
		return err
	}
	after, err := c.Stats()
	if err != nil {
		return err
	}
	remaining, err := c.Check(ctx)
	if err != nil {
		return err
	}
	out.Sound = len(remaining) == 0
	out.Repair = &repairJSON{
		after.Rebuilds - before.Rebuilds, after.Dropped - before.Dropped, after.Records, append([]string{}, remaining...),
	}
	return nil
}

func (a *app) showChecked(out checkedJSON) error {
	err := a.show(out, func(w io.Writer) {
		for _, p := range out.Problems {
			fmt.Fprintln(w, p)
		}
		if r := out.Repair; r != nil {
			fmt.Fprintf(w, "repaired: %d shards rebuilt, %d damaged records given up, %d records remain\n", r.Rebuilt, r.Dropped, r.Records)
			for _, p := range r.Remaining {
				fmt.Fprintf(w, "remains: %s\n", p)
			}
		}
		if out.Sound {
			fmt.Fprintf(w, "%s is sound\n", out.Name)
		}
	})
	switch {
	case err != nil || out.Sound:
		return err
	case out.Repair != nil:
		return negative(fmt.Sprintf("%s has %d problems after its repair: somebody may be overwriting it", out.Name, len(out.Repair.Remaining)))
	}
	return negative(fmt.Sprintf("%s has %d problems; `flagstone check %[1]s --repair` repairs it", out.Name, len(out.Problems)))
}
