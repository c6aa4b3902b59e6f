package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

type versionJSON struct {
	Version     string `json:"version"`
	Go          string `json:"go"`
	Platform    string `json:"platform"`
	Layout      string `json:"layout"`
	Fingerprint hex    `json:"fingerprint"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the versions of the command and of the layout", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versionJSON{
				Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
				Layout: fmt.Sprintf("%d.%d", layout.Major, layout.Minor), Fingerprint: layout.Fingerprint,
			}
			if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
				v.Version = info.Main.Version
			}
			return a.line(v, fmt.Sprintf("flagstone %s, layout %s (%v), %s %s", v.Version, v.Layout, v.Fingerprint, v.Go, v.Platform))
		},
	}
}
