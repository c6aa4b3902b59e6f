package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/replay"
	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/trace"
)

// replayJSON is what replay prints.
type replayJSON struct {
	Files    []string     `json:"files"`
	Format   trace.Format `json:"format"`
	Requests uint64       `json:"requests"`
	Unique   uint64       `json:"unique_keys"`
	Procs    int          `json:"procs"`
	Share    string       `json:"share"`
	Policy   string       `json:"policy"`
	Runs     []runJSON    `json:"runs"` // one per capacity
}

type runJSON struct {
	Asked         string       `json:"capacity_asked"`
	Capacity      uint64       `json:"capacity"` // records
	Room          uint64       `json:"room"`     // records that fit if they spread evenly
	Shape         shapeJSON    `json:"shape"`
	Requests      uint64       `json:"requests"`
	Hits          uint64       `json:"hits"`
	HitRatio      float64      `json:"hit_ratio"`
	Unsure        uint64       `json:"unsure"` // of the misses: lookups that gave up
	Evictions     uint64       `json:"evictions"`
	Records       uint64       `json:"records_at_end"`
	NsPerRequest  float64      `json:"ns_per_request"` // of one process, without reading the trace
	WallMillis    float64      `json:"wall_ms"`        // of all, with it
	RequestsPerS  float64      `json:"requests_per_second"`
	WorkerResults []workerJSON `json:"workers"`
}

type workerJSON struct {
	Requests     uint64  `json:"requests"`
	Hits         uint64  `json:"hits"`
	NsPerRequest float64 `json:"ns_per_request"`
}

// A record of the longest key and this has to fit one cell.
const maxValueSize = 512 << 10

// replayFlags are the options of replay.
type replayFlags struct {
	format     string
	procs      int
	capacities []string
	shape      replay.Shape
	share      string
	policy     order
	limit      uint64
	progress   bool
}

func (a *app) replayCommand() *cobra.Command {
	f := replayFlags{policy: order(flagstone.LRU)}
	cmd := &cobra.Command{
		Use: "replay FILE...", Short: "Replay request traces through a cache of its own, and measure", Args: cobra.MinimumNArgs(1),
		Long: `Replays traces, the files one after the other, through a temporary cache in --dir:
each request is a get, and on a miss a set. Traces are keys as little-endian 64-bit
words (u64) or one per line (lines; empty lines are left out), compressed where the
file's name ends in .gz. A format that is not given is guessed from the first file.

--procs processes share the cache. With --share interleaved request i is done by
process i modulo their number; with contiguous each does one piece of the trace, all
at the same time. They run freely and drift apart, so that the requests come in
another order and hit ratios are lower than with one process.

A cache has headroom beyond the capacity asked for, because hashing fills shards
unevenly, so that it may hold more records. With --shards 1 there is none; with
--exact the room of all shards together is the capacity, which makes hit ratios
comparable, though a shard may be full before the others.`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.replay(cmd.Context(), f, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "", "u64 or lines (default: guessed)")
	flags.IntVar(&f.procs, "procs", 1, "processes, 1 to 256")
	flags.StringSliceVar(&f.capacities, "capacity", nil, "records, or percent of the unique keys; several, as 1%,10%, are run in turn")
	flags.Var(&f.policy, "policy", "in which order the cache evicts: lru or s3fifo")
	flags.IntVar(&f.shape.Shards, "shards", 0, "shards of the cache (default: as many as cost little)")
	flags.BoolVar(&f.shape.Exact, "exact", false, "no headroom: room for as many records as the capacity says")
	flags.IntVar(&f.shape.Value, "value-size", 8, "bytes of each value")
	flags.StringVar(&f.share, "share", "interleaved", "how processes share the trace: interleaved or contiguous")
	flags.Uint64Var(&f.limit, "limit", 0, "replay the first so many requests only")
	flags.BoolVar(&f.progress, "progress", false, "report progress on stderr though it is no terminal")
	if err := cmd.MarkFlagRequired("capacity"); err != nil {
		panic(err) // no such flag
	}
	return cmd
}

// workerCommand is what replay starts its processes as.
func (a *app) workerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "replay-worker", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return replay.Work(cmd.Context(), a.in, a.out) },
	}
}

