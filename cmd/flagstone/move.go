package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

// movedJSON is what move prints.
type movedJSON struct {
	Name   string   `json:"name"`
	From   slabJSON `json:"from"`
	To     slabJSON `json:"to"`
	Moved  int      `json:"moved"`  // records
	Stayed bool     `json:"stayed"` // some had no room, or the target's limits are smaller
	Millis float64  `json:"ms"`

	precision time.Duration // of the cache
}

func (a *app) moveCommand() *cobra.Command {
	var olderThan time.Duration
	var limit int
	var asked bool
	cmd := &cobra.Command{
		Use: "move NAME FROM TO", Short: "Move what was not used for some time to another slab", Args: cobra.ExactArgs(3), ValidArgsFunction: a.completeSlabs(2),
		Long: `Moves records that were not used within --older-than from one slab of the cache to
another, the longest unused first, up to --limit; those used at most 30 ms earlier
than that, beside the cache's precision, may stay. FROM and TO are names, numbers of
tiers, or segment ids. Lookups find every key throughout, and a record keeps its
time to live, its last use and its tag.

Where TO is full the record stays where it is, as does what is larger than its
limits; then the exit code is 1. Moving none is no failure.`,
		Example: `  flagstone move sessions primary tier1 --older-than 10m
  flagstone move sessions 1 0 --limit 1000`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if olderThan < 0 || limit < 0 {
				return usage{fmt.Errorf("--older-than %v --limit %d: need no less than 0", olderThan, limit)}
			}
			p := newProgress(a.errs, asked)
			return a.use(cmd.Context(), args[0], func(ctx context.Context, c *flagstone.Cache) error {
				from, err := findSlab(c, args[1])
				if err != nil {
					return err
				}
				to, err := findSlab(c, args[2])
				if err != nil {
					return err
				}
				out, err := move(ctx, c, from, to, olderThan, limit, p)
				// What went is told even if it could not go on.
				if e := a.showMoved(out, err); err == nil || out.Stayed {
					err = e
				}
				return err
			})
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&olderThan, "older-than", 0, "time without use, as 90s or 24h (default: whatever was not used this moment)")
	flags.IntVar(&limit, "limit", math.MaxInt, "most records to move (default: all)")
	for _, name := range []string{"older-than", "limit"} {
		flags.Lookup(name).DefValue = "0" // the text says it
	}
	addProgress(cmd, &asked)
	return cmd
}

// move moves records, telling how many.
func move(ctx context.Context, c *flagstone.Cache, from, to *flagstone.Slab, olderThan time.Duration, limit int, p *progress) (out movedJSON, err error) {
	before, err := tierOf(c, from.ID())
	if err != nil {
		return out, err
	}
	out = movedJSON{Name: c.Table().Name(), From: newSlab(from), To: newSlab(to), precision: duration(uint64(before.Geometry.StampMillis) + 1)}
	started := time.Now()
	during(p, func() {
		out.Moved, err = c.Move(ctx, from, to, olderThan, limit)
	}, func() {
		if now, err := tierOf(c, from.ID()); err == nil {
			p.update("%d records moved from %s to %s", now.MovedOut-before.MovedOut, plain(from.Name()), plain(to.Name()))
		}
	})
	out.Millis = time.Since(started).Seconds() * 1e3
	out.Stayed = errors.Is(err, flagstone.ErrFull) || errors.Is(err, flagstone.ErrTooLarge)
	return out, err
}

func (a *app) showMoved(out movedJSON, why error) error {
	if out.Name == "" { // nothing was begun
		return why
	}
	err := a.show(out, func(w io.Writer) {
		took := (time.Duration(out.Millis*1e3) * time.Microsecond).Round(10 * time.Microsecond)
		fmt.Fprintf(w, "%d records moved from %s to %s in %v\n", out.Moved, plain(out.From.Name), plain(out.To.Name), took)
		if out.Moved == 0 && !out.Stayed {
			fmt.Fprintf(w, "what was used at most %v earlier than --older-than may stay: the precision of the cache and 30ms\n", out.precision+30*time.Millisecond)
		}
	})
	if err == nil && out.Stayed {
		err = negative(fmt.Sprintf("%v; those stay in %s: `flagstone stat %s` shows how full the slabs are", why, plain(out.From.Name), out.Name))
	}
	return err
}
