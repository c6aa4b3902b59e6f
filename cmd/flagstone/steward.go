package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/table"
)

// stewardJSON is a line of steward: what it did, or met.
type stewardJSON struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	Slab  *slabJSON `json:"slab,omitempty"`
	Count int       `json:"count,omitempty"` // records moved or evicted
	Shard *int      `json:"shard,omitempty"` // of stolen, rebuilt and corrupt
	How   string    `json:"how,omitempty"`   // it heard of it
	Error string    `json:"error,omitempty"`

	Steward *holderJSON `json:"steward,omitempty"` // of waiting: who it is
}

func (a *app) stewardCommand() *cobra.Command {
	o := flagstone.Options{MustExist: true}
	var budget, tierSize size
	cmd := &cobra.Command{
		Use: "steward NAME", Short: "Be the cache's steward, in the foreground, until interrupted", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames,
		Long: `Offers this process as the cache's steward until it is interrupted. At most one
process is the steward; while another is, this one says so once (waiting), and waits
for that one to resign or die.

A steward removes what has expired, a little at a time, finishes what a dead one
began, and moves records down before the upper slabs are full. With --keep-for it
adds a slab where records would have to go that were used within that time, and
takes the last one away again when what is in it has room in the others or is hardly
asked for. With --evict-idle it evicts what was not used for that long.

It prints a line for each thing that it does: steward, grew, not grown, drained,
drain stopped, evicted, resigned; and for what it meets: slab added, slab gone,
unattached, stolen, rebuilt, corrupt. "flagstone watch" shows the processes too.`,
		Example: `  flagstone steward sessions --keep-for 1h --budget 4GiB --tier-size 1GiB
  flagstone steward pages --evict-idle 24h --evict-every 10m --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Steward.Budget, o.Steward.TierSize = uint64(budget), uint64(tierSize)
			return a.steward(cmd.Context(), args[0], o)
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&o.Steward.KeepFor, "keep-for", 0, "add a slab where records used within this time would have to go; 0 adds and takes away none")
	flags.Var(&budget, "budget", "bytes that all slabs but the first may take together (default: as many as the first one, with --keep-for)")
	flags.Var(&tierSize, "tier-size", "size of each slab added (default: that of the first one)")
	flags.Float64Var(&o.Steward.ShrinkBelow, "shrink-below", 1, "hits per second in the last slab that are too few to keep it for")
	flags.DurationVar(&o.Steward.EvictIdle, "evict-idle", 0, "evict what was not used for so long; 0 evicts nothing")
	flags.DurationVar(&o.Steward.EvictEvery, "evict-every", 0, "how often (default: a tenth of --evict-idle, at least 1s)")
	for _, name := range []string{"budget", "tier-size", "evict-every"} {
		flags.Lookup(name).DefValue = "0" // the text says it
	}
	return cmd
}

// steward leads until ctx ends, and prints events.
func (a *app) steward(ctx context.Context, name string, o flagstone.Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var printing sync.Mutex // guards the output, events may come from several goroutines, and led
	led := false
	say := func(out stewardJSON) {
		printing.Lock()
		defer printing.Unlock()
		if led = led || out.Event == flagstone.EventSteward.String(); led && out.Event == waiting {
			return // no more
		}
		if err := a.line(out, out.text()); err != nil {
			cancel(fmt.Errorf("print: %w", err)) // nobody reads
		}
	}
	o.OnEvent = func(e flagstone.Event) { say(newStewardLine(e)) }
	// A short handle may have left the limit of --timeout; this one stays.
	opening, opened := a.within(ctx)
	defer opened()
	a.name, o.Dir, o.Group = name, a.dir, a.group
	cache, err := flagstone.Open(opening, name, o)
	if err != nil {
		return err
	}
	looked := make(chan struct{})
	looking, found := context.WithCancel(ctx)
	go func() {
		defer close(looked)
		if other := otherSteward(looking, cache.Table()); other != nil {
			say(stewardJSON{Time: time.Now(), Event: waiting, Steward: other})
		}
	}()
	err = cache.Lead(ctx)
	found()
	<-looked
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return closing(cache, err)
}

// waiting is the event of a line that says who is the steward instead.
const waiting = "waiting"

// otherSteward waits for the first steward there is, and returns who it is if it is
// another handle.
func otherSteward(ctx context.Context, t *table.Table) *holderJSON {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the watch
	for e := range t.Watch(ctx) {
		switch {
		case e.Steward == nil:
		case e.Steward.Region == t.Self():
			return nil
		default:
			return newHolder(*e.Steward, t.Regions())
		}
	}
	return nil
}

func newStewardLine(e flagstone.Event) stewardJSON {
	out := stewardJSON{Time: time.Now(), Event: e.Kind.String(), Count: e.Count}
	switch e.Kind {
	case flagstone.EventStolen, flagstone.EventRebuilt, flagstone.EventCorrupt:
		out.Shard = &e.Shard
	}
	if e.SlabID != 0 {
		out.Slab = &slabJSON{e.Slab, e.Tier, hex(e.SlabID)}
	}
	if e.How != 0 {
		out.How = e.How.String()
	}
	if e.Err != nil {
		out.Error = e.Err.Error()
	}
	return out
}

func (s stewardJSON) text() string {
	if s.Steward != nil {
		return fmt.Sprintf("%s %s: region %d (pid %s) is the steward", s.Time.Local().Format("15:04:05.000"), s.Event, s.Steward.Region, holder(s.Steward.Pid))
	}
	text := fmt.Sprintf("%s %-13s", s.Time.Local().Format("15:04:05.000"), s.Event)
	if s.Slab != nil {
		text += fmt.Sprintf(" slab %s, tier %d, %v", plain(s.Slab.Name), s.Slab.Tier, s.Slab.Segment)
	}
	switch s.Event {
	case flagstone.EventDrained.String(), flagstone.EventDrainStopped.String():
		text += fmt.Sprintf(", %d records moved", s.Count)
	case flagstone.EventEvicted.String():
		text += fmt.Sprintf(" %d records", s.Count)
	}
	if s.Shard != nil {
		text += fmt.Sprintf(" shard %d", *s.Shard)
	}
	if s.How != "" {
		text += ", heard by " + s.How
	}
	if s.Error != "" {
		text += ": " + s.Error
	}
	return text
}