func (f replayFlags) check() ([]replay.Capacity, error) {
	switch {
	case f.procs < 1 || f.procs > 256:
		return nil, usage{fmt.Errorf("--procs %d: need 1 to 256", f.procs)}
	case f.share != "interleaved" && f.share != "contiguous":
		return nil, usage{fmt.Errorf("--share %q: need interleaved or contiguous", f.share)}
	case f.shape.Value < 0 || f.shape.Value > maxValueSize:
		return nil, usage{fmt.Errorf("--value-size %d: need 0 to %d", f.shape.Value, maxValueSize)}
	}
	var capacities []replay.Capacity
	for _, text := range f.capacities {
		c, err := replay.ParseCapacity(text)
		if err != nil {
			return nil, err
		}
		capacities = append(capacities, c)
	}
	return capacities, nil
}

func (a *app) replay(ctx context.Context, f replayFlags, files []string) error {
	capacities, err := f.check()
	if err != nil {
		return err
	}
	show := newProgress(a.errs, f.progress)
	defer show.end()
	input := replay.Input{Files: files, Format: trace.Format(f.format), Limit: f.limit}
	survey, err := input.Look(ctx, func(n uint64) { show.update("read %d requests", n) })
	if err != nil {
		return err
	}
	if survey.Requests == 0 {
		return fmt.Errorf("replay: no requests in %q", files)
	}
	input.Format = survey.Format
	out := replayJSON{files, survey.Format, survey.Requests, survey.Unique, f.procs, f.share, f.policy.String(), []runJSON{}}
	for _, c := range capacities {
		run, err := a.replayOnce(ctx, f, input, survey, c, show)
		if err != nil {
			return fmt.Errorf("replay at capacity %v: %w", c, err)
		}
		out.Runs = append(out.Runs, run)
	}
	show.end()
	return a.show(out, out.print)
}

func (a *app) replayOnce(ctx context.Context, f replayFlags, input replay.Input, survey replay.Survey, c replay.Capacity, show *progress) (out runJSON, err error) {
	capacity := c.Of(survey.Unique)
	f.shape.Order = flagstone.Order(f.policy)
	options, err := f.shape.Options(capacity, survey.Longest)
	if err != nil {
		return out, err
	}
	self, err := os.Executable()
	if err != nil {
		return out, err
	}
	result, err := replay.Run{
		Dir: a.dir, Input: input, Requests: survey.Requests, Contiguous: f.share == "contiguous",
		Options: options, ValueSize: f.shape.Value, Command: []string{self, "replay-worker"}, Procs: f.procs,
		Progress: func(n uint64) {
			show.update("capacity %v: replayed %s of %d requests", c, percent(n, survey.Requests), survey.Requests)
		},
	}.Do(ctx)
	if err != nil {
		return out, err
	}
	total, st := result.Total(), result.Stats
	out = runJSON{
		Asked: c.String(), Capacity: capacity, Room: replay.Room(st.Geometry), Shape: newShape(st, result.Table),
		Requests: total.Requests, Hits: total.Hits, HitRatio: ratio(total.Hits, total.Requests), Unsure: total.Unsure,
		Evictions: st.EvictedFull, Records: st.Records, NsPerRequest: ratio(total.Nanos, total.Requests),
		WallMillis: result.Wall.Seconds() * 1e3, RequestsPerS: float64(total.Requests) / result.Wall.Seconds(),
	}
	for _, w := range result.Workers {
		out.WorkerResults = append(out.WorkerResults, workerJSON{w.Requests, w.Hits, ratio(w.Nanos, w.Requests)})
	}
	return out, nil
}

func (r replayJSON) print(w io.Writer) {
	fmt.Fprintf(w, "requests\t%d, %s\n", r.Requests, r.Format)
	fmt.Fprintf(w, "unique keys\t%d\n", r.Unique)
	fmt.Fprintf(w, "processes\t%d, %s\n", r.Procs, r.Share)
	fmt.Fprintf(w, "policy\t%s\n", r.Policy)
	fmt.Fprintf(w, "\nCAPACITY\tRECORDS\tROOM\tAT END\tSHARDS\tHITS\tRATIO\tEVICTIONS\tNS/REQUEST\tWALL\tREQUESTS/S\n")
	for _, run := range r.Runs {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%.2f%%\t%d\t%.0f\t%.2f s\t%.0f\n", run.Asked, run.Capacity, run.Room, run.Records,
			run.Shape.Shards, run.Hits, 100*run.HitRatio, run.Evictions, run.NsPerRequest, run.WallMillis/1e3, run.RequestsPerS)
	}
}
