package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/dump"
)

// sectionJSON is what dump prints, a line for each struct.
type sectionJSON struct {
	Name   string      `json:"name"`
	Struct string      `json:"struct"`
	Offset uint64      `json:"offset"` // in the file
	Fields []fieldJSON `json:"fields"`
}

type fieldJSON struct {
	Offset uint64 `json:"offset"` // in the struct
	Name   string `json:"name"`
	Value  *hex   `json:"value,omitempty"` // unless it is not a word
	Means  string `json:"means"`
	Bytes  string `json:"bytes,omitempty"` // with --hex, as they stand in the file
	Doc    string `json:"doc,omitempty"`   // at the first struct of a kind
}

func (a *app) dumpCommand() *cobra.Command {
	var o dump.Options
	cmd := &cobra.Command{
		Use: "dump NAME [control|primary|SLAB|SEGMENT]", Short: "Show a cache's files field by field", Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeNames,
		Long: `Shows the control segment, the slab of that name, or that with that id, field by
field: offset, name, value, what it means and, at the first struct of a kind, what
the field is for. See spec/PROTOCOL.md for the whole.

Without a choice: the header and what is in use of the tables, or the heads of the
shards. A RANGE chooses structs by number: 7, or 7..20, or all, which leaves out
what is empty; then only what was chosen is shown, of buckets and cells those in
the shards chosen.

The files are only read, and need not be sound: this command takes no part in the
cache and locks nothing, so that words of one moment stand beside those of
another. If a header is refused it is shown, and the exit code is 3.`,
		Example: `  flagstone dump sessions                        # header, entries, regions
  flagstone dump sessions control --regions 3 --hex
  flagstone dump sessions primary                # header and heads of the shards
  flagstone dump sessions primary --shards 0 --cells 1..20
  flagstone dump sessions primary --cells all --json | jq .fields[].means`,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.name = args[0]
			segment := "control"
			if len(args) > 1 {
				segment = args[1]
			}
			out := bufio.NewWriter(a.out)
			a.out = out
			path, err := dump.Find(a.dir, a.name, segment)
			if err == nil {
				err = dump.Run(path, o, func(s dump.Section) error {
					if err := cmd.Context().Err(); err != nil {
						return err
					}
					return a.showSection(s)
				})
			}
			err = errors.Join(err, out.Flush())
			if errors.Is(err, dump.ErrRange) || errors.Is(err, dump.ErrSegment) {
				err = usage{err}
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.Hex, "hex", false, "show the bytes too")
	flags.Var(&o.Mutexes, "mutexes", "mutexes of the control segment")
	flags.Var(&o.Entries, "entries", "directory entries")
	flags.Var(&o.Regions, "regions", "regions, of open handles")
	flags.Var(&o.Shards, "shards", "shards of a slab")
	flags.Var(&o.Buckets, "buckets", "index buckets, from 0 on")
	flags.Var(&o.Overflow, "overflow", "overflow buckets, from 1 on")
	flags.Var(&o.Cells, "cells", "cells, from 1 on")
	return cmd
}

// showSection prints a struct at once, as a slab may have millions of them.
func (a *app) showSection(s dump.Section) error {
	if a.json {
		out := sectionJSON{Name: s.Name, Struct: s.Struct, Offset: s.Offset, Fields: []fieldJSON{}}
		for _, f := range s.Fields {
			out.Fields = append(out.Fields, fieldJSON{f.Offset, f.Name, (*hex)(f.Value), f.Means, spaced(f.Bytes), f.Doc})
		}
		return a.line(out, "")
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "%s: %s at %#x\n", s.Name, s.Struct, s.Offset)
	for _, f := range s.Fields {
		printField(w, f)
	}
	fmt.Fprintln(w)
	return w.Flush()
}

func printField(w io.Writer, f dump.Field) {
	value := ""
	if f.Value != nil {
		value = fmt.Sprintf("%#x", *f.Value)
	}
	fmt.Fprintf(w, "  %d\t%s\t%s\t%s", f.Offset, f.Name, value, f.Means)
	if len(f.Bytes) > 0 {
		fmt.Fprintf(w, "\t[%s]", spaced(f.Bytes))
	}
	if f.Doc != "" {
		fmt.Fprintf(w, "\t# %s", f.Doc)
	}
	fmt.Fprintln(w)
}

func spaced(b []byte) string { return fmt.Sprintf("% x", b) }
