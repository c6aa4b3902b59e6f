package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/lock"
	"github.com/flagstone-shm/flagstone/table"
)

// statJSON is what stat prints.
type statJSON struct {
	Name      string        `json:"name"`
	Path      string        `json:"path"`
	UUID      string        `json:"uuid"`
	Versions  []string      `json:"other_versions,omitempty"` // in which there is a cache of that name
	Changes   uint64        `json:"changes"`
	Steward   *holderJSON   `json:"steward"` // null: there is none
	Shape     shapeJSON     `json:"shape"`   // of the first slab
	Tiers     []tierJSON    `json:"tiers"`
	Content   contentJSON   `json:"content"`
	Evictions evictionsJSON `json:"evictions"`
	Repairs   repairsJSON   `json:"repairs"`
	HitRatio  float64       `json:"hit_ratio"`
	Total     countersJSON  `json:"total"`
	Regions   []processJSON `json:"regions"`
	Keepers   []int         `json:"keepers"` // if a region is in quarantine: processes that may keep its lease
	Entries   []entryJSON   `json:"entries"`
	Locks     []lockJSON    `json:"locks"`   // shard locks held at this moment
	Mutexes   []mutexJSON   `json:"mutexes"` // held or awaited at this moment
}

// contentJSON is what is in all slabs, and what was written since they were made.
type contentJSON struct {
	Records       uint64  `json:"records"` // expired ones included
	Cells         uint64  `json:"cells"`
	TotalCells    uint64  `json:"total_cells"`
	FileSizes     uint64  `json:"file_sizes"` // bytes, of all slabs
	Bytes         uint64  `json:"bytes"`      // of keys and values
	BytesEach     float64 `json:"bytes_each"`
	OverflowInUse uint64  `json:"overflow_buckets"`
	Sets          uint64  `json:"sets"`
	Deletes       uint64  `json:"deletes"`
	Cleared       uint64  `json:"cleared"`
	Expired       uint64  `json:"expired"` // removed as they had expired
}

// evictionsJSON counts records by the reason for which they left; the ages, in
// milliseconds without use, are of those that made room.
type evictionsJSON struct {
	Full    uint64 `json:"full"`
	Cutoff  uint64 `json:"cutoff"`
	Tag     uint64 `json:"tag"`
	AgeMean uint64 `json:"age_mean_ms"`
	AgeLast uint64 `json:"age_last_ms"`
}

type repairsJSON struct {
	Steals   uint64 `json:"steals"`
	Rebuilds uint64 `json:"rebuilds"`
	Dropped  uint64 `json:"dropped"`
}

// countersJSON are flagstone.Counters.
type countersJSON struct {
	Hits       uint64                      `json:"hits"`
	Misses     uint64                      `json:"misses"`
	Sets       uint64                      `json:"sets"`
	Deletes    uint64                      `json:"deletes"`
	LockWaits  uint64                      `json:"lock_waits"`
	Steals     uint64                      `json:"steals"`
	Rebuilds   uint64                      `json:"rebuilds"`
	Loads      uint64                      `json:"loads"`
	LoadErrors uint64                      `json:"load_errors"`
	LoadWaits  uint64                      `json:"load_waits"`
	Stale      uint64                      `json:"stale"`
	Refused    uint64                      `json:"refused"`
	TierHits   [layout.TierCounters]uint64 `json:"tier_hits"`
}

type processJSON struct {
	regionJSON
	Behind   uint64       `json:"behind"` // changes that it has not seen
	Counters countersJSON `json:"counters"`
}

type lockJSON struct {
	Shard      int    `json:"shard"`
	Region     uint32 `json:"region"`
	Generation uint32 `json:"generation"`
	Pid        uint32 `json:"pid,omitempty"` // 0: nobody has the region in that generation
	Holder     string `json:"holder"`        // what is known of it: whether it runs, is stopped, or is gone
}

