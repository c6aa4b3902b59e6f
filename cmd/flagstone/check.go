package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

type checkedJSON struct {
	Name     string   `json:"name"`
	Sound    bool     `json:"sound"`
	Problems []string `json:"problems"`
}

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check NAME", Short: "Look for contradictions in a cache; exit 1 if there are any", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames,
		Long: "Compares index, order, free lists and counts with the records, shard by shard,\nholding the shard's lock meanwhile.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.use(cmd.Context(), args[0], func(ctx context.Context, c *flagstone.Cache) error {
				problems, err := c.Check(ctx)
				if err != nil {
					return err
				}
				return a.showChecked(checkedJSON{args[0], len(problems) == 0, append([]string{}, problems...)})
			})
		},
	}
}

func (a *app) showChecked(out checkedJSON) error {
	err := a.show(out, func(w io.Writer) {
		for _, p := range out.Problems {
			fmt.Fprintln(w, p)
		}
		if out.Sound {
			fmt.Fprintf(w, "%s is sound\n", out.Name)
		}
	})
	if err == nil && !out.Sound {
		err = negative(fmt.Sprintf("%s has %d problems", out.Name, len(out.Problems)))
	}
	return err
}
