package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone/table"
)

// gcJSON is what gc prints.
type gcJSON struct {
	DryRun bool            `json:"dry_run"`
	Bytes  uint64          `json:"bytes"` // that the garbage took of the file system
	Found  []collectedJSON `json:"found"`
}

// collectedJSON is a version of a cache, or something else that was garbage.
type collectedJSON struct {
	Name    string     `json:"name"`
	Path    string     `json:"path"`
	Why     string     `json:"why"`
	Bytes   uint64     `json:"bytes"`
	Used    *time.Time `json:"used,omitempty"` // of versions: when last, as far as that can be told
	Pids    []int      `json:"pids,omitempty"`
	Garbage bool       `json:"garbage"`
	Removed bool       `json:"removed"`
	Error   string     `json:"error,omitempty"`
}

func (a *app) gcCommand() *cobra.Command {
	var o table.CollectOptions
	cmd := &cobra.Command{
		Use: "gc [NAME...]", Short: "Remove what the dead have left, and what nobody uses",
		Long: `Removes, of the caches named or of all in the directory:

  - what was being made or destroyed by processes that died at it, files of slabs
    that no directory lists, and caches made before the machine's last boot;
  - caches of other layout versions, older or newer, that nobody has open;
  - with --unused also caches of this version that nobody has open. Processes come and
    go, so whoever opens one next may have wanted what is in it; --idle keeps what was
    used of late.

What a process has open stays, whatever its version, and is listed with the processes
that can be seen from here: not those of other users, unless this is root, nor those of
other containers. Processes may open caches meanwhile. Who only looks (exporters,
` + "`flagstone stat`" + `) does not count as using a cache.

Exit code 1: something was to be removed and could not be.`,
		Example: `  flagstone gc --dry-run
  flagstone gc --unused --idle 24h
  flagstone gc sessions --json | jq .bytes`,
		ValidArgsFunction: a.completeAllNames,
		RunE: func(_ *cobra.Command, args []string) error {
			if o.Idle < 0 {
				return usage{fmt.Errorf("--idle %v: need 0 or more", o.Idle)}
			}
			o.Dir, o.Names = a.dir, args
			all, err := table.Collect(o)
			if err != nil && len(all) == 0 {
				return err
			}
			out, failed := newGC(o, all)
			if err := a.show(out, out.print); err != nil {
				return err
			}
			if err == nil && failed > 0 {
				err = negative(fmt.Sprintf("%d could not be removed", failed))
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.Unused, "unused", false, "also remove caches of this version that nobody has open")
	flags.DurationVar(&o.Idle, "idle", 0, "keep caches that were used within this time, other versions as far as their files show it")
	flags.BoolVar(&o.DryRun, "dry-run", false, "only say what would be removed")
	return cmd
}

// newGC also counts what was to be removed and was not.
func newGC(o table.CollectOptions, all []table.Collected) (out gcJSON, failed int) {
	out = gcJSON{DryRun: o.DryRun, Found: []collectedJSON{}}
	for _, c := range all {
		f := collectedJSON{Name: c.Name, Path: c.Path, Why: c.Verdict.String(), Bytes: c.Bytes, Pids: c.Pids, Garbage: c.Garbage, Removed: c.Removed}
		if !c.Used.IsZero() {
			f.Used = &c.Used
		}
		if c.Err != nil {
			f.Error = c.Err.Error()
		}
		switch {
		case c.Removed, c.Garbage && o.DryRun:
			out.Bytes += c.Bytes
		case c.Garbage:
			failed++
		}
		out.Found = append(out.Found, f)
	}
	return out, failed
}

func (g gcJSON) print(w io.Writer) {
	if len(g.Found) == 0 {
		fmt.Fprintln(w, "nothing there")
		return
	}
	fmt.Fprintln(w, "ACTION\tPATH\tBYTES\tWHY")
	for _, f := range g.Found {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.action(g.DryRun), plain(f.Path), bytesText(f.Bytes), f.why())
	}
	verb := "freed"
	if g.DryRun {
		verb = "would free"
	}
	fmt.Fprintf(w, "%s %s\n", verb, bytesText(g.Bytes))
}

func (c collectedJSON) action(dry bool) string {
	switch {
	case c.Removed:
		return "removed"
	case c.Garbage && dry:
		return "would remove"
	case c.Garbage:
		return "failed"
	}
	return "kept"
}

// why is the reason with what explains it.
func (c collectedJSON) why() string {
	why := c.Why
	switch {
	case c.Error != "":
		why += ": " + c.Error
	case len(c.Pids) > 0:
		why += " by " + strings.Trim(fmt.Sprint(c.Pids), "[]")
	case !c.Garbage && c.Used != nil:
		why += ", last used " + clock(*c.Used)
	}
	return why
}

// completeAllNames completes names of caches of any version.
func (a *app) completeAllNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names, err := table.ListAll(a.dir)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
