package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

// drainedJSON is what drain prints.
type drainedJSON struct {
	Name    string   `json:"name"`
	Slab    slabJSON `json:"slab"`
	Drained bool     `json:"drained"` // else there was no room
	Moved   int      `json:"moved"`   // records, by this command
	Left    uint64   `json:"left"`    // records that stay in it
	Freed   uint64   `json:"freed"`   // bytes given back
	Millis  float64  `json:"ms"`
}

func (a *app) drainCommand() *cobra.Command {
	var asked bool
	cmd := &cobra.Command{
		Use: "drain NAME SLAB", Short: "Move a slab's records to the others and remove it; exit 1 if they have no room", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeSlabs(1),
		Long: `Moves every record of the slab to other slabs of the cache, and gives its memory
back. SLAB is a name, the number of a tier, or a segment id; the first slab stays.
Lookups find every key throughout. What has expired goes.

If the others have no room the exit code is 1: what was moved stays moved, and the
slab takes records again. If the command is interrupted, or --timeout is over, the
slab stays draining: it takes no records, and the same command goes on with it.`,
		Example: `  flagstone drain sessions tier1
  flagstone drain sessions 2 --timeout 0`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p := newProgress(a.errs, asked)
			return a.use(cmd.Context(), args[0], func(ctx context.Context, c *flagstone.Cache) error {
				s, err := findSlab(c, args[1])
				if err != nil {
					return err
				}
				out, err := drain(ctx, c, s, p)
				if err != nil && !out.noRoom(err) {
					return a.undrained(s, out, err)
				}
				return a.showDrained(out, err)
			})
		},
	}
	addProgress(cmd, &asked)
	return cmd
}

func addProgress(cmd *cobra.Command, asked *bool) {
	cmd.Flags().BoolVar(asked, "progress", false, "report progress on stderr though it is no terminal")
}

// drain drains the slab, telling how far it is.
func drain(ctx context.Context, c *flagstone.Cache, s *flagstone.Slab, p *progress) (out drainedJSON, err error) {
	before, err := tierOf(c, s.ID())
	if err != nil {
		return out, err
	}
	out = drainedJSON{Name: c.Table().Name(), Slab: newSlab(s)}
	started := time.Now()
	during(p, func() {
		out.Moved, err = s.Drain(ctx)
	}, func() {
		if now, err := tierOf(c, s.ID()); err == nil {
			p.update("%d of %d records left in %s", now.Records, before.Records, plain(s.Name()))
		}
	})
	out.Millis = time.Since(started).Seconds() * 1e3
	if out.Drained = err == nil; out.Drained {
		out.Freed = before.FileSize
	} else if now, e := tierOf(c, s.ID()); e == nil {
		out.Left = now.Records
	}
	return out, err
}

// during does work, and tells now and then how it stands.
func during(p *progress, work, tell func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		work()
	}()
	t := time.NewTicker(reportEvery)
	defer t.Stop()
	for {
		select {
		case <-done:
			p.end()
			return
		case <-t.C:
			tell()
		}
	}
}

// tierOf returns the figures of a slab.
func tierOf(c *flagstone.Cache, id uint64) (flagstone.TierStats, error) {
	all, err := c.TierStats()
	if err != nil {
		return flagstone.TierStats{}, err
	}
	for _, t := range all {
		if t.ID == id {
			return t, nil
		}
	}
	return flagstone.TierStats{}, fmt.Errorf("slab %v: %w", hex(id), flagstone.ErrRetired)
}

// noRoom reports whether the answer is that the others have no room.
func (out drainedJSON) noRoom(err error) bool {
	return errors.Is(err, flagstone.ErrFull) || errors.Is(err, flagstone.ErrTooLarge)
}

// undrained says how a drain that did not end stands.
func (a *app) undrained(s *flagstone.Slab, out drainedJSON, err error) error {
	if errors.Is(err, flagstone.ErrBusy) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w; %d records were moved, %d are left, and slab %s stays draining: `flagstone drain %s %s` goes on",
			err, out.Moved, out.Left, plain(s.Name()), a.name, plain(s.Name()))
	}
	return err
}

func (a *app) showDrained(out drainedJSON, why error) error {
	err := a.show(out, func(w io.Writer) {
		took := (time.Duration(out.Millis*1e3) * time.Microsecond).Round(10 * time.Microsecond)
		fmt.Fprintf(w, "%d records moved in %v\n", out.Moved, took)
		if out.Drained {
			fmt.Fprintf(w, "slab %s, tier %d, %v is no more: %s given back\n", plain(out.Slab.Name), out.Slab.Tier, out.Slab.Segment, bytesText(out.Freed))
		} else {
			fmt.Fprintf(w, "slab %s, tier %d, %v stays, with %d records, and takes records again\n", plain(out.Slab.Name), out.Slab.Tier, out.Slab.Segment, out.Left)
		}
	})
	if err != nil || out.Drained {
		return err
	}
	help := fmt.Sprintf("make room with `flagstone evict %s --older-than D`, or `flagstone grow %[1]s` first", out.Name)
	if errors.Is(why, flagstone.ErrTooLarge) {
		help = fmt.Sprintf("add a slab for such records with `flagstone grow %s --max-key ... --max-value ...`", out.Name)
	}
	return negative(fmt.Sprintf("%v; %s, then drain again", why, help))
}
