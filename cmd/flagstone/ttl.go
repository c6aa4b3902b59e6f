package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

type ttlJSON struct {
	keyJSON
	Found bool  `json:"found"`
	TTL   int64 `json:"ttl_ms"` // 0: never expires
}

func (a *app) ttlCommand() *cobra.Command {
	var how keyFlags
	cmd := &cobra.Command{
		Use: "ttl NAME KEY", Short: "Print how long a value is still good; exit 1 if there is none", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeNames,
		Long: "Prints how long the value is still good, or \"forever\". It only looks, which is no use\nof the record.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.expiry(cmd, a.look, args, how, func(_ context.Context, s keyspace, k []byte) (time.Duration, bool, error) { return s.TTL(k) })
		},
	}
	how.add(cmd)
	return cmd
}

func (a *app) touchCommand() *cobra.Command {
	var how keyFlags
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "touch NAME KEY --ttl D", Short: "Give a value a new time to live; exit 1 if there is none", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeNames,
		Long:    "Gives the value a new time to live, and counts as a use of it.",
		Example: "  flagstone touch sessions alice --ttl 1h",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.expiry(cmd, a.use, args, how, func(ctx context.Context, s keyspace, k []byte) (time.Duration, bool, error) {
				found, err := s.Touch(ctx, k, ttl)
				return ttl, found, err
			})
		},
	}
	how.add(cmd)
	cmd.Flags().DurationVar(&ttl, "ttl", flagstone.NoExpiry, "time to live from now on, as 90s or 24h; 0 is for ever")
	if err := cmd.MarkFlagRequired("ttl"); err != nil {
		panic(err) // no such flag
	}
	return cmd
}

// expiry prints what do returns for a key of a cache opened with open.
func (a *app) expiry(cmd *cobra.Command, open func(context.Context, string, work) error, args []string, how keyFlags, do func(context.Context, keyspace, []byte) (time.Duration, bool, error)) error {
	k, err := how.parse(args[1])
	if err != nil {
		return err
	}
	return open(cmd.Context(), args[0], func(ctx context.Context, c *flagstone.Cache) error {
		ttl, found, err := do(ctx, in(c, k.namespace), k.bytes)
		if err != nil {
			return err
		}
		if found || a.json {
			err = a.line(ttlJSON{k.json(), found, millis(ttl)}, forever(ttl))
		}
		if err == nil && !found {
			err = negative(k.String() + " is not there")
		}
		return err
	})
}

func forever(ttl time.Duration) string {
	if ttl == flagstone.NoExpiry {
		return "forever"
	}
	return ttl.String()
}
