package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

type setJSON struct {
	keyJSON
	Bytes int   `json:"bytes"`  // of the value
	TTL   int64 `json:"ttl_ms"` // 0: never expires
	Set   bool  `json:"set"`    // --if-absent: there was none
}

func (a *app) setCommand() *cobra.Command {
	var how keyFlags
	var it flagstone.Item
	var ifAbsent bool
	cmd := &cobra.Command{
		Use: "set NAME KEY [VALUE|-]", Short: "Store a value", Args: cobra.RangeArgs(2, 3), ValidArgsFunction: a.completeNames,
		Long: `Stores VALUE, or without one or with -, what comes on stdin, as it is. With
--if-absent only if there is no value, or an expired one; the exit code is 1 if
there is one.`,
		Example: `  flagstone set sessions alice 'logged in' --ttl 1h
  flagstone set pages /index --ttl 10m --stale-for 1h --tag 7 < index.html
  flagstone set jobs lock $$ --if-absent --ttl 30s`,
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := how.parse(args[1])
			if err != nil {
				return err
			}
			return a.use(cmd.Context(), args[0], func(_ context.Context, c *flagstone.Cache) error {
				if it.Value, err = a.value(c, args[2:]); err != nil {
					return err
				}
				// The time for stdin is the writer's, not ours.
				ctx, cancel := a.within(cmd.Context())
				defer cancel()
				stored := true
				if ifAbsent {
					stored, err = in(c, k.namespace).SetIfAbsent(ctx, k.bytes, it.Value, it.TTL)
				} else {
					err = k.set(ctx, c, it)
				}
				if err == nil && a.json {
					err = a.show(setJSON{k.json(), len(it.Value), millis(it.TTL), stored}, nil)
				}
				if err == nil && !stored {
					err = negative(k.String() + " is there already")
				}
				return err
			})
		},
	}
	how.addHash(cmd)
	flags := cmd.Flags()
	flags.DurationVar(&it.TTL, "ttl", flagstone.NoExpiry, "time to live, as 90s or 24h; 0 is for ever")
	flags.DurationVar(&it.StaleFor, "stale-for", 0, "time beyond it for which GetOrLoad may return the value while somebody loads the next")
	flags.Uint32Var(&it.Tag, "tag", 0, "number by which records can be evicted and listed together; 0 is none")
	flags.BoolVar(&ifAbsent, "if-absent", false, "only if there is no value")
	for _, name := range []string{"stale-for", "tag"} {
		cmd.MarkFlagsMutuallyExclusive("if-absent", name)
		cmd.MarkFlagsMutuallyExclusive("hash", name)
	}
	cmd.MarkFlagsMutuallyExclusive("hash", "if-absent")
	return cmd
}

// value returns the argument, or stdin up to one byte more than the cache takes.
func (a *app) value(c *flagstone.Cache, arg []string) ([]byte, error) {
	if len(arg) > 0 && arg[0] != "-" {
		return []byte(arg[0]), nil
	}
	st, err := c.Stats()
	if err != nil {
		return nil, err
	}
	value, err := io.ReadAll(io.LimitReader(a.in, int64(st.Geometry.MaxValue)+1))
	if err != nil {
		return nil, fmt.Errorf("read the value from stdin: %w", err)
	}
	return value, nil
}
