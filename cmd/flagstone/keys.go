package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

// listedKeyJSON is a record of keys, one line each.
type listedKeyJSON struct {
	Key    *blob  `json:"key,omitempty"` // unless it was stored by hash
	Hash   hex    `json:"hash"`          // of the key, or the application's
	ByHash bool   `json:"by_hash"`       //
	Bytes  int    `json:"bytes"`         // of the value
	TTL    int64  `json:"ttl_ms"`        // 0: never expires
	Tag    uint32 `json:"tag,omitempty"` //
	Idle   int64  `json:"idle_ms"`       // since its last use
}

func (a *app) keysCommand() *cobra.Command {
	var namespace string
	var tag uint32
	cmd := &cobra.Command{
		Use: "keys NAME", Short: "List the keys", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames,
		Long: `Prints a line for each record that has not expired: key, bytes of the value, time to
live, tag, time since its last use. It only looks, which is no use of the records.
Every record is seen that is there all the time, and some of those that come and
go. Records in a namespace are seen with --namespace.`,
		Example: `  flagstone keys sessions
  flagstone keys pages --tag 7
  flagstone keys pages --namespace en --json | jq -r .key.text`,
		RunE: func(cmd *cobra.Command, args []string) error {
			out := bufio.NewWriter(a.out)
			a.out = out
			err := a.look(cmd.Context(), args[0], func(_ context.Context, c *flagstone.Cache) error {
				space := in(c, namespace)
				all := space.All(cmd.Context())
				if cmd.Flags().Changed("tag") {
					all = space.Tagged(cmd.Context(), tag)
				}
				for r, err := range all {
					if err == nil {
						err = a.showKey(r)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
			return errors.Join(err, out.Flush())
		},
	}
	addNamespace(cmd, &namespace)
	cmd.Flags().Uint32Var(&tag, "tag", 0, "only records with this tag; 0 are those without")
	return cmd
}

func (a *app) showKey(r flagstone.Record) error {
	out := listedKeyJSON{
		Hash: hex(r.Hash), ByHash: r.ByHash, Bytes: len(r.Value), TTL: millis(r.TTL), Tag: r.Tag, Idle: millis(r.Idle),
	}
	name := out.Hash.String()
	if !r.ByHash {
		out.Key = newBlob(r.Key)
		name = plain(string(r.Key))
	}
	return a.line(out, fmt.Sprintf("%s\t%d\t%s\t%d\t%v", name, out.Bytes, forever(r.TTL), r.Tag, r.Idle))
}
