package demo

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// failures tells must what the second act shows, and whether it held.
func (g *growth) failures(must func(held bool, format string, args ...any)) {
	must(uint64(g.Blocks) > g.FirstFit && g.FirstFit > 0, "%d blocks fit the first slab, which is for %d", g.Blocks, g.FirstFit)
	must(g.SlabSize > 0, "no slab was added")
	must(len(g.Readers) == len(ways), "%d of %d readers took part", len(g.Readers), len(ways))
	var below uint64
	for _, r := range g.Readers {
		must(r.Came != "", "reader %d (%s) did not hear of the new slab", r.Pid, r.Hears)
		must(r.Went != "", "reader %d (%s) did not hear that the slab is gone", r.Pid, r.Hears)
		if r.Tally == nil {
			must(false, "reader %d (%s) did not finish", r.Pid, r.Hears)
			continue
		}
		t := r.Tally
		must(t.Hits > 0, "reader %d (%s) found nothing", r.Pid, r.Hears)
		must(t.Misses == 0, "reader %d (%s) missed %d keys that were there, %s the first", r.Pid, r.Hears, t.Misses, t.First)
		must(t.Wrong == 0, "reader %d (%s) got %d wrong values, of %s the first", r.Pid, r.Hears, t.Wrong, t.First)
		must(t.Slowest < longestWait, "a lookup of reader %d (%s) took %v, the bound is %v", r.Pid, r.Hears, t.Slowest, longestWait)
		below += t.Below
	}
	must(below > 0, "nothing was found in the second slab")
	must(len(g.Stewards) == 2 && g.Stewards[0] != g.Stewards[1], "the stewards were %v, not one and another", g.Stewards)
	must(g.FileGone, "the drained slab's file is still there")
	must(g.BytesBefore-g.BytesAfter >= int64(g.SlabSize), "%d bytes given back, the slab had %d", g.BytesBefore-g.BytesAfter, g.SlabSize)
	must(g.Lost == 0, "%d blocks were lost", g.Lost)
	must(len(g.Problems) == 0, "the second act's cache is not sound: %q", g.Problems)
}

// print writes the story of the second act.
func (g *growth) print(out io.Writer) error {
	if g.Blocks == 0 {
		return nil
	}
	fmt.Fprintf(out, "\nSecond act: %d blocks, %s, into a cache whose first slab (%s) is for %d. With %.0f%% of its cells in use the steward added a slab of %s; %d records moved down to it, making room above.\n\n",
		g.Blocks, mib(g.Bytes), mib(g.FirstSize), g.FirstFit, 100*g.Filled, mib(g.SlabSize), g.Moved)
	t := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "reader\tlistens by\theard of the slab by\twithin\tof its end by\twithin\tlookups\tin the second slab\tmissed\twrong\tasked again\tslowest\t\n")
	for _, r := range g.Readers {
		n := tally{}
		if r.Tally != nil {
			n = *r.Tally
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%d us\t%s\t%d us\t%d\t%d\t%d\t%d\t%d\t%v\t\n", r.Pid, r.Hears, orNone(r.Came), r.After.Microseconds(),
			orNone(r.Went), r.WentAfter.Microseconds(), n.Hits+n.Misses+n.Wrong, n.Below, n.Misses, n.Wrong, n.Busy, round(n.Slowest))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(g.Stewards) == 2 {
		fmt.Fprintf(out, "\nThe load dropped to %d blocks. Steward %d was killed %v after it had begun to drain the slab, which was %s then, with %d records left in it; pid %d was the steward %v later.\n",
			g.Kept, g.Stewards[0], round(g.Reaction), g.State, g.Left, g.Stewards[1], round(g.Succession))
		fmt.Fprintf(out, "The slab was empty and gone %v after the drain began: its file is removed, and of %s of memory the cache has given %s back. %d blocks were lost; the cache has %d problems. %s in all.\n",
			round(g.Drain), mib(uint64(g.BytesBefore)), mib(uint64(g.BytesBefore-g.BytesAfter)), g.Lost, len(g.Problems), seconds(g.Took))
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
