//go:build wip

package main

import (
	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

func (a *app) planned() []*cobra.Command {
	return []*cobra.Command{a.moveCommand(), a.stewardCommand()}
}

// modest keeps a handle of one operation from being the steward meanwhile.
func modest(o flagstone.Options) flagstone.Options {
	o.Steward.Off = true
	return o
}
