package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/table"
)

// tierJSON is a slab of the cache: its shape, what is in it, and what came of it.
type tierJSON struct {
	slabJSON
	State     string  `json:"state"`
	FileSize  uint64  `json:"file_size"` // bytes
	Capacity  uint64  `json:"capacity"`  // records of one cell
	CellSize  uint32  `json:"cell_size"` // bytes
	MaxKey    uint32  `json:"max_key"`   // bytes
	MaxValue  uint32  `json:"max_value"` // bytes
	OnFull    string  `json:"on_full"`
	Order     string  `json:"order"`
	Records   uint64  `json:"records"`
	Cells     uint64  `json:"cells"` // in use
	AllCells  uint64  `json:"total_cells"`
	Bytes     uint64  `json:"bytes"`       // of keys and values
	Hits      uint64  `json:"hits"`        // by all handles in slabs of this tier number, as far as they are counted apart
	HitShare  float64 `json:"hit_share"`   // of all hits
	HitRatio  float64 `json:"hit_ratio"`   // of the lookups that came as far as this tier
	MovedIn   uint64  `json:"moved_in"`    // records
	MovedOut  uint64  `json:"moved_out"`   // records
	Expired   uint64  `json:"expired"`     // records removed as they had expired
	Evicted   uint64  `json:"evicted"`     // records, to make room
	AgeMean   uint64  `json:"age_mean_ms"` // of those, without use
	AgeLast   uint64  `json:"age_last_ms"`
	Oldest    int64   `json:"oldest_ms"` // without use, of the records in it that go next; 0: not known
	MappedBy  []int   `json:"mapped_by"` // regions
	NotMapped []int   `json:"not_mapped_by"`
}

// newTiers returns the slabs of a cache, and who of its processes has them.
func newTiers(c *flagstone.Cache, st flagstone.Stats) (out []tierJSON, err error) {
	all, err := c.TierStats()
	if err != nil && !errors.Is(err, flagstone.ErrUnattached) {
		return nil, err
	}
	below := st.Total.Hits + st.Total.Misses // lookups that came as far as the tier
	for _, t := range all {
		j := tierJSON{
			slabJSON: slabJSON{t.Name, t.Tier, hex(t.ID)}, State: strings.ToLower(t.State.String()),
			FileSize: t.FileSize, Capacity: t.Geometry.Capacity, CellSize: t.Geometry.CellSize,
			MaxKey: t.Geometry.MaxKey, MaxValue: t.Geometry.MaxValue, OnFull: policies[t.Geometry.OnFull], Order: orders[t.Geometry.Order],
			Records: t.Records, Cells: t.Cells, AllCells: t.TotalCells, Bytes: t.Bytes,
			Hits: t.HitsTotal, HitShare: ratio(t.HitsTotal, st.Total.Hits), HitRatio: ratio(t.HitsTotal, below),
			MovedIn: t.MovedIn, MovedOut: t.MovedOut, Expired: t.Expired, Evicted: t.EvictedFull, AgeMean: t.AgeMean, AgeLast: t.AgeLast,
			Oldest: millis(t.Oldest),
		}
		below -= min(below, t.HitsTotal)
		j.MappedBy, j.NotMapped = mappers(st, t.ID)
		out = append(out, j)
	}
	return out, nil
}

// mappers returns the regions that map a segment, and those of the living that do not.
func mappers(st flagstone.Stats, segment uint64) (mapped, not []int) {
	mapped, not = []int{}, []int{}
	for _, p := range st.Processes {
		switch {
		case slices.Contains(p.Mapped, segment):
			mapped = append(mapped, p.Index)
		case p.Alive:
			not = append(not, p.Index)
		}
	}
	return mapped, not
}

func (s statJSON) printTiers(w io.Writer) {
	fmt.Fprintf(w, "\nTIER\tSLAB\tSTATE\tSEGMENT\tSIZE\tCELL\tRECORDS\tCELLS USED\tHITS\tHIT RATE\tIN\tOUT\tEXPIRED\tEVICTED\tUNUSED, MEAN\tOF LATE\tOLDEST UNUSED FOR\tMAPPED BY\n")
	for _, t := range s.Tiers {
		mean, last, oldest := "-", "-", "-"
		if t.Oldest > 0 {
			oldest = (time.Duration(t.Oldest) * time.Millisecond).String()
		}
		if t.Evicted > 0 {
			mean, last = duration(t.AgeMean).String(), duration(t.AgeLast).String()
		}
		mapped := fmt.Sprint(len(t.MappedBy))
		if len(t.NotMapped) > 0 {
			mapped += fmt.Sprintf(", not by region %s", numbers(t.NotMapped))
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%d\t%.1f%%\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\n", t.Tier, plain(t.Name), t.State, t.Segment,
			bytesText(t.FileSize), t.CellSize, t.Records, percent(t.Cells, t.AllCells), t.Hits, 100*t.HitRatio,
			t.MovedIn, t.MovedOut, t.Expired, t.Evicted, mean, last, oldest, mapped)
	}
}

func numbers(all []int) string {
	var text []string
	for _, n := range all {
		text = append(text, fmt.Sprint(n))
	}
	return strings.Join(text, ",")
}

// holderJSON is a handle: its region in a generation.
type holderJSON struct {
	Region     int    `json:"region"`
	Generation uint32 `json:"generation"`
	Pid        uint32 `json:"pid,omitempty"` // 0: nobody has the region in that generation
}

func newHolder(h table.Holder, regions []table.Region) *holderJSON {
	out := &holderJSON{Region: h.Region, Generation: h.Generation}
	for _, r := range regions {
		if r.Index == h.Region && r.Generation == h.Generation {
			out.Pid = r.Pid
		}
	}
	return out
}

// mutexJSON is a mutex of the domain that somebody holds or waits for.
type mutexJSON struct {
	Mutex   uint32 `json:"mutex"`
	Slab    string `json:"slab,omitempty"` // whose mutex it is
	Segment *hex   `json:"segment,omitempty"`
	holderJSON
	Owned bool `json:"owned"` // else waited for
}

// newMutexes lists who holds or awaits which mutex. A slab's has the number of its
// directory entry.
func newMutexes(st flagstone.Stats, entries []table.Entry) []mutexJSON {
	out := []mutexJSON{}
	for _, p := range st.Processes {
		for _, h := range p.Held {
			m := mutexJSON{Mutex: h.ID, Owned: h.Owned, holderJSON: holderJSON{p.Index, p.Generation, p.Pid}}
			for _, e := range entries {
				if e.MutexID == h.ID && e.Kind == table.KindSlab && e.State.Published() {
					id := hex(e.SegmentID)
					m.Slab, m.Segment = e.Name, &id
				}
			}
			out = append(out, m)
		}
	}
	return out
}

func (s statJSON) printMutexes(w io.Writer) {
	if len(s.Mutexes) > 0 {
		fmt.Fprintf(w, "\nMUTEX\tOF SLAB\tREGION\tPID\tHELD\n")
	}
	for _, m := range s.Mutexes {
		held := "held"
		if !m.Owned {
			held = "awaited"
		}
		fmt.Fprintf(w, "%d\t%s\t%d\t%d\t%s\n", m.Mutex, orDash(m.Slab), m.Region, m.Pid, held)
	}
}
