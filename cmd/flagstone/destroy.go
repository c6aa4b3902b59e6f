package main

import (
	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

type destroyedJSON struct {
	Name      string `json:"name"`
	Destroyed bool   `json:"destroyed"`
}

func (a *app) destroyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "destroy NAME", Short: "Remove a cache and its files", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames,
		Long: "Removes a cache whoever uses it: open handles say so from then on, and the name is\nfree at once. The files need not be intact.",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := a.within(cmd.Context())
			defer cancel()
			if err := flagstone.Destroy(ctx, a.dir, args[0]); err != nil {
				return err
			}
			return a.line(destroyedJSON{args[0], true}, "destroyed "+args[0])
		},
	}
}