func (a *app) statCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stat NAME", Short: "Show slabs, content, evictions, repairs, processes and locks", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames,
		Long: `Shows how a cache was made, what is in it, why records left it, how often it had to
be repaired, its slabs in the order in which they are searched, who has it open and
did what, who is the steward, what the directory lists, which shards are locked and
who holds mutexes. A column of a shard has one lock for all slabs. ALIVE is "kept"
where a process is gone and a child that it forked without exec keeps its lease:
what it held is taken from it, but nobody gets its region before the child ends.

UNUSED is how long the records that made room had not been used, on average and of
late; OLDEST UNUSED FOR is how long that is now of those in the slab that go next.
The hit rate of a slab is that of the lookups that came as far as it. Hits are
counted by the number of the tier: earlier slabs of that number are included, and
from tier 7 on all are counted together.

The figures are of one moment and need not agree with each other. What is counted
by process is published about once a second. The command only looks, and is none of
the processes shown.`,
		Example: `  flagstone stat sessions
  flagstone stat sessions --json | jq .hit_ratio
  flagstone stat sessions --json | jq '.tiers[] | {name, records, hit_ratio}'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := a.stat(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(out, out.print)
		},
	}
}

func (a *app) stat(ctx context.Context, name string) (out statJSON, err error) {
	domain, err := a.inspect(name)
	if err != nil {
		return out, err
	}
	err = a.look(ctx, name, func(_ context.Context, c *flagstone.Cache) error {
		// Who is not destroyed still has the name: the cache, found later, is this domain's.
		err := domain.Usable()
		if err == nil {
			out, err = newStat(domain, c)
		}
		return err
	})
	out.Versions = a.otherVersions(name)
	return out, closing(domain, err)
}

func newStat(t *table.Reader, c *flagstone.Cache) (out statJSON, err error) {
	st, err := c.Stats()
	if err != nil {
		return out, err
	}
	tiers, err := newTiers(c, st)
	if err != nil {
		return out, err
	}
	holders, err := c.Holders()
	if err != nil {
		return out, err
	}
	entries := t.Entries()
	uuid := t.UUID()
	out = statJSON{
		Name: t.Name(), Path: t.Dir(), UUID: fmt.Sprintf("%016x%016x", uuid[0], uuid[1]), Changes: t.Changes(),
		Shape: newShape(st, t.Geometry()), Tiers: tiers,
		Content: contentJSON{
			Records: st.Records, Cells: st.Cells, TotalCells: st.TotalCells, Bytes: st.Bytes, BytesEach: ratio(st.Bytes, st.Records),
			OverflowInUse: st.Overflow, Sets: st.Sets, Deletes: st.Deletes, Cleared: st.Cleared, Expired: st.Expired,
		},
		Evictions: evictionsJSON{st.EvictedFull, st.EvictedCutoff, st.EvictedTag, st.AgeMean, st.AgeLast},
		Repairs:   repairsJSON{st.Steals, st.Rebuilds, st.Dropped},
		HitRatio:  ratio(st.Total.Hits, st.Total.Hits+st.Total.Misses), Total: countersJSON(st.Total),
		Regions: []processJSON{}, Keepers: []int{}, Entries: []entryJSON{}, Locks: []lockJSON{}, Mutexes: newMutexes(st, entries),
	}
	for _, tier := range tiers {
		out.Content.FileSizes += tier.FileSize
	}
	regions := []table.Region{}
	pids := map[[2]uint32]uint32{}
	for _, p := range st.Processes {
		pids[[2]uint32{uint32(p.Index), p.Generation}] = p.Pid
		regions = append(regions, p.Region)
		out.Regions = append(out.Regions, processJSON{newRegion(p.Region), behind(t, p.Region), countersJSON(p.Counters)})
		if p.Quarantined && len(out.Keepers) == 0 {
			out.Keepers, _ = t.Keepers() // those that may be looked into
		}
	}
	if steward, ok := t.Steward(); ok {
		out.Steward = newHolder(steward, regions)
	}
	for _, e := range entries {
		out.Entries = append(out.Entries, newEntry(e))
	}
	for _, h := range holders {
		out.Locks = append(out.Locks, lockJSON{h.Shard, h.Region, h.Generation, pids[[2]uint32{h.Region, h.Generation}], t.Describe(lock.Token(h.Region, h.Generation))})
	}
	return out, nil
}

func (s statJSON) print(w io.Writer) {
	fmt.Fprintf(w, "%s in %s\n", s.Name, s.Path)
	if len(s.Versions) > 0 {
		fmt.Fprintln(w, alsoIn(s.Versions))
	}
	if s.Steward == nil {
		fmt.Fprintf(w, "no steward\n")
	} else {
		fmt.Fprintf(w, "steward: process %s, region %d\n", holder(s.Steward.Pid), s.Steward.Region)
	}
	fmt.Fprintf(w, "\nMADE FOR\n")
	s.Shape.print(w)

	c := s.Content
	fmt.Fprintf(w, "\nCONTENT\n")
	fmt.Fprintf(w, "records\t%d in %d of %d cells (%s)\n", c.Records, c.Cells, c.TotalCells, percent(c.Cells, c.TotalCells))
	fmt.Fprintf(w, "bytes\t%s of keys and values, %.1f bytes a record, %s of the files\n", bytesText(c.Bytes), c.BytesEach, percent(c.Bytes, c.FileSizes))
	fmt.Fprintf(w, "since made\t%d sets, %d deletions, %d cleared, %d removed as expired\n", c.Sets, c.Deletes, c.Cleared, c.Expired)

	e := s.Evictions
	fmt.Fprintf(w, "evicted\t%d when full, %d by cutoff, %d by tag\n", e.Full, e.Cutoff, e.Tag)
	if e.Full > 0 {
		fmt.Fprintf(w, "unused when full\t%v on average, %v of late\n", duration(e.AgeMean), duration(e.AgeLast))
	}
	fmt.Fprintf(w, "repairs\t%d locks taken over, %d shards rebuilt, %d damaged records dropped\n", s.Repairs.Steals, s.Repairs.Rebuilds, s.Repairs.Dropped)

	s.printTiers(w)
	t := s.Total
	fmt.Fprintf(w, "\nALL PROCESSES\n")
	fmt.Fprintf(w, "lookups\t%d hits, %d misses (%s)\n", t.Hits, t.Misses, percent(t.Hits, t.Hits+t.Misses))
	fmt.Fprintf(w, "loads\t%d, %d of them failed, %d not stored; %d lookups waited, %d got a stale value\n", t.Loads, t.LoadErrors, t.Refused, t.LoadWaits, t.Stale)
	fmt.Fprintf(w, "locks\t%d waits, %d taken over\n", t.LockWaits, t.Steals)

	s.printRegions(w)
	fmt.Fprintf(w, "\nENTRY\tKIND\tNAME\tTIER\tSTATE\tDRAINS\tSEGMENT\tSTACK\tSIZE\tMUTEX\tCREATED\n")
	for _, e := range s.Entries {
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%d\t%s\t%s\t%s\t%d\t%s\n", e.Entry, e.kind(), plain(e.Name), e.Tier, e.State, e.Drains, e.Segment, e.stack(),
			bytesText(e.Size), e.Mutex, clock(e.Created))
	}
	if len(s.Locks) > 0 {
		fmt.Fprintf(w, "\nLOCKED SHARD\tREGION\tPID\tHOLDER\n")
	}
	for _, l := range s.Locks {
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\n", l.Shard, l.Region, holder(l.Pid), orDash(l.Holder))
	}
	s.printMutexes(w)
}

func (s statJSON) printRegions(w io.Writer) {
	if len(s.Regions) == 0 {
		return
	}
	fmt.Fprintf(w, "\nREGION\tPID\tALIVE\tHITS\tMISSES\tSETS\tDELETES\tLOADS\tWAITS\tSTEALS\tREBUILDS\n")
	for _, p := range s.Regions {
		n := p.Counters
		fmt.Fprintf(w, "%d\t%d\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", p.Region, p.Pid, p.alive(),
			n.Hits, n.Misses, n.Sets, n.Deletes, n.Loads, n.LockWaits, n.Steals, n.Rebuilds)
	}
	s.printQuarantine(w)
	fmt.Fprintf(w, "\nREGION\tJOINED\tUID\tWAKE\tFLAGS\tSEEN\tBEHIND\tHELD\tMAPPED\n")
	for _, p := range s.Regions {
		fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%#x\t%d of %d\t%d\t%s\t%d\n", p.Region, clock(p.Joined), p.UID, p.Wake, p.Flags, p.Acknowledged, s.Changes, p.Behind, p.held(), len(p.Mapped))
	}
}

// printQuarantine says why nobody gets the regions of some processes that are gone.
func (s statJSON) printQuarantine(w io.Writer) {
	for _, p := range s.Regions {
		if p.Quarantined {
			fmt.Fprintf(w, "region %d in quarantine: process %d is gone, and a child that it forked without exec keeps its lease until it ends; %s\n", p.Region, p.Pid, s.keepers())
		}
	}
}

// keepers names the processes that may keep leases of the gone, or says how to find out.
func (s statJSON) keepers() string {
	if len(s.Keepers) == 0 {
		return fmt.Sprintf("`fuser -v %s/control` shows, as root, who has it open", s.Path)
	}
	return "it may be " + strings.Trim(fmt.Sprint(s.Keepers), "[]")
}

// behind returns how many changes a living handle has not seen.
func behind(t *table.Reader, r table.Region) uint64 {
	now := t.Changes()
	if !r.Alive {
		return 0
	}
	return now - min(r.Acknowledged, now)
}

func duration(ms uint64) time.Duration { return time.Duration(ms) * time.Millisecond }

func holder(pid uint32) string {
	if pid == 0 {
		return "gone"
	}
	return fmt.Sprint(pid)
}
