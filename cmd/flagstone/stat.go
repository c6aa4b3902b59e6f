package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

// statJSON is what stat prints. Regions leaves out the command's own.
type statJSON struct {
	Name     string       `json:"name"`
	Path     string       `json:"path"`
	UUID     string       `json:"uuid"`
	Changes  uint64       `json:"changes"`
	Shape    shapeJSON    `json:"shape"`
	Content  contentJSON  `json:"content"`
	Hits     uint64       `json:"hits"` // of the open handles
	Misses   uint64       `json:"misses"`
	HitRatio float64      `json:"hit_ratio"`
	Regions  []regionJSON `json:"regions"`
	Entries  []entryJSON  `json:"entries"`
	Locks    []lockJSON   `json:"locks"` // shard locks held at this moment
}

// contentJSON is counted in the cache itself since it was made.
type contentJSON struct {
	Records       uint64 `json:"records"`
	Cells         uint64 `json:"cells"`
	TotalCells    uint64 `json:"total_cells"`
	Bytes         uint64 `json:"bytes"`
	Sets          uint64 `json:"sets"`
	Deletes       uint64 `json:"deletes"`
	EvictedFull   uint64 `json:"evicted_full"`
	EvictedCutoff uint64 `json:"evicted_cutoff"`
	Rebuilds      uint64 `json:"rebuilds"`
	Steals        uint64 `json:"steals"`
	Dropped       uint64 `json:"dropped"`
}

type lockJSON struct {
	Shard      int    `json:"shard"`
	Region     uint32 `json:"region"`
	Generation uint32 `json:"generation"`
	Pid        uint32 `json:"pid,omitempty"` // 0: nobody has the region in that generation
}

func (a *app) statCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stat NAME", Short: "Show shape, content, processes and locks", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames,
		Long: `Shows how a cache was made, what is in it, who has it open, what its directory lists
and which shards are locked. The figures are of one moment and need not agree with
each other. Processes in use publish their hits and misses about once a second.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.use(cmd.Context(), args[0], func(_ context.Context, c *flagstone.Cache) error {
				out, err := newStat(c)
				if err != nil {
					return err
				}
				return a.show(out, out.print)
			})
		},
	}
}

func newStat(c *flagstone.Cache) (out statJSON, err error) {
	st, err := c.Stats()
	if err != nil {
		return out, err
	}
	holders, err := c.Holders()
	if err != nil {
		return out, err
	}
	t := c.Table()
	uuid := t.UUID()
	out = statJSON{
		Name: t.Name(), Path: t.Dir(), UUID: fmt.Sprintf("%016x%016x", uuid[0], uuid[1]), Changes: t.Changes(),
		Shape: newShape(st, t.Geometry()),
		Content: contentJSON{
			st.Records, st.Cells, st.TotalCells, st.Bytes, st.Sets, st.Deletes,
			st.EvictedFull, st.EvictedCutoff, st.Rebuilds, st.Steals, st.Dropped,
		},
		Regions: []regionJSON{}, Entries: []entryJSON{}, Locks: []lockJSON{},
	}
	pids := map[[2]uint32]uint32{}
	for _, r := range t.Regions() {
		pids[[2]uint32{uint32(r.Index), r.Generation}] = r.Pid
		if !r.Self {
			out.Regions = append(out.Regions, newRegion(r))
			out.Hits += out.Regions[len(out.Regions)-1].Hits
			out.Misses += out.Regions[len(out.Regions)-1].Misses
		}
	}
	out.HitRatio = ratio(out.Hits, out.Hits+out.Misses)
	for _, e := range t.Entries() {
		out.Entries = append(out.Entries, newEntry(e))
	}
	for _, h := range holders {
		out.Locks = append(out.Locks, lockJSON{h.Shard, h.Region, h.Generation, pids[[2]uint32{h.Region, h.Generation}]})
	}
	return out, nil
}

func (s statJSON) print(w io.Writer) {
	fmt.Fprintf(w, "%s in %s\n", s.Name, s.Path)
	s.Shape.print(w)
	c := s.Content
	fmt.Fprintf(w, "records\t%d in %d of %d cells (%s), %s of keys and values\n", c.Records, c.Cells, c.TotalCells, percent(c.Cells, c.TotalCells), bytesText(c.Bytes))
	fmt.Fprintf(w, "since made\t%d sets, %d deletions, %d evicted when full, %d by cutoff\n", c.Sets, c.Deletes, c.EvictedFull, c.EvictedCutoff)
	fmt.Fprintf(w, "repairs\t%d locks taken over, %d shards rebuilt, %d records dropped\n", c.Steals, c.Rebuilds, c.Dropped)
	fmt.Fprintf(w, "lookups\t%d hits, %d misses (%s) of the open handles\n", s.Hits, s.Misses, percent(s.Hits, s.Hits+s.Misses))
	fmt.Fprintf(w, "changes\t%d\n", s.Changes)

	fmt.Fprintf(w, "\nREGION\tPID\tALIVE\tJOINED\tWAKE\tFLAGS\tSEEN\tHELD\tMAPPED\tHITS\tMISSES\tWAITS\tSTEALS\n")
	for _, r := range s.Regions {
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\t%#x\t%d\t%s\t%d\t%d\t%d\t%d\t%d\n", r.Region, r.Pid, yesNo(r.Alive), clock(r.Joined),
			r.Wake, r.Flags, r.Acknowledged, r.held(), len(r.Mapped), r.Hits, r.Misses, r.LockWaits, r.Steals)
	}
	fmt.Fprintf(w, "\nENTRY\tKIND\tNAME\tTIER\tSTATE\tSEGMENT\tSIZE\tMUTEX\tCREATED\n")
	for _, e := range s.Entries {
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\n", e.Entry, e.kind(), plain(e.Name), e.Tier, e.State, e.Segment,
			bytesText(e.Size), e.Mutex, clock(e.Created))
	}
	if len(s.Locks) > 0 {
		fmt.Fprintf(w, "\nLOCKED SHARD\tREGION\tPID\n")
	}
	for _, l := range s.Locks {
		fmt.Fprintf(w, "%d\t%d\t%s\n", l.Shard, l.Region, holder(l.Pid))
	}
}

func holder(pid uint32) string {
	if pid == 0 {
		return "gone"
	}
	return fmt.Sprint(pid)
}
