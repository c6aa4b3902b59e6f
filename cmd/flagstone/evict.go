package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

// evictedJSON is what evict prints, the longest unused first.
type evictedJSON struct {
	Count   int        `json:"count"`
	Hashes  []hex      `json:"hashes"`
	Records []pairJSON `json:"records,omitempty"` // with --values
}

type pairJSON struct {
	Key    *blob `json:"key,omitempty"` // unless it was stored by hash
	Value  *blob `json:"value"`
	Hash   hex   `json:"hash"`
	ByHash bool  `json:"by_hash"`
	Idle   int64 `json:"idle_ms"`
}

func (a *app) evictCommand() *cobra.Command {
	var olderThan time.Duration
	var limit int
	var values bool
	cmd := &cobra.Command{
		Use: "evict NAME --older-than D --max N", Short: "Remove what was not used for some time", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames,
		Long: `Removes up to N records that were not used within D, those unused for longest
first, and prints their hashes or, with --values, the records. Records used at most
30 ms earlier than that may stay. Removing none is no failure.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if olderThan < 0 || limit < 0 {
				return usage{fmt.Errorf("--older-than %v --max %d: need no less than 0", olderThan, limit)}
			}
			return a.use(cmd.Context(), args[0], func(ctx context.Context, c *flagstone.Cache) error {
				out, err := evict(ctx, c, olderThan, limit, values)
				// What is gone is told even if it could not go on.
				if e := a.showEvicted(out); err == nil {
					err = e
				}
				return err
			})
		},
	}
	cmd.Flags().DurationVar(&olderThan, "older-than", 0, "time without use, as 90s or 24h")
	cmd.Flags().IntVar(&limit, "max", 0, "most records to remove")
	cmd.Flags().BoolVar(&values, "values", false, "print keys and values")
	for _, name := range []string{"older-than", "max"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // no such flag
		}
	}
	return cmd
}

func evict(ctx context.Context, c *flagstone.Cache, olderThan time.Duration, limit int, values bool) (evictedJSON, error) {
	out := evictedJSON{Hashes: []hex{}}
	if !values {
		hashes, err := c.Evict(ctx, olderThan, limit)
		for _, h := range hashes {
			out.Hashes = append(out.Hashes, hex(h))
		}
		out.Count = len(hashes)
		return out, err
	}
	pairs, err := c.EvictPairs(ctx, olderThan, limit)
	for _, p := range pairs {
		out.Hashes = append(out.Hashes, hex(p.Hash))
		r := pairJSON{Value: newBlob(p.Value), Hash: hex(p.Hash), ByHash: p.ByHash, Idle: millis(p.Idle)}
		if !p.ByHash {
			r.Key = newBlob(p.Key)
		}
		out.Records = append(out.Records, r)
	}
	out.Count = len(pairs)
	return out, err
}

func (a *app) showEvicted(out evictedJSON) error {
	return a.show(out, func(w io.Writer) {
		for _, r := range out.Records {
			name := r.Hash.String()
			if r.Key != nil {
				name = fmt.Sprintf("%q", r.Key.Base64)
			}
			fmt.Fprintf(w, "%s\t%q\tidle %v\n", name, r.Value.Base64, time.Duration(r.Idle)*time.Millisecond)
		}
		if out.Records == nil {
			for _, h := range out.Hashes {
				fmt.Fprintln(w, h)
			}
		}
		fmt.Fprintf(w, "%d evicted\n", out.Count)
	})
}
