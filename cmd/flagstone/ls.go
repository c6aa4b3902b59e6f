package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/table"
)

// listedJSON is one cache of ls. With Error set nothing else is known.
type listedJSON struct {
	Name      string `json:"name"`
	Processes int    `json:"processes"` // open handles of the living
	Records   uint64 `json:"records"`
	Capacity  uint64 `json:"capacity"`
	Bytes     uint64 `json:"bytes"` // of keys and values
	Slabs     int    `json:"slabs"` // of which the other figures are sums
	FileSize  uint64 `json:"file_size"`
	Kept      int    `json:"quarantined"` // regions of the gone whose leases children keep
	// Versions are other layout versions in which there is a cache of that name.
	Versions []string `json:"other_versions,omitempty"`
	Error    string   `json:"error,omitempty"`
}

func (a *app) lsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the caches", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := table.ListAll(a.dir)
			if err != nil {
				return err
			}
			all := make([]listedJSON, 0, len(names))
			for _, name := range names {
				all = append(all, a.listed(cmd.Context(), name))
			}
			return a.show(all, func(w io.Writer) {
				fmt.Fprintln(w, "NAME\tPROCESSES\tRECORDS\tCAPACITY\tBYTES\tSLABS\tFILE SIZE")
				for _, l := range all {
					if l.Error != "" {
						fmt.Fprintf(w, "%s\t-\t-\t-\t-\t-\t-\t%s\n", l.Name, l.Error)
						continue
					}
					var notes []string
					if l.Kept > 0 {
						notes = append(notes, fmt.Sprintf("in quarantine: %d, see stat", l.Kept))
					}
					if len(l.Versions) > 0 {
						notes = append(notes, alsoIn(l.Versions))
					}
					fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%d\t%s\t%s\n", l.Name, l.Processes, l.Records, l.Capacity, bytesText(l.Bytes), l.Slabs, bytesText(l.FileSize), strings.Join(notes, "; "))
				}
			})
		},
	}
}

func (a *app) listed(ctx context.Context, name string) (out listedJSON) {
	err := a.look(ctx, name, func(_ context.Context, c *flagstone.Cache) error {
		st, err := c.Stats()
		if err != nil {
			return err
		}
		tiers, err := c.TierStats()
		out = newListed(name, st, tiers)
		return err
	})
	others := a.otherVersions(name)
	switch {
	case errors.Is(err, flagstone.ErrNotFound) && len(others) > 0:
		out = listedJSON{Name: name, Error: alsoIn(others)}
	case err != nil:
		out = listedJSON{Name: name, Error: err.Error()}
	}
	out.Versions = others
	return out
}

// otherVersions returns the layout versions in which there is a cache of the name, but
// this one's; none if that cannot be told.
func (a *app) otherVersions(name string) []string {
	versions, _ := table.OtherVersions(a.dir, name)
	return versions
}

func alsoIn(versions []string) string {
	return fmt.Sprintf("another one in layout %s, this is v%d", strings.Join(versions, ", "), layout.Major)
}

// alive counts the open handles of living processes.
func alive(st flagstone.Stats) (n int) {
	for _, p := range st.Processes {
		if p.Alive {
			n++
		}
	}
	return n
}

func newListed(name string, st flagstone.Stats, tiers []flagstone.TierStats) listedJSON {
	out := listedJSON{Name: name, Processes: alive(st), Slabs: len(tiers)}
	for _, p := range st.Processes {
		if p.Quarantined {
			out.Kept++
		}
	}
	for _, t := range tiers {
		out.Records += t.Records
		out.Capacity += t.Geometry.Capacity
		out.Bytes += t.Bytes
		out.FileSize += t.FileSize
	}
	return out
}
