//go:build !wip

package main

import (
	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

// planned are the commands whose calls of the library are not merged yet.
func (a *app) planned() []*cobra.Command { return nil }

// modest keeps a handle of one operation from being the steward meanwhile.
func modest(o flagstone.Options) flagstone.Options { return o }
