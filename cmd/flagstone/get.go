package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

type gotJSON struct {
	keyJSON
	Found bool  `json:"found"`
	Value *blob `json:"value,omitempty"`
}

func (a *app) getCommand() *cobra.Command {
	var how keyFlags
	cmd := &cobra.Command{
		Use: "get NAME KEY", Short: "Print a value, as it is; exit 1 on a miss", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeNames,
		Long: `Prints the value, as it is. It only looks, which is no use of the record: its age
and its place in the order stay, and stat counts neither hit nor miss.`,
		Example: `  flagstone get sessions alice
  flagstone get sessions --hex 00ff0a | od -c
  flagstone get pages --namespace en /index --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := how.parse(args[1])
			if err != nil {
				return err
			}
			return a.look(cmd.Context(), args[0], func(_ context.Context, c *flagstone.Cache) error {
				value, found, err := k.get(c)
				if err != nil {
					return err
				}
				return a.showGot(k, value, found)
			})
		},
	}
	how.addHash(cmd)
	return cmd
}

func (a *app) showGot(k key, value []byte, found bool) error {
	out := gotJSON{keyJSON: k.json(), Found: found}
	if found {
		out.Value = newBlob(value)
	}
	var err error
	if a.json {
		err = a.show(out, nil)
	} else if found {
		_, err = a.out.Write(value)
	}
	if err == nil && !found {
		err = negative(k.String() + " is not there")
	}
	return err
}
