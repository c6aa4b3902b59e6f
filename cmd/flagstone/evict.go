package main

import (
	"context"
	"fmt"
	"io"
	"math"
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
	var tag uint32
	cmd := &cobra.Command{
		Use: "evict NAME --older-than D | --tag N", Short: "Remove what was not used for some time, or has a tag", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames,
		Long: `With --older-than removes records that were not used within D; those used at most
30 ms earlier than that, beside the cache's precision, may stay. With --tag removes
those with that tag, used or not. The longest unused go first, up to --max; their
hashes are printed or, with --values, the records. Removing none is no failure.`,
		Example: `  flagstone evict sessions --older-than 24h --max 1000
  flagstone evict sessions --older-than 1h --max 10 --values
  flagstone evict pages --tag 7`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if olderThan < 0 || limit < 0 {
				return usage{fmt.Errorf("--older-than %v --max %d: need no less than 0", olderThan, limit)}
			}
			return a.use(cmd.Context(), args[0], func(ctx context.Context, c *flagstone.Cache) error {
				var out evictedJSON
				var err error
				switch {
				case cmd.Flags().Changed("tag"):
					out, err = evicted(c.EvictTag(ctx, tag, limit))
				case values:
					out, err = evictedPairs(c.EvictPairs(ctx, olderThan, limit))
				default:
					out, err = evicted(c.Evict(ctx, olderThan, limit))
				}
				// What is gone is told even if it could not go on.
				if e := a.showEvicted(out); err == nil {
					err = e
				}
				return err
			})
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&olderThan, "older-than", 0, "time without use, as 90s or 24h")
	flags.Uint32Var(&tag, "tag", 0, "the records with this tag")
	flags.IntVar(&limit, "max", math.MaxInt, "most records to remove")
	flags.BoolVar(&values, "values", false, "print keys and values")
	flags.Lookup("max").DefValue = "0" // all
	cmd.MarkFlagsOneRequired("older-than", "tag")
	cmd.MarkFlagsMutuallyExclusive("older-than", "tag")
	cmd.MarkFlagsMutuallyExclusive("values", "tag")
	return cmd
}

// evicted is what to print of hashes.
func evicted(hashes []uint64, err error) (evictedJSON, error) {
	out := evictedJSON{Count: len(hashes), Hashes: []hex{}}
	for _, h := range hashes {
		out.Hashes = append(out.Hashes, hex(h))
	}
	return out, err
}

// evictedPairs is what to print of records.
func evictedPairs(pairs []flagstone.Pair, err error) (evictedJSON, error) {
	out := evictedJSON{Count: len(pairs), Hashes: []hex{}}
	for _, p := range pairs {
		out.Hashes = append(out.Hashes, hex(p.Hash))
		r := pairJSON{Value: newBlob(p.Value), Hash: hex(p.Hash), ByHash: p.ByHash, Idle: millis(p.Idle)}
		if !p.ByHash {
			r.Key = newBlob(p.Key)
		}
		out.Records = append(out.Records, r)
	}
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
