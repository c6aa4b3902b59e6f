package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

type deletedJSON struct {
	keyJSON
	Deleted bool `json:"deleted"`
}

func (a *app) delCommand() *cobra.Command {
	var how keyFlags
	cmd := &cobra.Command{
		Use: "del NAME KEY", Short: "Delete a key; exit 1 if it was not there", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := how.parse(args[1])
			if err != nil {
				return err
			}
			return a.use(cmd.Context(), args[0], func(ctx context.Context, c *flagstone.Cache) error {
				deleted, err := k.del(ctx, c)
				if err == nil && a.json {
					err = a.show(deletedJSON{k.json(), deleted}, nil)
				}
				if err == nil && !deleted {
					err = negative(k.String() + " was not there")
				}
				return err
			})
		},
	}
	how.addHash(cmd)
	return cmd
}
