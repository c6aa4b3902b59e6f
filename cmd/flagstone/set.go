package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

type setJSON struct {
	keyJSON
	Bytes int   `json:"bytes"`  // of the value
	TTL   int64 `json:"ttl_ms"` // 0: never expires
}

func (a *app) setCommand() *cobra.Command {
	var how keyFlags
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "set NAME KEY [VALUE|-]", Short: "Store a value", Args: cobra.RangeArgs(2, 3), ValidArgsFunction: a.completeNames,
		Long: "Stores VALUE, or without one or with -, what comes on stdin, as it is.",
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := how.parse(args[1])
			if err != nil {
				return err
			}
			return a.use(cmd.Context(), args[0], func(_ context.Context, c *flagstone.Cache) error {
				value, err := a.value(c, args[2:])
				if err != nil {
					return err
				}
				// The time for stdin is the writer's, not ours.
				ctx, cancel := a.within(cmd.Context())
				defer cancel()
				if err := k.set(ctx, c, value, ttl); err != nil || !a.json {
					return err
				}
				return a.show(setJSON{k.json(), len(value), millis(ttl)}, nil)
			})
		},
	}
	how.add(cmd)
	cmd.Flags().DurationVar(&ttl, "ttl", flagstone.NoExpiry, "time to live, as 90s or 24h; 0 is for ever")
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
