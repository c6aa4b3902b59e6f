package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

func (a *app) createCommand() *cobra.Command {
	var o flagstone.Options
	var fileSize, cell, maxKey, maxValue size
	policy, by := onFull(flagstone.Evict), order(flagstone.LRU)
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a cache, or say how an existing one differs", Args: cobra.ExactArgs(1),
		Long: `Makes a cache whose memory is reserved at once. If there is one of that name it is
left as it is, and the options in which it differs are listed; the exit code is 0.

Hashing fills shards unevenly. So that --entries records of one cell fit for sure,
each shard gets headroom, which is printed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := a.within(cmd.Context())
			defer cancel()
			a.name = args[0]
			o.Dir, o.Group, o.Wake = a.dir, a.group, noWake
			o.Size, o.OnFull = uint64(fileSize), flagstone.Policy(policy)
			if cmd.Flags().Changed("order") { // so that another one is a difference
				o.Order = flagstone.Order(by)
			}
			o.CellSize, o.MaxKey, o.MaxValue = int(cell), int(maxKey), int(maxValue)
			cache, err := flagstone.Open(ctx, a.name, modest(o))
			if err != nil {
				return err
			}
			return closing(cache, a.showCreated(cache, o.Regions))
		},
	}
	flags := cmd.Flags()
	flags.Var(&fileSize, "size", "size of the cache's file (default "+bytesText(slab.DefaultSize)+")")
	flags.Uint64Var(&o.Entries, "entries", 0, "instead of --size: records of one cell that must fit")
	flags.Var(&cell, "cell", "size of a cell, a multiple of 64; 48 bytes of it are not key or value (default 128)")
	flags.Var(&maxKey, "max-key", "longest key (default 1KiB)")
	flags.Var(&maxValue, "max-value", "longest value (default 64KiB)")
	flags.IntVar(&o.Shards, "shards", 0, "independent parts, a power of two up to 256 (default: as many as cost little)")
	flags.Var(&policy, "on-full", "what a full cache does with a new key: evict or refuse")
	flags.Var(&by, "order", "in which order a full cache evicts: lru or s3fifo")
	addPrecision(cmd, &o.Precision)
	flags.IntVar(&o.Regions, "regions", 0, "handles that may be open at a time (default 256)")
	cmd.MarkFlagsMutuallyExclusive("size", "entries")
	for _, name := range []string{"size", "cell", "max-key", "max-value"} {
		flags.Lookup(name).DefValue = "" // the text says it
	}
	return cmd
}

func addPrecision(cmd *cobra.Command, precision *time.Duration) {
	cmd.Flags().DurationVar(precision, "precision", 0, fmt.Sprintf("how exactly last uses are known, 1ms to 1h; finer costs hits a write more often (default %v)", flagstone.DefaultPrecision))
}

// onFull is a flag's policy.
type onFull flagstone.Policy

var policies = []string{flagstone.Evict: "evict", flagstone.Refuse: "refuse"}

func (p *onFull) Set(text string) error {
	for i, name := range policies {
		if text == name {
			*p = onFull(i)
			return nil
		}
	}
	return fmt.Errorf("need %s", strings.Join(policies, " or "))
}

func (p *onFull) Type() string   { return "policy" }
func (p *onFull) String() string { return policies[*p] }

// order is a flag's order of eviction.
type order flagstone.Order

var orders = map[flagstone.Order]string{flagstone.LRU: "lru", flagstone.S3FIFO: "s3fifo"}

func (o *order) Set(text string) error {
	for value, name := range orders {
		if text == name {
			*o = order(value)
			return nil
		}
	}
	return fmt.Errorf("need %s or %s", orders[flagstone.LRU], orders[flagstone.S3FIFO])
}

func (o *order) Type() string   { return "order" }
func (o *order) String() string { return orders[flagstone.Order(*o)] }

// createdJSON is what create prints.
type createdJSON struct {
	Name        string           `json:"name"`
	Path        string           `json:"path"`
	Created     bool             `json:"created"`
	Shape       shapeJSON        `json:"shape"`
	Differences []differenceJSON `json:"differences"`
}

type differenceJSON struct {
	Option string `json:"option"`
	Asked  string `json:"asked"`
	Found  string `json:"found"`
}

func (a *app) showCreated(cache *flagstone.Cache, regions int) error {
	st, err := cache.Stats()
	if err != nil {
		return err
	}
	t := cache.Table()
	out := createdJSON{
		Name: t.Name(), Path: t.Dir(), Created: madeSlab(t),
		Shape: newShape(st, t.Geometry()), Differences: differences(cache, regions),
	}
	return a.show(out, func(w io.Writer) {
		if out.Created {
			fmt.Fprintf(w, "created %s in %s\n", out.Name, out.Path)
		} else {
			fmt.Fprintf(w, "%s exists already in %s\n", out.Name, out.Path)
		}
		out.Shape.print(w)
		for _, d := range out.Differences {
			fmt.Fprintf(w, "differs\t%s: asked for %s, found %s\n", d.Option, d.Asked, d.Found)
		}
	})
}

// madeSlab reports whether this handle made the primary slab.
func madeSlab(t *table.Table) bool {
	var self table.Holder
	for _, r := range t.Regions() {
		if r.Self {
			self = table.Holder{Region: r.Index, Generation: r.Generation}
		}
	}
	for _, e := range t.Entries() {
		if e.Kind == table.KindSlab && e.Tier == 0 && e.Name == "primary" {
			return e.Creator == self
		}
	}
	return false
}

// differences lists the flags that asked for something else than there is.
func differences(cache *flagstone.Cache, regions int) []differenceJSON {
	out := []differenceJSON{}
	flag := map[string]string{
		"Size": "--size", "Entries": "--entries", "CellSize": "--cell", "MaxKey": "--max-key",
		"MaxValue": "--max-value", "Shards": "--shards", "OnFull": "--on-full",
		"Order": "--order", "Precision": "--precision",
	}
	for _, d := range cache.Differences() {
		text := func(n uint64) string { return fmt.Sprint(n) }
		switch d.Option {
		case "OnFull":
			text = func(n uint64) string { return policies[n] }
		case "Precision":
			text = func(n uint64) string { return duration(n).String() }
		case "Order":
			text = func(n uint64) string { return orders[flagstone.Order(n)] }
		}
		out = append(out, differenceJSON{flag[d.Option], text(d.Asked), text(d.Found)})
	}
	if found := int(cache.Table().Geometry().Regions); regions != 0 && regions != found {
		out = append(out, differenceJSON{"--regions", fmt.Sprint(regions), fmt.Sprint(found)})
	}
	return out
}
