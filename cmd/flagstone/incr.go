package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

type countedJSON struct {
	keyJSON
	Count int64 `json:"count"`
}

func (a *app) incrCommand() *cobra.Command {
	var how keyFlags
	var initial int64
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "incr NAME KEY [DELTA]", Short: "Add to a counter and print the sum", Args: cobra.RangeArgs(2, 3), ValidArgsFunction: a.completeNames,
		Long: `Adds DELTA, 1 unless given, to the counter under KEY and prints the sum. Where there
is none it begins with --initial, and --ttl counts then only. A counter is a value
of 8 bytes, a signed number, little-endian; other values are refused, and sums
beyond 64 bits too.`,
		Example: `  flagstone incr limits 10.0.0.7 --ttl 1m
  flagstone incr stock apples -- -3`,
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := how.parse(args[1])
			if err != nil {
				return err
			}
			delta := int64(1)
			if len(args) > 2 {
				if delta, err = strconv.ParseInt(args[2], 10, 64); err != nil {
					return usage{fmt.Errorf("delta %q: %w", args[2], err)}
				}
			}
			return a.use(cmd.Context(), args[0], func(ctx context.Context, c *flagstone.Cache) error {
				sum, err := in(c, k.namespace).Increment(ctx, k.bytes, delta, initial, ttl)
				if err != nil {
					return err
				}
				return a.line(countedJSON{k.json(), sum}, strconv.FormatInt(sum, 10))
			})
		},
	}
	how.add(cmd)
	cmd.Flags().Int64Var(&initial, "initial", 0, "what a new counter begins with, before DELTA is added")
	cmd.Flags().DurationVar(&ttl, "ttl", flagstone.NoExpiry, "time to live of a new counter; 0 is for ever")
	return cmd
}
